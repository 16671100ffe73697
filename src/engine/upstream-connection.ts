import type * as net from 'node:net';
import type { BackendAddress } from '../config/values.ts';
import { contained, tellLast } from '../proxy/contained.ts';
import type { Timed } from '../proxy/deadlines.ts';
import type { BackendRequest, BackendStream, Recipient } from '../proxy/engine.ts';
import { ProxyError, type ProxyErrorCode } from '../proxy/proxy-error.ts';
import { type Beginning, connectFailure, connectTimeout, lossFacts, openSocket } from './backend-socket.ts';
import type { BackendTls } from './backend-tls.ts';
import { BodyReader } from './body-reader.ts';
import { failedWrite, isEndOfReset, readsOnAfterFailedWrite } from './early-answer.ts';
import { findResponseHeadEnd } from './head.ts';
import { MessageWriter } from './message-writer.ts';
import { ReadBuffer } from './read-buffer.ts';
import type { ResponseHead } from './response-head.ts';
import { ResponseScanner } from './response-scanner.ts';
import { sharedBytes } from './socket-reads.ts';
import { joinTunnel } from './tunnel.ts';

/** Most applications close an idle connection after 5 s. */
const IDLE = 4_000;
const NOTHING = Buffer.alloc(0);
const CLOSED = new Error('closed');
/** Up to here, copying what was read costs less than giving the buffer away. */
const SMALL = 8_192;

/** What becomes of a connection. */
export interface UpstreamOwner {
  /** It can take another request. */
  released(connection: UpstreamConnection): void;
  closed(connection: UpstreamConnection): void;
  /** A kept connection was dead. */
  stale(): void;
}

/** A connection to a backend that speaks HTTP/1.1 (RFC 9112), and carries one request at a time. */
export class UpstreamConnection implements BackendStream, Timed {
  deadline = Infinity;
  isConnected = false;
  /** Undefined for plain TCP. */
  readonly tls: BackendTls | undefined;
  readonly prelude: Buffer | undefined;
  readonly #backend: BackendAddress;
  readonly #owner: UpstreamOwner;
  readonly #socket: net.Socket;
  readonly #writer: MessageWriter;
  readonly #scanner = new ResponseScanner();
  /** The backend has accepted it; the handshake, if any, may be under way. */
  #isAccepted = false;
  /** Where the next bytes of a body go. */
  #reading: ReadBuffer | undefined;
  /** Whose bytes are being looked at. */
  #lent: ReadBuffer | undefined;
  #input: Buffer = NOTHING;
  #searched = 0;
  #recipient: Recipient | undefined;
  #request: BackendRequest | undefined;
  /** Given away after a 101. */
  #isTunnel = false;
  #isReused = false;
  /** The request is written to its end. */
  #isSent = false;
  /** A byte of the answer has come. */
  #isAnswering = false;
  #body: BodyReader | undefined;
  #persistent = false;
  /** How long it may be idle, in ms. */
  #idle = IDLE;

  /** @param beginning with `mayTunnel`, the connection may be given away after a 101 */
  constructor(backend: BackendAddress, owner: UpstreamOwner, { mayTunnel, tls, prelude }: Omit<Beginning, 'protocol'> & { mayTunnel: boolean }) {
    this.tls = tls;
    this.prelude = prelude;
    this.#backend = backend;
    this.#owner = owner;
    // Reading into a buffer of our own instead of a new one each time saves a tenth of a small request.
    const onread = { buffer: () => this.#readBuffer(), callback: (length: number, bytes: Uint8Array) => this.#onRead(length, bytes as Buffer) };
    // Node does not read like this through one socket into another.
    const isStream = tls !== undefined && prelude !== undefined;
    const socket = openSocket(backend, { tls, prelude, protocol: 'http/1.1' }, isStream ? {} : { onread });
    this.#socket = socket;
    if (!mayTunnel) readsOnAfterFailedWrite(socket);
    this.#writer = new MessageWriter(socket);
    const on = contained(socket, (error) => this.fault(error));
    if (isStream) on('data', (bytes: Buffer) => this.#read(bytes));
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

  #readBuffer(): Buffer {
    if (this.#body) return (this.#reading ??= ReadBuffer.take()).bytes;
    // Most answers are small, and bytes that were used just now are in the processor's cache.
    this.#reading?.hold()();
    this.#reading = undefined;
    return sharedBytes;
  }

  /**
   * @param bytes the beginning of them was read
   * @returns false to stop reading
   */
  #onRead(length: number, bytes: Buffer): boolean {
    const read = bytes.subarray(0, length);
    if (length <= SMALL) {
      this.#read(read);
    } else {
      const buffer = this.#reading ?? ReadBuffer.copyOf(read);
      this.#reading = undefined;
      this.#lent = buffer;
      const release = buffer.hold();
      this.#read(buffer.bytes.subarray(0, length));
      this.#lent = undefined;
      release();
    }
    // The beginning of something must not be read over.
    if (this.#input.length > 0) this.#input = Buffer.from(this.#input);
    return true;
  }

  #read(bytes: Buffer): void {
    if (this.#isTunnel) return;
    const recipient = this.#recipient;
    // What a backend says without being asked could be taken for the answer to the next request.
    if (!recipient) return this.abort();
    this.#isAnswering = true;
    this.#input = this.#input.length === 0 ? bytes : Buffer.concat([this.#input, bytes]);
    try {
      while (this.#input.length > 0 && this.#recipient === recipient) {
        if (!(this.#body ? this.#readBody(recipient, this.#body) : this.#readHead(recipient))) break;
      }
      if (this.#recipient === recipient) recipient.flush();
    } catch (error) {
      this.#reject(error);
    }
  }

  /** @returns false when more bytes are needed */
  #readHead(recipient: Recipient): boolean {
    const request = this.#request!;
    const { httpVersion, keepAlive, lenient } = request.route;
    const end = findResponseHeadEnd(this.#input, this.#searched, lenient);
    if (end === -1) {
      this.#searched = this.#input.length;
      // Another protocol may never send the end of a head.
      if (!looksLikeHttp(this.#input)) throw this.#error('backend_bad_response', "the backend's answer is malformed", { cause: 'not HTTP/1' });
      return false;
    }
    const scanned = this.#scanner.scan(this.#input, end, lenient);
    this.#searched = 0;
    this.#input = end === this.#input.length ? NOTHING : this.#input.subarray(end);
    if (scanned.status >= 100 && scanned.status < 200 && scanned.status !== 101) {
      recipient.informed(scanned.status, scanned.fields);
      return true;
    }
    const head = this.#scanner.parse(scanned, request.method, request.upgrade);
    if (head.status === 101) {
      this.#switch(recipient, head);
      return false;
    }
    this.#persistent = head.persistent && !request.upgrade && httpVersion !== '1.0' && keepAlive;
    this.#idle = Math.min(IDLE, head.idle ?? IDLE);
    recipient.answered(head);
    this.#body = new BodyReader(head.delimiter, 'backend_bad_response');
    if (this.#body.done && this.#recipient === recipient) this.#complete(recipient, this.#body);
    return true;
  }

  #readBody(recipient: Recipient, body: BodyReader): boolean {
    const lent = this.#lent;
    const taken = body.read(this.#input, (piece) => recipient.received(lent ? piece : Buffer.from(piece), lent?.hold()));
    this.#input = taken === this.#input.length ? NOTHING : this.#input.subarray(taken);
    if (body.done) this.#complete(recipient, body);
    return true;
  }

  #complete(recipient: Recipient, { trailers }: BodyReader): void {
    this.#recipient = undefined;
    this.#body = undefined;
    // Bytes behind an answer would be taken for the next one (CVE-2026-48931 and others are such queues).
    if (
      this.#persistent &&
      this.#isSent &&
      this.#input.length === 0 &&
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
    if (this.#input.length > 0) socket.unshift(Buffer.from(this.#input));
    this.#input = NOTHING;
    recipient.switched(head, (client, idle) => joinTunnel(client, socket, idle));
  }

  #peerEnded(): void {
    if (this.#isTunnel) return;
    const recipient = this.#recipient;
    const body = this.#body;
    if (recipient && body?.endsWithConnection && !isEndOfReset(this.#socket)) {
      this.#persistent = false;
      this.#complete(recipient, body);
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
    else if (this.#body) this.#give(this.#error('backend_closed', 'the backend broke off its answer; the client was cut', facts));
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

function looksLikeHttp(input: Buffer): boolean {
  return 'HTTP/1.'.startsWith(input.toString('latin1', 0, 7));
}
