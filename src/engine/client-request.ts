import type { ClientRequest, IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import type { BackendRequest, BackendResponse } from '../proxy/engine.ts';
import { fieldsFromRaw } from '../proxy/headers.ts';
import { ProxyError, type ProxyErrorCode } from '../proxy/proxy-error.ts';
import { isSendable, parseResponseHead } from './response-head.ts';
import { joinTunnel } from './tunnel.ts';

/**
 * Sees one node:http request through to the head of its answer: sends the body when the connection stands, keeps the
 * time of every phase, and says what went wrong in the proxy's words. The head must be set in `outgoing`.
 * `onStale` is told when a kept connection turned out to be dead.
 */
export function attend(outgoing: ClientRequest, request: BackendRequest, onStale: () => void = () => {}): Promise<BackendResponse> {
  const { timeouts, signal, backend, body } = request;
  let connected = false;
  let answered = false;
  let sent = false;
  let timer: NodeJS.Timeout | undefined;

  function failure(code: ProxyErrorCode, message: string, setting?: string, cause?: string): ProxyError {
    return new ProxyError(code, message, { backend: backend.name, setting, cause });
  }

  function limit(ms: number, code: ProxyErrorCode, message: string, setting: string): void {
    clearTimeout(timer);
    timer = setTimeout(() => outgoing.destroy(failure(code, message, setting)), ms);
  }

  function awaitBackend(): void {
    clearTimeout(timer);
    if (!answered || !sent) limit(timeouts.responseHeader, 'backend_timeout', 'the backend did not answer or read on in time', 'timeouts.response_header');
  }

  function awaitClient(): void {
    limit(timeouts.requestBody, 'client_body_timeout', 'the client stopped sending its request body', 'timeouts.request_body');
  }

  function explain(error: NodeJS.ErrnoException): ProxyError {
    if (error instanceof ProxyError) return error;
    const cause = error.code ?? error.message;
    if (signal.aborted) return failure('client_gone', 'the client went away');
    if (!connected) return failure('backend_unreachable', 'no connection to the backend', 'virtual_hosts[].routes[].backends', cause);
    if (error.code?.startsWith('HPE_')) return failure('backend_bad_response', "the backend's answer is malformed", undefined, cause);
    if (!outgoing.reusedSocket) return failure('backend_closed', 'the backend closed the connection without an answer', undefined, cause);
    onStale();
    return failure('backend_stale', 'a kept connection to the backend was dead', undefined, cause);
  }

  function onData(chunk: Buffer): void {
    if (outgoing.write(chunk)) return awaitClient();
    body.pause();
    awaitBackend();
  }

  function onDrain(): void {
    awaitClient();
    body.resume();
  }

  function onEnd(): void {
    sent = true;
    outgoing.end();
    awaitBackend();
  }

  function sendBody(): void {
    connected = true;
    if (request.framing === 'none') return onEnd();
    // Sends the head before the body comes; flushHeaders() would turn bytes beyond ASCII into UTF-8.
    outgoing.write(Buffer.alloc(0));
    if (request.expectContinue) awaitBackend();
    else awaitClient();
    outgoing.on('drain', onDrain);
    body.on('data', onData);
    body.once('end', onEnd);
  }

  /** The client's stream outlives this attempt: what is left of it is the proxy's to drain. */
  function letGo(): void {
    clearTimeout(timer);
    signal.removeEventListener('abort', abort);
    body.off('data', onData);
    body.off('end', onEnd);
  }

  function abort(): void {
    outgoing.destroy();
  }

  function answer(response: IncomingMessage, switching: boolean): BackendResponse {
    const { reason, fields } = parseResponseHead(response.httpVersion, response.statusCode ?? 0, response.statusMessage ?? '', response.rawHeaders, switching);
    answered = true;
    if (sent) clearTimeout(timer);
    return { status: response.statusCode ?? 0, reason, fields, body: response, trailers: () => fieldsFromRaw(response.rawTrailers).filter(isSendable) };
  }

  /** An error of the head's checker, which does not know whose head it read. */
  function located(error: unknown): unknown {
    return error instanceof ProxyError ? failure(error.code, error.message, undefined, String(error.facts['cause'] ?? '')) : error;
  }

  return new Promise((resolve, reject) => {
    limit(timeouts.connect, 'backend_connect_timeout', 'the backend did not accept the connection in time', 'timeouts.connect');
    signal.addEventListener('abort', abort);
    outgoing.on('error', (error) => reject(explain(error)));
    outgoing.once('close', letGo);
    outgoing.once('socket', (socket) => (socket.connecting ? socket.once('connect', sendBody) : sendBody()));
    outgoing.on('continue', () => {
      if (!sent && request.expectContinue) awaitClient();
    });
    outgoing.on('information', (info) => request.onInformation(info.statusCode, fieldsFromRaw(info.rawHeaders).filter(isSendable)));

    outgoing.once('response', (response) => {
      try {
        resolve(answer(response, false));
      } catch (error) {
        reject(located(error));
        outgoing.destroy();
      }
    });
    outgoing.once('upgrade', (response: IncomingMessage, socket: Duplex, head: Buffer) => {
      socket.on('error', () => socket.destroy());
      try {
        if (!request.upgrade || response.headers.upgrade?.toLowerCase() !== 'websocket') {
          throw failure('backend_bad_response', 'the backend switched to a protocol that was not asked for');
        }
        const switched = answer(response, true);
        if (head.length > 0) socket.unshift(head);
        resolve({ ...switched, tunnel: { join: (client, idle) => joinTunnel(client, socket, idle) } });
      } catch (error) {
        socket.destroy();
        reject(located(error));
      }
    });
    if (signal.aborted) abort();
  });
}
