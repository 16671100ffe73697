import type { BackendAddress } from '../config/values.ts';
import type { Deadlines } from '../proxy/deadlines.ts';
import type { BackendRequest, BackendStream, Engine, Recipient } from '../proxy/engine.ts';
import { type BackendFiles, type BackendTls, BackendTlsByRoute } from './backend-tls.ts';
import { UpstreamConnection, type UpstreamOwner } from './upstream-connection.ts';
import { UpstreamSessions } from './upstream-sessions.ts';

/** Idle connections to one backend. */
const MAX_IDLE = 256;

/** Carries requests over connections of its own, and keeps these for the next ones. */
export class NativeEngine implements Engine {
  readonly #deadlines: Deadlines;
  readonly #pools = new Map<string, ConnectionPool>();
  readonly #sessions: UpstreamSessions;
  readonly #tls = new BackendTlsByRoute();

  constructor(deadlines: Deadlines) {
    this.#deadlines = deadlines;
    this.#sessions = new UpstreamSessions(deadlines);
  }

  update(files: BackendFiles): void {
    this.#tls.update(files);
  }

  send(backend: BackendAddress, request: BackendRequest, recipient: Recipient): BackendStream {
    const tls = 'tls' in backend ? this.#tls.of(request.route) : undefined;
    if (request.route.httpVersion === '2') return this.#sessions.send(backend, tls, request, recipient);
    let pool = this.#pools.get(backend.name);
    if (!pool) {
      pool = new ConnectionPool(backend, this.#deadlines, () => this.#pools.delete(backend.name));
      this.#pools.set(backend.name, pool);
    }
    const connection = pool.take(request, tls);
    connection.send(request, recipient);
    return connection;
  }

  close(): void {
    for (const pool of this.#pools.values()) pool.close();
    this.#sessions.close();
  }
}

/** The connections to one backend. */
class ConnectionPool implements UpstreamOwner {
  readonly #backend: BackendAddress;
  readonly #deadlines: Deadlines;
  readonly #onEmpty: () => void;
  readonly #all = new Set<UpstreamConnection>();
  /** The one used last is used next, so that those which are not needed grow old. */
  readonly #idle: UpstreamConnection[] = [];

  constructor(backend: BackendAddress, deadlines: Deadlines, onEmpty: () => void) {
    this.#backend = backend;
    this.#deadlines = deadlines;
    this.#onEmpty = onEmpty;
  }

  /** A kept connection, or a new one; always a new one for a request that may end in a tunnel or is repeated, and where none is kept. */
  take({ upgrade, route, prelude, isRepeated }: BackendRequest, tls: BackendTls | undefined): UpstreamConnection {
    const isNew = upgrade || isRepeated || !route.keepAlive;
    const at = isNew ? -1 : this.#idle.findLastIndex((connection) => connection.tls === tls && areSame(connection.prelude, prelude));
    // Almost always the last.
    if (at !== -1) return at === this.#idle.length - 1 ? this.#idle.pop()! : this.#idle.splice(at, 1)[0]!;
    const connection = new UpstreamConnection(this.#backend, this, { mayTunnel: upgrade, tls, prelude });
    this.#all.add(connection);
    this.#deadlines.watch(connection);
    // An application with a process for each connection has none for one more.
    if (this.#all.size > (route.maxConnections ?? Infinity)) this.#idle[0]?.abort();
    return connection;
  }

  released(connection: UpstreamConnection): void {
    this.#idle.push(connection);
    if (this.#idle.length > MAX_IDLE) this.#idle[0]?.abort();
  }

  closed(connection: UpstreamConnection): void {
    this.#deadlines.forget(connection);
    const at = this.#idle.lastIndexOf(connection);
    if (at !== -1) this.#idle.splice(at, 1);
    if (this.#all.delete(connection) && this.#all.size === 0) this.#onEmpty();
  }

  /** A dead kept connection means a restarted backend: its siblings are as dead, and a retry must not find one. */
  stale(): void {
    for (const connection of this.#idle.splice(0)) connection.abort();
  }

  close(): void {
    for (const connection of this.#all) connection.abort();
  }
}

function areSame(a: Buffer | undefined, b: Buffer | undefined): boolean {
  return a === b || (a !== undefined && b !== undefined && a.equals(b));
}
