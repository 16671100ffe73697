import type { ClientRequest, IncomingMessage, InformationEvent } from 'node:http';
import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import type { BackendAddress } from '../config/values.ts';
import { contained, tellLast } from '../proxy/contained.ts';
import type { BackendRequest, BackendStream, Recipient } from '../proxy/engine.ts';
import { fieldsFromRaw } from '../proxy/headers.ts';
import { ProxyError, type ProxyErrorCode } from '../proxy/proxy-error.ts';
import { MAX_FIELDS } from '../proxy/request-head.ts';
import { connectFailure, connectTimeout, lossFacts } from './backend-socket.ts';
import { failedWrite, isEndOfReset, readsOnAfterFailedWrite } from './early-answer.ts';
import { isSendable, parseResponseHead, type ResponseHead } from './response-head.ts';
import { joinTunnel } from './tunnel.ts';

/** One node:http request, seen through to the end of its answer. The head must be set in `outgoing`. */
export class ClientRequestStream implements BackendStream {
  /** Never at once: Node assigns a socket in the next tick. */
  readonly isConnected = false;
  readonly #outgoing: ClientRequest;
  readonly #backend: BackendAddress;
  readonly #request: BackendRequest;
  #recipient: Recipient | undefined;
  #response: IncomingMessage | undefined;
  /** The backend has accepted the connection; the handshake, if any, may be under way. */
  #isAccepted = false;
  #connected = false;
  /** What the connection had read when it was taken for this request. */
  #bytesBefore = 0;
  #connectTimer: NodeJS.Timeout | undefined;

  /** `onStale` is told when a kept connection turned out to be dead. */
  constructor(outgoing: ClientRequest, backend: BackendAddress, request: BackendRequest, recipient: Recipient, onStale: () => void = () => {}) {
    this.#outgoing = outgoing;
    this.#backend = backend;
    this.#request = request;
    this.#recipient = recipient;
    this.#connectTimer = setTimeout(() => this.#give(connectTimeout(backend)), request.timeouts.connect);
    const on = contained(outgoing, this.#fault);
    on('socket', (socket: Socket) => {
      this.#bytesBefore = socket.bytesRead;
      if (outgoing.reusedSocket) return this.#connect();
      if (!request.upgrade) readsOnAfterFailedWrite(socket);
      const onSocket = contained(socket, this.#fault);
      onSocket('connect', () => (this.#isAccepted = true));
      onSocket(socket instanceof TLSSocket ? 'secureConnect' : 'connect', () => this.#connect());
    });
    on('drain', () => this.#recipient?.drained());
    on('information', (info: InformationEvent) => this.#recipient?.informed(info.statusCode, fieldsFromRaw(info.rawHeaders).filter(isSendable)));
    on('response', (response: IncomingMessage) => this.#answer(response));
    on('upgrade', (response: IncomingMessage, socket: Socket, head: Buffer) => this.#switch(response, socket, head));
    on('error', (error: NodeJS.ErrnoException) => this.#explain(error, onStale));
    on('close', () => clearTimeout(this.#connectTimer));
  }

  /** An error of ours: it ends this request. */
  readonly #fault = (error: Error): void => {
    const recipient = this.#recipient;
    this.abort();
    recipient?.fault(error);
  };

  write(piece: Buffer): boolean {
    return this.#outgoing.write(piece);
  }

  flush(): void {}

  /** Trailers end here: nobody knows whether the backend wants them (RFC 9110, 6.5.1). */
  end(): void {
    this.#outgoing.end();
  }

  pause(): void {
    this.#response?.pause();
  }

  resume(): void {
    this.#response?.resume();
  }

  abort(): void {
    this.#recipient = undefined;
    clearTimeout(this.#connectTimer);
    this.#outgoing.destroy();
    this.#response?.destroy();
  }

  #connect(): void {
    clearTimeout(this.#connectTimer);
    if (!this.#recipient) return;
    this.#isAccepted = true;
    this.#connected = true;
    // Sends the head before the body comes; flushHeaders() would turn bytes beyond ASCII into UTF-8.
    if (this.#request.framing === 'none') this.#outgoing.end();
    else this.#outgoing.write(Buffer.alloc(0));
    this.#recipient.connected();
  }

  #head(response: IncomingMessage, isSwitching: boolean): ResponseHead {
    const { httpVersion: version, statusCode: status = 0, statusMessage: reason = '' } = response;
    const fields = fieldsFromRaw(response.rawHeaders);
    const malformed = fields.find((field) => !isSendable(field));
    if (malformed) throw new ProxyError('backend_bad_response', "the backend's answer is malformed", { cause: `field ${JSON.stringify(malformed.name)}` });
    if (fields.length > MAX_FIELDS)
      throw new ProxyError('backend_bad_response', "the backend's answer is malformed", { cause: `more than ${MAX_FIELDS} fields` });
    return parseResponseHead({ version, status, reason, fields }, this.#request.method, isSwitching);
  }

  #answer(response: IncomingMessage): void {
    this.#response = response;
    const recipient = this.#recipient;
    const on = contained(response, this.#fault);
    on('error', (error: NodeJS.ErrnoException) => this.#breakOff(error));
    let delimiter: ResponseHead['delimiter'];
    try {
      // Node takes a 101 without `Upgrade` for an ordinary answer.
      const head = this.#head(response, false);
      if (!head.persistent) this.#outgoing.shouldKeepAlive = false;
      delimiter = head.delimiter;
      recipient?.answered(head);
    } catch (error) {
      return this.#reject(error);
    }
    on('data', (piece: Buffer) => {
      this.#recipient?.received(piece);
      this.#recipient?.flush();
    });
    on('end', () => {
      const { socket } = response;
      if (delimiter === 'end' && isEndOfReset(socket)) return this.#breakOff(failedWrite(socket)!);
      const ending = this.#recipient;
      this.#recipient = undefined;
      if (!this.#outgoing.writableEnded || failedWrite(socket)) this.#outgoing.destroy();
      // Node keeps the connection from the next tick on; whoever has waited for this one to end shall find it.
      if (ending) process.nextTick(() => tellLast(ending, () => ending.ended(fieldsFromRaw(response.rawTrailers).filter(isSendable))));
    });
    recipient?.flush();
  }

  #switch(response: IncomingMessage, socket: Socket, early: Buffer): void {
    socket.on('error', () => socket.destroy());
    const recipient = this.#recipient;
    try {
      if (response.headers.upgrade?.toLowerCase() !== 'websocket') {
        throw new ProxyError('backend_bad_response', 'the backend switched to a protocol that was not asked for');
      }
      const head = this.#head(response, this.#request.upgrade);
      this.#recipient = undefined;
      if (early.length > 0) socket.unshift(early);
      if (recipient) recipient.switched(head, (client, idle) => joinTunnel(client, socket, idle));
      else socket.destroy();
    } catch (error) {
      socket.destroy();
      this.#reject(error);
    }
  }

  #explain(error: NodeJS.ErrnoException, onStale: () => void): void {
    if (this.#response?.complete) return;
    // Node takes a reset for the end of a response that ends with its connection.
    if (this.#response) return this.#breakOff(error);
    const facts = lossFacts(error);
    const { cause } = facts;
    if (!this.#connected) this.#give(connectFailure(error, this.#isAccepted, this.#backend));
    else if (cause.startsWith('HPE_')) this.#fail('backend_bad_response', "the backend's answer is malformed", { cause });
    else if (!this.#outgoing.reusedSocket || (this.#outgoing.socket?.bytesRead ?? 0) > this.#bytesBefore)
      this.#fail('backend_closed', 'the backend closed the connection without an answer', facts);
    else {
      onStale();
      this.#fail('backend_stale', 'a kept connection to the backend was dead', { cause });
    }
  }

  #breakOff(error: NodeJS.ErrnoException): void {
    this.#fail('backend_closed', 'the backend broke off its answer; the client was cut', { cause: error.code ?? error.message });
  }

  #reject(error: unknown): void {
    if (error instanceof ProxyError) this.#fail(error.code, error.message, error.facts);
    else this.#fault(error as Error);
  }

  #fail(code: ProxyErrorCode, message: string, facts: ProxyError['facts']): void {
    this.#give(new ProxyError(code, message, { backend: this.#backend.name, ...facts }));
  }

  #give(error: ProxyError): void {
    const recipient = this.#recipient;
    this.abort();
    if (recipient) tellLast(recipient, () => recipient.failed(error));
  }
}
