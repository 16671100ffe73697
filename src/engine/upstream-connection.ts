import type * as net from 'node:net';
import type { BackendAddress } from '../config/values.ts';
import { contained, tellLast } from '../proxy/contained.ts';
import type { Timed } from '../proxy/deadlines.ts';
import type { BackendRequest, BackendStream, Recipient } from '../proxy/engine.ts';
import type { Field } from '../proxy/headers.ts';
import { ProxyError, type ProxyErrorCode } from '../proxy/proxy-error.ts';
import { AnswerReads, type AnswerTaker } from './answer-reads.ts';
import { type Beginning, connectFailure, connectTimeout, lossFacts, openSocket } from './backend-socket.ts';
import type { BackendTls } from './backend-tls.ts';
import { failedWrite, isEndOfReset, readsOnAfterFailedWrite } from './early-answer.ts';
import { MessageWriter } from './message-writer.ts';
import type { ReadBuffer } from './read-buffer.ts';
import type { ResponseHead } from './response-head.ts';
import { ResponseReader } from './response-reader.ts';
import { joinTunnel } from './tunnel.ts';

/** Most applications close an idle connection after 5 s. */
const IDLE = 4_000;
const CLOSED = new Error('closed');

/** What becomes of a connection. */
export interface UpstreamOwner {
  /** It can take another request. */
  released(connection: UpstreamConnection): void;
  closed(connection: UpstreamConnection): void;
  /** A kept connection was dead. */
  stale(): void;
}

/** A connection to a backend that speaks HTTP/1.1 (RFC 9112), and carries one request at a time. */
export class UpstreamConnection implements BackendStream, AnswerTaker, Timed {
  deadline = Infinity;
  isConnected = false;
  /** Undefined for plain TCP. */
  readonly tls: BackendTls | undefined;
  readonly prelude: Buffer | undefined;
  readonly #backend: BackendAddress;
  readonly #owner: UpstreamOwner;
  readonly #socket: net.Socket;
  readonly #writer: MessageWriter;
  readonly #answers = new ResponseReader();
  /** The backend has accepted it; the handshake, if any, may be under way. */
  #isAccepted = false;
  #recipient: Recipient | undefined;
  #request: BackendRequest | undefined;
  /** Given away after a 101. */
  #isTunnel = false;
  #isReused = false;
  /** The request is written to its end. */
  #isSent = false;
  /** A byte of the answer has come. */
  #isAnswering = false;
  #persistent = false;
  /** How long it may be idle, in ms. */
  #idle = IDLE;

  /** @param beginning with `mayTunnel`, the connection may be given away after a 101 */
  constructor(backend: BackendAddress, owner: UpstreamOwner, { mayTunnel, tls, prelude }: Omit<Beginning, 'protocol'> & { mayTunnel: boolean }) {
    this.tls = tls;
    this.prelude = prelude;
    this.#backend = backend;
    this.#owner = owner;
    // Node does not read like this through one socket into another.
    const isStream = tls !== undefined && prelude !== undefined;
    const socket = openSocket(backend, { tls, prelude, protocol: 'http/1.1' }, isStream ? {} : { onread: new AnswerReads(this).onread });
    this.#socket = socket;
    if (!mayTunnel) readsOnAfterFailedWrite(socket);
    this.#writer = new MessageWriter(socket);
    const on = contained(socket, (error) => this.fault(error));
    if (isStream) on('data', (bytes: Buffer) => this.take(bytes));
    on('connect', () => {
      this.#isAccepted = true;
    });
    on(tls ? 'secureConnect' : 'connect', () => {
      this.isConnected = true;
      this.deadline = Infinity;
      this.#recipient?.connected();
    });
    on('end', () => this.#peerEnded());
    on('drain', () => {
      this.#writer.drained();
      if (!this.#isSent && !failedWrite(socket)) this.#recipient?.drained();
    });
    on('error', (error: NodeJS.ErrnoException) => this.#fail(error));
    on('close', () => {
      this.#fail(CLOSED);
      owner.closed(this);
    });
  }

  /** Sends a request; before the connection stands, or on a kept one. */
  send(request: BackendRequest, recipient: Recipient): void {
    const { method, target, fields, framing, expectContinue, route } = request;
    this.#isReused = this.isConnected;
    this.deadline = this.isConnected ? Infinity : performance.now() + request.timeouts.connect;
    this.#request = request;
    this.#recipient = recipient;
    this.#isSent = framing === 'none';
    this.#isAnswering = false;
    const expect = expectContinue ? 'Expect: 100-continue\r\n' : '';
    this.#writer.begin(`${method} ${target} HTTP/${route.httpVersion}\r\n${fields.lines}${expect}\r\n`, framing === 'chunked');
    // Nothing is given to TLS before it is known who the backend is.
    if (this.isConnected ? this.#isSent : !this.tls) this.#writer.flush();
  }

  /** An error of ours: it ends this connection, and what it carries. */
  fault(error: Error): void {
    const recipient = this.#recipient;
    this.abort();
    recipient?.fault(error);
  }

  expire(): void {
    if (this.#recipient) this.#give(connectTimeout(this.#backend));
    else this.abort();
  }

  // The request.

  write(piece: Buffer, release?: () => void): boolean {
    return !failedWrite(this.#socket) && this.#writer.write(piece, release);
  }

  flush(): void {
    this.#writer.flush();
  }

  /** Trailers end here: nobody knows whether the backend wants them (RFC 9110, 6.5.1). */
  end(): void {
    if (this.#isSent) return;
    this.#writer.end([]);
    this.#writer.flush();
    this.#isSent = true;
  }

  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    if (this.#socket.isPaused()) this.#socket.resume();
  }

  abort(): void {
    this.#recipient = undefined;
    this.#socket.destroy();
    // At once, not when the socket has closed: nobody may take it meanwhile.
    this.#owner.closed(this);
  }

  // The answer.

  get isWithinBody(): boolean {
    return this.#answers.isWithinBody;
  }

  take(bytes: Buffer, lent?: ReadBuffer): void {
    if (this.#isTunnel) return;
    const recipient = this.#recipient;
    // What a backend says without being asked could be taken for the answer to the next request.
    if (!recipient) return this.abort();
    const answers = this.#answers;
    this.#isAnswering = true;
    answers.add(bytes, lent);
    try {
      while (answers.waiting > 0 && this.#recipient === recipient) {
        if (answers.isWithinBody) this.#readBody(recipient);
        else if (!this.#readHead(recipient)) break;
      }
      if (this.#recipient === recipient) recipient.flush();
    } catch (error) {
      this.#reject(error);
    }
    answers.keep();
  }

  /** @returns false when more bytes are needed */
  #readHead(recipient: Recipient): boolean {
    const { method, upgrade, route } = this.#request!;
    const scanned = this.#answers.readHead(route.lenient);
    if (!scanned) return false;
    if (scanned.status >= 100 && scanned.status < 200 && scanned.status !== 101) {
      recipient.informed(scanned.status, scanned.fields);
      return true;
    }
    const head = this.#answers.beginAnswer(scanned, method, upgrade);
    if (head.status === 101) {
      this.#switch(recipient, head);
      return false;
    }
    this.#persistent = head.persistent && !upgrade && route.httpVersion !== '1.0' && route.keepAlive;
    this.#idle = Math.min(IDLE, head.idle ?? IDLE);
    recipient.answered(head);
    if (!this.isWithinBody && this.#recipient === recipient) this.#complete(recipient, []);
    return true;
  }

  #readBody(recipient: Recipient): void {
    const { lent } = this.#answers;
    const trailers = this.#answers.readBody((piece) => recipient.received(lent ? piece : Buffer.from(piece), lent?.hold()));
    if (trailers) this.#complete(recipient, trailers);
  }

  #complete(recipient: Recipient, trailers: readonly Field[]): void {
    this.#recipient = undefined;
    // Bytes behind an answer would be taken for the next one (CVE-2026-48931 and others are such queues).
    if (
      this.#persistent &&
      this.#isSent &&
      this.#answers.waiting === 0 &&
      this.#socket.writableLength === 0 &&
      this.#idle > 0 &&
      !this.#socket.destroyed &&
      !failedWrite(this.#socket)
    ) {
      this.resume();
      this.deadline = performance.now() + this.#idle;
      this.#owner.released(this);
    } else {
      this.abort();
    }
    tellLast(recipient, () => recipient.ended(trailers));
  }

  #switch(recipient: Recipient, head: ResponseHead): void {
    if (head.upgrade !== 'websocket') throw this.#error('backend_bad_response', 'the backend switched to a protocol that was not asked for');
    const socket = this.#socket;
    this.#recipient = undefined;
    socket.pause();
    this.#isTunnel = true;
    const early = this.#answers.drop();
    if (early.length > 0) socket.unshift(Buffer.from(early));
    recipient.switched(head, (client, idle) => joinTunnel(client, socket, idle));
  }

  #peerEnded(): void {
    if (this.#isTunnel) return;
    const recipient = this.#recipient;
    if (recipient && this.#answers.endsWithConnection && !isEndOfReset(this.#socket)) {
      this.#persistent = false;
      this.#complete(recipient, []);
    } else {
      this.#fail(failedWrite(this.#socket) ?? CLOSED);
      this.abort();
    }
  }

  /** The connection is gone. */
  #fail(error: NodeJS.ErrnoException): void {
    if (!this.#recipient) return;
    const facts = lossFacts(error);
    if (!this.isConnected) this.#give(connectFailure(error, this.#isAccepted, this.#backend));
    else if (this.isWithinBody) this.#give(this.#error('backend_closed', 'the backend broke off its answer; the client was cut', facts));
    else if (!this.#isReused || this.#isAnswering) this.#give(this.#error('backend_closed', 'the backend closed the connection without an answer', facts));
    else {
      this.#owner.stale();
      this.#give(this.#error('backend_stale', 'a kept connection to the backend was dead', { cause: error.code ?? error.message }));
    }
  }

  #reject(error: unknown): void {
    if (error instanceof ProxyError) this.#give(this.#error(error.code, error.message, error.facts));
    else this.fault(error as Error);
  }

  #error(code: ProxyErrorCode, message: string, facts: ProxyError['facts'] = {}): ProxyError {
    return new ProxyError(code, message, { backend: this.#backend.name, ...facts });
  }

  #give(error: ProxyError): void {
    const recipient = this.#recipient;
    this.abort();
    if (recipient) tellLast(recipient, () => recipient.failed(error));
  }
}
