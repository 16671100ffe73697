import type { ClientRequest, IncomingHttpHeaders, IncomingMessage } from 'node:http';
import { proxyFor } from './forward-proxy.ts';
import { retryAfter } from './http-freshness.ts';
import { request, requestThrough } from './http-request.ts';
import { isRefusedAddress, refusedAddressCode } from './responder-address.ts';
import { ResponderError } from './responder-error.ts';

export type Method = 'GET' | 'POST';

export interface HttpAnswer {
  headers: IncomingHttpHeaders;
  body: Buffer;
}

export interface Exchange {
  /** The responder in error messages. */
  name: string;
  target: URL;
  method: Method;
  /** Sent with POST. */
  body: Buffer;
  /** Bytes. */
  maxSize: number;
  /** Also addresses that a certificate may not send us to. */
  anyAddress: boolean;
  /** ocsp.http_proxy */
  proxy: string | undefined;
  signal: AbortSignal;
  now: () => number;
}

/** 303 would turn a POST into a GET of something else. */
const redirectStatus = new Set([301, 302, 307, 308]);

/**
 * One HTTP request, directly or through a proxy; resolves with a complete 200 answer, or with where a redirect leads.
 *
 * @throws ResponderError, or the reason of `signal`
 */
export async function exchange({ name, target, method, body, maxSize, anyAddress, proxy: setting, signal, now }: Exchange): Promise<HttpAnswer | URL> {
  const refusedAddress = () =>
    new ResponderError('responder_refused_address', name, 'leads to a link-local or metadata address; name it in ocsp.responder if that is meant');
  if (!anyAddress && isRefusedAddress(target.hostname)) throw refusedAddress();
  const proxy = proxyFor(target, setting, process.env);
  const fault = (error: Error & { code?: string }): Error => {
    if (signal.aborted) return signal.reason as Error;
    if (error instanceof ResponderError) return error;
    if (error.code === refusedAddressCode) return refusedAddress();
    return new ResponderError('responder_unreachable', name, `gave no complete answer${proxy ? ` through the proxy ${proxy.name}` : ''}: ${reason(error)}`);
  };
  const proxyRefused = (status: number, { headers }: IncomingMessage) =>
    new ResponderError(
      'responder_proxy',
      name,
      `cannot be asked: the proxy ${proxy?.name} answered HTTP ${status} (ocsp.http_proxy)`,
      retryAfter(headers, now()),
    );
  const headers = {
    host: target.host,
    accept: 'application/ocsp-response',
    'user-agent': 'staplegate',
    ...(method === 'POST' && { 'content-type': 'application/ocsp-request', 'content-length': body.length }),
  };
  let outgoing: ClientRequest;
  try {
    const options = { method, headers, signal };
    outgoing = proxy === undefined ? request(target, options, anyAddress) : await requestThrough(proxy, target, options, proxyRefused);
  } catch (error) {
    throw fault(error as Error);
  }
  const { promise, resolve, reject } = Promise.withResolvers<HttpAnswer | URL>();
  const fail = (error: Error): void => reject(fault(error));
  const stop = (error: ResponderError): void => {
    fail(error);
    outgoing.destroy();
  };
  const closed = (): void => fail(new Error('connection closed'));
  outgoing.on('error', fail);
  outgoing.on('close', closed);
  outgoing.on('response', (response) => {
    const { statusCode = 0, headers } = response;
    response.on('error', fail);
    if (redirectStatus.has(statusCode) && headers.location !== undefined) {
      const next = URL.parse(headers.location, target.href);
      if (next?.protocol !== 'http:' && next?.protocol !== 'https:')
        return stop(new ResponderError('responder_redirect', name, 'redirects to something other than http and https'));
      // They would be the responder's to give away, and ours to write into the log (RFC 9110, section 4.2.4).
      next.username = next.password = '';
      resolve(next);
      return outgoing.destroy();
    }
    if (statusCode === 407) return stop(proxyRefused(statusCode, response));
    if (statusCode !== 200) return stop(new ResponderError('responder_http_status', name, `answered HTTP ${statusCode}`, retryAfter(headers, now())));
    const chunks: Buffer[] = [];
    let size = 0;
    response.on('data', (chunk: Buffer) => {
      size += chunk.length;
      if (size > maxSize) stop(new ResponderError('response_too_large', name, `sends more than ${maxSize} bytes (ocsp.max_response_size)`));
      else chunks.push(chunk);
    });
    response.on('end', () => {
      if (!response.complete) return;
      outgoing.off('close', closed);
      resolve({ headers, body: Buffer.concat(chunks) });
    });
  });
  outgoing.end(method === 'POST' ? body : undefined);
  return promise;
}

function reason(error: Error & { code?: string }): string {
  // Several addresses tried: the errors of each are inside.
  const inner = error instanceof AggregateError ? (error.errors as Error[]).map(({ message }) => message).join(', ') : error.message;
  return inner || error.code || 'unknown error';
}
