import type { BackendAddress } from '../config/values.ts';
import type { Deadlines } from '../proxy/deadlines.ts';
import type { BackendRequest, BackendStream, Recipient } from '../proxy/engine.ts';
import type { BackendTls } from './backend-tls.ts';
import { UpstreamSession, type UpstreamSessionOwner } from './upstream-session.ts';
import { UpstreamStream } from './upstream-stream.ts';

/** Streams that wait for the first session of a backend, which has not said yet how many it allows (RFC 9113, 6.5.2). */
const FIRST_ROOM = 100;

/** The sessions of a worker to backends that speak HTTP/2. */
export class UpstreamSessions {
  readonly #deadlines: Deadlines;
  readonly #byBackend = new Map<string, BackendSessions>();

  constructor(deadlines: Deadlines) {
    this.#deadlines = deadlines;
  }

  /** Opens a stream on a session that has room, else on a new one. */
  send(backend: BackendAddress, tls: BackendTls | undefined, request: BackendRequest, recipient: Recipient): BackendStream {
    let sessions = this.#byBackend.get(backend.name);
    if (!sessions) {
      sessions = new BackendSessions(backend, this.#deadlines, () => this.#byBackend.delete(backend.name));
      this.#byBackend.set(backend.name, sessions);
    }
    const stream = new UpstreamStream(backend, tls, request, recipient);
    sessions.place(stream);
    return stream;
  }

  close(): void {
    for (const sessions of this.#byBackend.values()) sessions.close();
  }
}

/** The sessions to one backend. */
class BackendSessions implements UpstreamSessionOwner {
  room = FIRST_ROOM;
  readonly #backend: BackendAddress;
  readonly #deadlines: Deadlines;
  readonly #onEmpty: () => void;
  readonly #sessions = new Set<UpstreamSession>();

  constructor(backend: BackendAddress, deadlines: Deadlines, onEmpty: () => void) {
    this.#backend = backend;
    this.#deadlines = deadlines;
    this.#onEmpty = onEmpty;
  }

  place(stream: UpstreamStream): void {
    this.#sessionFor(stream).add(stream);
  }

  closed(session: UpstreamSession): void {
    this.#deadlines.forget(session);
    if (this.#sessions.delete(session) && this.#sessions.size === 0) this.#onEmpty();
  }

  close(): void {
    for (const session of this.#sessions) session.destroy();
  }

  #sessionFor({ tls }: UpstreamStream): UpstreamSession {
    for (const session of this.#sessions) if (session.tls === tls && session.hasRoom) return session;
    const session = new UpstreamSession(this.#backend, tls, this);
    this.#sessions.add(session);
    this.#deadlines.watch(session);
    return session;
  }
}
