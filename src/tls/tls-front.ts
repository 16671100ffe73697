import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { type ConnectionCounters, count } from '../connection-counters.ts';
import type { ClientCertificateValues, VirtualHost } from '../config/schema.ts';
import type { Log } from '../log.ts';
import type { Identity, ServableStaple, Snapshot } from '../snapshot.ts';
import { Alert, TlsAlert } from './alert.ts';
import type { Arrival, Peer } from './arrival.ts';
import { type ClientVerifier, reasonOf } from './client-certificate.ts';
import { readClientHello, type ClientHello } from './client-hello.ts';
import { clientRules, type ClientRules, outdated } from './client-rules.ts';
import { allowsHttp2 } from './key-choice.ts';
import { looksLikeHttp, PlainHttp } from './plain-http.ts';
import { readPrefix } from './read-prefix.ts';
import { SecureServers } from './secure-servers.ts';
import { identityFor, Sites } from './sites.ts';

export interface SecureConnection {
  socket: TLSSocket;
  peer: Peer;
  /** What the client connected to. */
  local: Peer;
  virtualHost: VirtualHost;
  /** Where clients are asked for one. */
  clientCertificate: ClientCertificateValues | undefined;
}

/** A connection for a virtual host with `tls: passthrough`: nothing of it has been answered. */
export interface UnopenedConnection {
  /** Paused. The first that can be read from it is the whole ClientHello, as it came. */
  socket: Socket;
  peer: Peer;
  local: Peer;
  virtualHost: VirtualHost;
  serverName: string | undefined;
  /** A backend has it: the deadline (`timeouts.handshake`) is lifted. */
  settled: () => void;
  /** Tells the client, instead of that, that there will be no handshake; `code` is for the counters. */
  refuse: (code: string) => void;
}

/** A context costs about 40 KB: enough for every busy site, bounded where there are ten thousand names. */
const mostContexts = 2000;

interface Pending {
  arrival: Arrival;
  virtualHost: VirtualHost;
  serverName: string | undefined;
  /** Who was let in when it began. */
  rules: string | undefined;
}

interface Held {
  arrival: Arrival;
  hello: ClientHello;
}

/**
 * Terminates TLS: reads each ClientHello, chooses virtual host and identity, and hands the connection to the
 * `tls.Server` made for them. Nothing here fetches or reads a file. Only at the start a handshake waits, under the
 * deadline of all, until the supervisor has read the certificates of its virtual host.
 */
export class TlsFront {
  readonly #log: Log;
  readonly #counters: ConnectionCounters;
  readonly #onSecure: (connection: SecureConnection) => void;
  readonly #onUnopened: (connection: UnopenedConnection) => void;
  readonly #servers: SecureServers;
  #sites = new Sites([], [], []);
  #rules: ClientRules = new Map();
  /** Of handshakes under way. */
  readonly #pending = new WeakMap<Socket, Pending>();
  readonly #held = new Set<Held>();

  constructor(options: {
    log: Log;
    counters: ConnectionCounters;
    staple: (fingerprint: string) => ServableStaple | undefined;
    onSecure: (connection: SecureConnection) => void;
    onUnopened: (connection: UnopenedConnection) => void;
    mostContexts?: number;
  }) {
    this.#log = options.log;
    this.#counters = options.counters;
    this.#onSecure = options.onSecure;
    this.#onUnopened = options.onUnopened;
    this.#servers = new SecureServers({
      most: options.mostContexts ?? mostContexts,
      staple: options.staple,
      onSecure: (socket, clients) => this.#secured(socket, clients),
      onFailed: (error, socket) => this.#failed(error, socket),
    });
  }

  /**
   * Serves new connections from this snapshot; those already open go on.
   * @returns virtual hosts whose rules for clients have changed: who is let in already was under the old ones
   */
  update({ config, identities, awaited, ticketSecret, clientAuthorities }: Snapshot): Set<string> {
    const before = this.#rules;
    this.#rules = clientRules({ config, clientAuthorities });
    this.#sites = new Sites(config.virtualHosts, identities, awaited);
    this.#servers.reset(ticketSecret, clientAuthorities);
    this.#release();
    return outdated(before, this.#rules);
  }

  /** Replaces all identities of some virtual hosts. */
  setIdentities(virtualHosts: readonly string[], identities: readonly Identity[]): void {
    this.#sites.setIdentities(virtualHosts, identities);
    this.#servers.forget(new Set(virtualHosts));
    this.#release();
  }

  setTicketSecret(ticketSecret: Uint8Array): void {
    this.#servers.setTicketSecret(ticketSecret);
  }

  accept(arrival: Arrival): void {
    readPrefix(
      arrival.socket,
      (bytes) => {
        const isHttp = looksLikeHttp(bytes);
        if (isHttp) throw new PlainHttp('plain HTTP on a TLS port');
        const hello = isHttp === undefined ? undefined : readClientHello(bytes);
        return hello && { value: hello, consumed: 0 };
      },
      (result) => {
        if ('error' in result) this.#refuse(arrival, result.error);
        else this.#takeUp({ arrival, hello: result.value });
      },
    );
  }

  #takeUp(held: Held): void {
    const { arrival, hello } = held;
    const { serverName } = hello;
    try {
      const site = this.#sites.find(serverName);
      const { virtualHost } = site;
      if (virtualHost.passthrough) {
        this.#passOn(arrival, virtualHost, serverName);
        return;
      }
      if (site.isAwaited) {
        this.#held.add(held);
        arrival.socket.once('close', () => this.#held.delete(held));
        return;
      }
      const server = this.#servers.get(virtualHost, identityFor(hello, site), allowsHttp2(hello, site.terms));
      this.#counters.now.contexts = this.#servers.size;
      this.#pending.set(arrival.socket, { arrival, virtualHost, serverName, rules: this.#rules.get(virtualHost.serverName) });
      server.emit('connection', arrival.socket);
    } catch (error) {
      this.#refuse(arrival, error);
    }
  }

  /** What is held goes on, where its virtual host is awaited no more. */
  #release(): void {
    for (const held of this.#held) {
      if (this.#sites.isAwaited(held.hello.serverName)) continue;
      this.#held.delete(held);
      this.#takeUp(held);
    }
  }

  #passOn(arrival: Arrival, virtualHost: VirtualHost, serverName: string | undefined): void {
    const { socket, peer, local } = arrival;
    const settled = (): void => {
      this.#counters.carried += 1;
      arrival.settled();
    };
    const refuse = (code: string): void => {
      arrival.refused(code);
      refuseWith(socket, new TlsAlert(Alert.internalError, code, '').record);
    };
    this.#onUnopened({ socket, peer, local, virtualHost, serverName, settled, refuse });
  }

  /** The TLS library hands back its own socket; `_parent` is the one that it was given. */
  #takePending(socket: TLSSocket): Pending | undefined {
    const { _parent: raw } = socket as TLSSocket & { _parent?: Socket };
    const pending = raw && this.#pending.get(raw);
    if (raw) this.#pending.delete(raw);
    return pending;
  }

  #secured(socket: TLSSocket, clients: ClientVerifier | undefined): void {
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
  #failed(error: Error & { reason?: string }, socket: TLSSocket): void {
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

  #refuse(arrival: Arrival, error: unknown): void {
    const { socket, peer } = arrival;
    const refusal = error instanceof Error ? error : new Error('refused');
    const code = refusal instanceof TlsAlert || refusal instanceof PlainHttp ? refusal.code : 'tls_context';
    this.#log[code === 'tls_context' ? 'error' : 'debug'](`connection refused: ${refusal.message}`, { code, client: peer.address });
    arrival.refused(code);
    refuseWith(
      socket,
      refusal instanceof PlainHttp ? refusal.answer : refusal instanceof TlsAlert ? refusal.record : new TlsAlert(Alert.internalError, code, '').record,
    );
  }
}

function refusedCertificate(reason: string): string {
  return `the client's certificate is refused (${reason})`;
}

/** As `ClientHello.serverName`; the library has `false` for none. */
function normalized(name: string | false | null): string | undefined {
  return name ? name.toLowerCase().replace(/\.$/, '') : undefined;
}

/** The client has until the deadline of its handshake to take the answer and to close. */
function refuseWith(socket: Socket, answer: string | Buffer): void {
  socket.end(answer);
  socket.resume();
}
