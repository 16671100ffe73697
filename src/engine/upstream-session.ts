import * as http2 from 'node:http2';
import type { Socket } from 'node:net';
import type { BackendAddress } from '../config/values.ts';
import { contained } from '../proxy/contained.ts';
import type { Deadlines, Timed } from '../proxy/deadlines.ts';
import type { BackendRequest, BackendStream, Recipient } from '../proxy/engine.ts';
import { ProxyError } from '../proxy/proxy-error.ts';
import { connectFailure, connectTimeout, openSocket } from './backend-socket.ts';
import type { BackendTls } from './backend-tls.ts';
import { UpstreamStream, type UpstreamStreamOwner } from './upstream-stream.ts';

/** ms without a stream. */
const IDLE = 4_000;
/** Streams that wait for a session whose backend has not said yet how many it allows (RFC 9113, 6.5.2). */
const FIRST_ROOM = 100;
/** Streams of one session: their numbers are not endless (RFC 9113, 5.1.1). */
const MAX_STREAMS = 1_000_000;
/** Bytes that a backend may send ahead, on a stream and on all of a session. */
const STREAM_WINDOW = 262_144;
const SESSION_WINDOW = 4_194_304;

const OPTIONS: http2.ClientSessionOptions = {
  settings: { enablePush: false, initialWindowSize: STREAM_WINDOW },
  /** MB: what is held is bounded by the windows. */
  maxSessionMemory: 1_000,
};

/** The sessions of a worker to backends that speak HTTP/2. */
export class UpstreamSessions {
  readonly #deadlines: Deadlines;
  readonly #byBackend = new Map<string, Set<UpstreamSession>>();

  constructor(deadlines: Deadlines) {
    this.#deadlines = deadlines;
  }

  /** Opens a stream on a session that has room, else on a new one. */
  send(backend: BackendAddress, tls: BackendTls | undefined, request: BackendRequest, recipient: Recipient): BackendStream {
    let sessions = this.#byBackend.get(backend.name);
    if (!sessions) this.#byBackend.set(backend.name, (sessions = new Set()));
    let session = [...sessions].find((one) => one.tls === tls && one.hasRoom);
    if (!session) {
      session = new UpstreamSession(backend, tls, () => this.#closed(backend, session!));
      sessions.add(session);
      this.#deadlines.watch(session);
    }
    return session.send(request, recipient);
  }

  close(): void {
    for (const sessions of this.#byBackend.values()) for (const session of sessions) session.destroy();
  }

  #closed({ name }: BackendAddress, session: UpstreamSession): void {
    this.#deadlines.forget(session);
    const sessions = this.#byBackend.get(name);
    sessions?.delete(session);
    if (sessions?.size === 0) this.#byBackend.delete(name);
  }
}

/** A connection to a backend that speaks HTTP/2 (RFC 9113): by prior knowledge, or over TLS where ALPN chooses it. */
class UpstreamSession implements Timed, UpstreamStreamOwner {
  deadline = Infinity;
  readonly tls: BackendTls | undefined;
  readonly #backend: BackendAddress;
  readonly #socket: Socket;
  #opening: http2.ClientHttp2Session | undefined;
  /** Undefined until it can be used. */
  #session: http2.ClientHttp2Session | undefined;
  #isAccepted = false;
  readonly #streams = new Set<UpstreamStream>();
  /** When an answer has begun last, by performance.now(). */
  #answeredAt = 0;
  #begun = 0;
  #room = FIRST_ROOM;

  constructor(backend: BackendAddress, tls: BackendTls | undefined, onClosed: () => void) {
    this.#backend = backend;
    this.tls = tls;
    const socket = openSocket(backend, { tls, protocol: 'h2' });
    this.#socket = socket;
    const on = contained(socket, (error) => this.fault(error));
    on('connect', () => (this.#isAccepted = true));
    on(tls ? 'secureConnect' : 'connect', () => this.#connected());
    const failed = (error: Error): void => {
      // Later the session tells.
      if (!this.#opening) this.#unconnected(connectFailure(error, this.#isAccepted, backend));
    };
    on('error', failed);
    on('close', () => {
      failed(new Error('closed'));
      onClosed();
    });
  }

  /** One more stream can be opened. */
  get hasRoom(): boolean {
    const isOpen = this.#session ? !this.#session.closed && !this.#session.destroyed : !this.#socket.destroyed;
    return isOpen && this.#streams.size < this.#room && this.#begun < MAX_STREAMS;
  }

  send(request: BackendRequest, recipient: Recipient): BackendStream {
    const stream = new UpstreamStream(this.#backend, request, recipient, this);
    this.#streams.add(stream);
    this.#begun += 1;
    if (this.#session) {
      this.deadline = Infinity;
      stream.begin(this.#session, true);
    } else {
      this.deadline = Math.min(this.deadline, performance.now() + request.timeouts.connect);
    }
    return stream;
  }

  answered(): void {
    this.#answeredAt = performance.now();
  }

  left(stream: UpstreamStream, isUnheard: boolean): void {
    // Nobody has had an answer meanwhile: whoever else is sent there may wait as long.
    if (isUnheard && this.#answeredAt < stream.beganAt) this.#session?.close();
    this.#streams.delete(stream);
    if (this.#streams.size > 0) return;
    if (this.#session) this.deadline = performance.now() + IDLE;
    else this.destroy();
  }

  expire(): void {
    if (this.#session) this.#session.close();
    else this.#unconnected(connectTimeout(this.#backend));
  }

  fault(error: Error): void {
    for (const stream of this.#streams) stream.fault(error);
    this.destroy();
  }

  destroy(): void {
    this.#opening?.destroy();
    this.#socket.destroy();
  }

  #connected(): void {
    const socket = this.#socket;
    if ('alpnProtocol' in socket && socket.alpnProtocol !== 'h2') {
      return this.#unconnected(this.#notHttp2('ALPN does not choose h2'));
    }
    const session = http2.connect('http://backend', { ...OPTIONS, createConnection: () => socket });
    this.#opening = session;
    session.setLocalWindowSize(SESSION_WINDOW);
    const on = contained(session, (error) => this.fault(error));
    on('remoteSettings', ({ maxConcurrentStreams }: http2.Settings) => {
      this.#room = maxConcurrentStreams ?? Infinity;
      if (!this.#session) this.#ready(session);
    });
    // Each stream tells what became of it.
    on('error', (error: NodeJS.ErrnoException) => {
      session.destroy();
      this.#unconnected(this.#notHttp2(error.message));
    });
    on('close', () => this.#unconnected(this.#notHttp2('closed')));
  }

  /** Its settings come before everything else (RFC 9113, 3.4): until then nothing is sent, and another backend can be tried. */
  #ready(session: http2.ClientHttp2Session): void {
    this.#session = session;
    this.deadline = Infinity;
    for (const stream of this.#streams) stream.connected(session);
  }

  #unconnected(error: ProxyError): void {
    if (this.#session) return;
    this.destroy();
    for (const stream of this.#streams) stream.fail(error);
  }

  #notHttp2(cause: string): ProxyError {
    const facts = { backend: this.#backend.name, setting: 'virtual_hosts[].routes[].http_version', cause };
    return new ProxyError('backend_unreachable', 'the backend does not speak HTTP/2', facts);
  }
}
