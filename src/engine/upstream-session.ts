import type { Socket } from 'node:net';
import type { BackendAddress } from '../config/values.ts';
import { type ClientEvents, ClientSession } from '../http2/client-session.ts';
import { ConnectionError, ErrorCode, errorName } from '../http2/frames.ts';
import { contained } from '../proxy/contained.ts';
import type { Timed } from '../proxy/deadlines.ts';
import { ProxyError } from '../proxy/proxy-error.ts';
import { connectFailure, connectTimeout, lossFacts, openSocket } from './backend-socket.ts';
import type { BackendTls } from './backend-tls.ts';
import { MAX_HEAD } from './head.ts';
import { Http2AnswerHeads } from './http2-answer-head.ts';
import { sharedBytes } from './socket-reads.ts';
import { atTurnEnd, type Collecting } from './turn-end.ts';
import type { UpstreamStream, UpstreamStreamOwner } from './upstream-stream.ts';

/** ms without a stream. */
const IDLE = 4_000;
/** ms for a backend to take the last bytes. */
const MAX_WAIT = 5_000;

/** The backend's other sessions. */
export interface UpstreamSessionOwner {
  /** Streams that the backend is said to allow on a session (RFC 9113, 6.5.2). */
  room: number;
  /** Sends it on another session, if this one has no room. */
  place(stream: UpstreamStream): void;
  closed(session: UpstreamSession): void;
}

/** A connection to a backend that speaks HTTP/2 (RFC 9113): by prior knowledge, or over TLS where ALPN chooses it. */
export class UpstreamSession implements Timed, Collecting, ClientEvents, UpstreamStreamOwner {
  deadline = Infinity;
  readonly tls: BackendTls | undefined;
  readonly heads = new Http2AnswerHeads();
  readonly #backend: BackendAddress;
  readonly #owner: UpstreamSessionOwner;
  readonly #socket: Socket;
  #isAccepted = false;
  #loss = new Error('closed');
  /** Undefined until the connection stands. */
  #session: ClientSession | undefined;
  readonly #streams = new Set<UpstreamStream>();
  /** Those that are not begun. */
  readonly #waiting = new Set<UpstreamStream>();
  /** Of whose answers something has been read. */
  #collecting: UpstreamStream[] = [];
  /** When an answer has begun last, by performance.now(). */
  #answeredAt = 0;
  #isEnding = false;

  constructor(backend: BackendAddress, tls: BackendTls | undefined, owner: UpstreamSessionOwner) {
    this.#backend = backend;
    this.tls = tls;
    this.#owner = owner;
    const callback = (length: number, bytes: Uint8Array): boolean => {
      this.#read((bytes as Buffer).subarray(0, length));
      return true;
    };
    const socket = openSocket(backend, { tls, protocol: 'h2' }, { onread: { buffer: sharedBytes, callback } });
    this.#socket = socket;
    const on = contained(socket, (error) => this.fault(error));
    on('connect', () => (this.#isAccepted = true));
    on(tls ? 'secureConnect' : 'connect', () => this.#connected());
    on('end', () => this.destroy());
    on('error', (error: Error) => (this.#loss = error));
    on('close', () => this.#closed());
  }

  get loss(): Error {
    return this.#session?.failure ?? this.#loss;
  }

  /** One more stream can be sent here. */
  get hasRoom(): boolean {
    if (this.#socket.destroyed || this.#isEnding) return false;
    return this.#session?.isReady === true ? this.#session.hasRoom : this.#waiting.size < this.#owner.room;
  }

  /** Begins it, or lets it wait until the backend has said its settings: they come before everything else (RFC 9113, 3.4). */
  add(stream: UpstreamStream): void {
    if (this.#session?.isReady === true) return this.#begin(stream, this.#session);
    this.#waiting.add(stream);
    stream.wait(this);
    this.deadline = Math.min(this.deadline, stream.connectBy);
  }

  expire(): void {
    if (this.#isEnding || this.#session?.isReady !== true) this.destroy();
    this.#unplaced(connectTimeout(this.#backend));
    if (this.#streams.size === 0) this.#end();
  }

  fault(error: Error): void {
    this.destroy();
    for (const stream of [...this.#waiting, ...this.#streams]) stream.fault(error);
  }

  destroy(): void {
    this.#socket.destroy();
  }

  // From the socket, and to it.

  #connected(): void {
    const socket = this.#socket;
    if ('alpnProtocol' in socket && socket.alpnProtocol !== 'h2') {
      this.destroy();
      return this.#unplaced(this.#notHttp2({ cause: 'ALPN does not choose h2' }));
    }
    const output = {
      give: (bytes: Buffer, taken: (error?: Error | null) => void) => void socket.write(bytes, taken),
      onWaiting: () => atTurnEnd(this),
      onTaken: () => this.#session?.sender.pump(),
    };
    this.#session = new ClientSession(this, 2 * MAX_HEAD, output);
  }

  /** @param bytes valid until this returns */
  #read(bytes: Buffer): void {
    const session = this.#session;
    if (!session) return this.destroy();
    if (this.#isEnding) return;
    try {
      session.read(bytes, performance.now());
    } catch (error) {
      return this.fault(error as Error);
    }
    const collecting = this.#collecting;
    this.#collecting = [];
    for (const stream of collecting) stream.readEnded();
    // It makes us say more than it takes.
    if (session.sender.isClogged) session.fail(new ConnectionError(ErrorCode.ENHANCE_YOUR_CALM, 'it does not read'));
  }

  flush(): void {
    const sender = this.#session?.sender;
    sender?.pump();
    sender?.writer.flush();
    if (this.#isEnding) this.#socket.destroySoon();
  }

  #closed(): void {
    this.#session?.abandon();
    this.#unplaced();
    this.#owner.closed(this);
  }

  /** Nothing more will be asked here. */
  #end(): void {
    if (this.#isEnding) return;
    this.#isEnding = true;
    this.#session?.close();
    this.deadline = performance.now() + MAX_WAIT;
    atTurnEnd(this);
  }

  // From the session.

  allowed(): void {
    const session = this.#session!;
    this.#owner.room = Math.max(1, session.limit);
    for (const stream of this.#waiting) if (session.hasRoom) this.#begin(stream, session);
    // A backend that takes none at all now may take some later.
    if (!session.isIdle) {
      for (const stream of this.#waiting) {
        this.#waiting.delete(stream);
        this.#owner.place(stream);
      }
    }
    this.#rest();
  }

  leaving(code: number): void {
    this.#loss = new Error(`GOAWAY ${errorName(code)}`);
    this.#unplaced();
    this.#rest();
  }

  failed(): void {
    // In this order: whoever gets the place of one that fails is not to come here.
    this.#end();
    this.#unplaced();
  }

  // From streams.

  answered(): void {
    this.#answeredAt = performance.now();
  }

  collecting(stream: UpstreamStream): void {
    this.#collecting.push(stream);
  }

  left(stream: UpstreamStream, isUnheard: boolean): void {
    if (!this.#streams.delete(stream)) this.#waiting.delete(stream);
    // Nobody has had an answer meanwhile: whoever else is sent there may wait as long.
    if (isUnheard && this.#answeredAt < stream.beganAt) this.#session?.close();
    this.#rest();
  }

  #begin(stream: UpstreamStream, session: ClientSession): void {
    this.#waiting.delete(stream);
    this.#streams.add(stream);
    stream.begin(session, this);
    if (this.#waiting.size === 0) this.deadline = Infinity;
  }

  /** What is to come of it when it has nothing to do. */
  #rest(): void {
    if (this.#isEnding || this.#streams.size + this.#waiting.size > 0) return;
    if (this.#session?.isReady !== true) this.destroy();
    else if (this.#session.isLeft) this.#end();
    else this.deadline = performance.now() + IDLE;
  }

  /** Fails those of which nothing was sent. */
  #unplaced(error?: ProxyError): void {
    if (this.#waiting.size === 0) return;
    const { loss } = this;
    const why =
      error ??
      (this.#session
        ? this.#notHttp2(loss instanceof ConnectionError ? { cause: loss.message } : lossFacts(loss))
        : connectFailure(loss, this.#isAccepted, this.#backend));
    for (const stream of this.#waiting) stream.fail(why);
  }

  #notHttp2(facts: { cause: string; setting?: string }): ProxyError {
    const setting = 'virtual_hosts[].routes[].http_version';
    return new ProxyError('backend_unreachable', 'the backend does not speak HTTP/2', { backend: this.#backend.name, setting, ...facts });
  }
}
