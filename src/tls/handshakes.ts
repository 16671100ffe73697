import type { Socket } from 'node:net';
import type { Server, TLSSocket } from 'node:tls';
import { type ConnectionCounters, count } from '../connection-counters.ts';
import type { ClientCertificateValues } from '../config/policies.ts';
import type { VirtualHost } from '../config/schema.ts';
import type { Log } from '../log.ts';
import type { Arrival, Peer } from './arrival.ts';
import { type ClientVerifier, reasonOf } from './client-certificate.ts';
import { type ClientRules, outdated } from './client-rules.ts';

export interface SecureConnection {
  socket: TLSSocket;
  peer: Peer;
  /** What the client connected to. */
  local: Peer;
  virtualHost: VirtualHost;
  /** Where clients are asked for one. */
  clientCertificate: ClientCertificateValues | undefined;
}

/** What was chosen for a connection. */
interface Beginning {
  arrival: Arrival;
  virtualHost: VirtualHost;
  serverName: string | undefined;
}

interface Pending extends Beginning {
  /** Who was let in when it began. */
  rules: string | undefined;
}

/** Handshakes under way, from the choice of a server to their end: who gets through one, and what is said of the others. */
export class Handshakes {
  readonly #log: Log;
  readonly #counters: ConnectionCounters;
  readonly #onSecure: (connection: SecureConnection) => void;
  readonly #pending = new WeakMap<Socket, Pending>();
  #rules: ClientRules = new Map();

  constructor(options: { log: Log; counters: ConnectionCounters; onSecure: (connection: SecureConnection) => void }) {
    this.#log = options.log;
    this.#counters = options.counters;
    this.#onSecure = options.onSecure;
  }

  /** @returns virtual hosts whose rules have changed: handshakes that have begun there let nobody in */
  setRules(rules: ClientRules): Set<string> {
    const before = this.#rules;
    this.#rules = rules;
    return outdated(before, rules);
  }

  begin(server: Server, { arrival, virtualHost, serverName }: Beginning): void {
    this.#pending.set(arrival.socket, { arrival, virtualHost, serverName, rules: this.#rules.get(virtualHost.serverName) });
    server.emit('connection', arrival.socket);
  }

  /** The TLS library hands back its own socket; `_parent` is the one that it was given. */
  #takePending(socket: TLSSocket): Pending | undefined {
    const { _parent: raw } = socket as TLSSocket & { _parent?: Socket };
    const pending = raw && this.#pending.get(raw);
    if (raw) this.#pending.delete(raw);
    return pending;
  }

  /** The TLS library has ended one well. */
  secured(socket: TLSSocket, clients: ClientVerifier | undefined): void {
    const pending = this.#takePending(socket);
    if (!pending) {
      socket.destroy();
      return;
    }
    const { arrival, virtualHost, serverName, rules } = pending;
    const version = socket.getProtocol() ?? 'unknown';
    // A second ClientHello after a HelloRetryRequest must not name another virtual host than the one that was chosen. Before
    // TLS 1.3 there is none, and of a resumed session the library does not know the name.
    if (version === 'TLSv1.3' && normalized(socket.servername) !== serverName) {
      this.#turnAway(pending, socket, 'server_name_changed', 'its server name changed during the handshake');
      return;
    }
    if (rules !== this.#rules.get(virtualHost.serverName)) {
      this.#turnAway(pending, socket, 'client_rules_changed', 'a reload has changed whom its virtual host lets in');
      return;
    }
    const client = clients?.verify(socket, Date.now());
    if (client?.refusal !== undefined) {
      this.#handshakeFailed(pending, refusedCertificate(client.refusal), client.refusal);
      socket.destroy();
      return;
    }
    count(this.#counters.handshakes[socket.isSessionReused() ? 'resumed' : 'full'], version);
    arrival.settled();
    this.#onSecure({ socket, peer: arrival.peer, local: arrival.local, virtualHost, clientCertificate: client?.values });
  }

  /** Ends a connection whose handshake should not have got as far. */
  #turnAway({ arrival, serverName }: Pending, socket: TLSSocket, code: string, why: string): void {
    this.#log.debug(`connection refused: ${why}`, { code, client: arrival.peer.address, name: serverName });
    arrival.refused(code);
    socket.destroy();
  }

  /** The TLS library has given up; without a reason of its own the client went away, and the end of its connection says so. */
  failed(error: Error & { reason?: string }, socket: TLSSocket): void {
    const { authorizationError } = socket;
    const refusal = authorizationError ? reasonOf(authorizationError) : undefined;
    // It lets every client certificate pass, says afterwards what was wrong with it, and closes the connection without an alert:
    // without these words it would be a hang-up.
    this.#handshakeFailed(
      this.#takePending(socket),
      refusal === undefined ? (error.reason ?? error.message) : refusedCertificate(refusal),
      refusal ?? error.reason,
    );
  }

  #handshakeFailed(pending: Pending | undefined, message: string, kind: string | undefined): void {
    this.#log.debug(`handshake failed: ${message}`, { code: 'handshake_failed', client: pending?.arrival.peer.address, name: pending?.serverName });
    if (kind === undefined) return;
    count(this.#counters.failures, kind.toLowerCase().replaceAll(/\W+/g, '_'));
    pending?.arrival.refused('handshake_failed');
  }
}

function refusedCertificate(reason: string): string {
  return `the client's certificate is refused (${reason})`;
}

/** As `ClientHello.serverName`; the library has `false` for none. */
function normalized(name: string | false | null): string | undefined {
  return name ? name.toLowerCase().replace(/\.$/, '') : undefined;
}
