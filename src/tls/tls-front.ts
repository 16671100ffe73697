import { X509Certificate } from 'node:crypto';
import type { Socket } from 'node:net';
import type { Server, TLSSocket } from 'node:tls';
import { type ConnectionCounters, count } from '../connection-counters.ts';
import type { ClientCertificateValues, VirtualHost } from '../config/schema.ts';
import { ServerNames } from '../config/server-names.ts';
import type { Log } from '../log.ts';
import type { Identity, ServableStaple, Snapshot } from '../snapshot.ts';
import { Alert, TlsAlert } from './alert.ts';
import type { Arrival, Peer } from './arrival.ts';
import { ClientVerifier, reasonOf } from './client-certificate.ts';
import { readClientHello, type ClientHello } from './client-hello.ts';
import { chooseIdentity, type SigningKey, type Terms } from './key-choice.ts';
import { ecdsaSuitesIn, protocolOptions } from './policy.ts';
import { readPrefix } from './read-prefix.ts';
import { createSecureServer, ticketKeys } from './secure-server.ts';

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

const versionNumbers = { TLSv1: 0x0301, 'TLSv1.1': 0x0302, 'TLSv1.2': 0x0303, 'TLSv1.3': 0x0304 };

interface Site {
  virtualHost: VirtualHost;
  terms: Terms;
  identities: ChoosableIdentity[];
  isAwaited: boolean;
}

/** An identity with what the choice needs; the certificate is parsed at its first use only. */
class ChoosableIdentity {
  readonly identity: Identity;
  #signingKey: SigningKey | undefined;

  constructor(identity: Identity) {
    this.identity = identity;
  }

  get signingKey(): SigningKey {
    this.#signingKey ??=
      this.identity.keyType === 'ecdsa'
        ? (new X509Certificate(this.identity.certificate).publicKey.asymmetricKeyDetails?.namedCurve as SigningKey)
        : this.identity.keyType;
    return this.#signingKey;
  }
}

interface Pending {
  arrival: Arrival;
  virtualHost: VirtualHost;
  serverName: string | undefined;
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
  readonly #mostContexts: number;
  readonly #staple: (fingerprint: string) => ServableStaple | undefined;
  readonly #onSecure: (connection: SecureConnection) => void;
  readonly #onUnopened: (connection: UnopenedConnection) => void;
  #sites = new ServerNames<Site>([]);
  #byServerName = new Map<string, Site>();
  #clientAuthorities = new Map<string, string>();
  #ticketSecret: Uint8Array = new Uint8Array();
  /** By everything that went into them, least recently used first. */
  readonly #servers = new Map<string, { server: Server; virtualHost: string }>();
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
    this.#mostContexts = options.mostContexts ?? mostContexts;
    this.#staple = options.staple;
    this.#onSecure = options.onSecure;
    this.#onUnopened = options.onUnopened;
  }

  /** Serves new connections from this snapshot; those already open go on. */
  update({ config, identities, awaited, clientAuthorities, ticketSecret }: Snapshot): void {
    const isAwaited = new Set(awaited);
    const byVirtualHost = Map.groupBy(identities, ({ virtualHost }) => virtualHost);
    const known = new Map<string, ReadonlySet<number>>();
    const suitesIn = (ciphers: string) => {
      const suites = known.get(ciphers) ?? ecdsaSuitesIn(ciphers);
      known.set(ciphers, suites);
      return suites;
    };
    const sites = config.virtualHosts.map((virtualHost): Site => {
      const own = (byVirtualHost.get(virtualHost.serverName) ?? []).map((identity) => new ChoosableIdentity(identity));
      const { maxVersion, ciphers } = protocolOptions(virtualHost.tls);
      return {
        virtualHost,
        terms: { highestVersion: versionNumbers[maxVersion], ecdsaSuites: () => suitesIn(ciphers) },
        identities: own,
        isAwaited: isAwaited.has(virtualHost.serverName),
      };
    });
    this.#sites = new ServerNames(
      sites.map((site) => ({ names: [site.virtualHost.serverName, ...site.virtualHost.aliases], isDefault: site.virtualHost.default, value: site })),
    );
    this.#byServerName = new Map(sites.map((site) => [site.virtualHost.serverName, site]));
    this.#clientAuthorities = clientAuthorities;
    this.#servers.clear();
    this.#counters.now.contexts = 0;
    this.setTicketSecret(ticketSecret);
    this.#release();
  }

  /** Replaces all identities of some virtual hosts. */
  setIdentities(virtualHosts: readonly string[], identities: readonly Identity[]): void {
    const byVirtualHost = Map.groupBy(identities, ({ virtualHost }) => virtualHost);
    for (const name of virtualHosts) {
      const site = this.#byServerName.get(name);
      if (site === undefined) continue;
      site.identities = (byVirtualHost.get(name) ?? []).map((identity) => new ChoosableIdentity(identity));
      site.isAwaited = false;
    }
    const changed = new Set(virtualHosts);
    for (const [key, entry] of this.#servers) if (changed.has(entry.virtualHost)) this.#servers.delete(key);
    this.#counters.now.contexts = this.#servers.size;
    this.#release();
  }

  setTicketSecret(ticketSecret: Uint8Array): void {
    this.#ticketSecret = ticketSecret;
    for (const { server, virtualHost } of this.#servers.values()) server.setTicketKeys(ticketKeys(ticketSecret, virtualHost));
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
      const site = this.#siteFor(serverName);
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
      const server = this.#serverFor(virtualHost, this.#identityFor(hello, site));
      this.#pending.set(arrival.socket, { arrival, virtualHost, serverName });
      server.emit('connection', arrival.socket);
    } catch (error) {
      this.#refuse(arrival, error);
    }
  }

  /** What is held goes on, where its virtual host is awaited no more. */
  #release(): void {
    for (const held of this.#held) {
      if (this.#sites.find(held.hello.serverName)?.isAwaited) continue;
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

  #siteFor(serverName: string | undefined): Site {
    const site = this.#sites.find(serverName);
    if (site) return site;
    const asked = serverName === undefined ? 'no server name' : `the unknown name ${serverName}`;
    throw new TlsAlert(Alert.unrecognizedName, 'unrecognized_name', `${asked} was asked for, and no virtual host is the default`);
  }

  #identityFor(hello: ClientHello, { virtualHost, identities, terms }: Site): Identity {
    const chosen = chooseIdentity(hello, identities, terms);
    if (!chosen) throw new TlsAlert(Alert.handshakeFailure, 'no_certificate', `virtual host ${virtualHost.serverName} has no usable certificate`);
    return chosen.identity;
  }

  /**
   * Virtual hosts with the same certificate do not share one: ticket keys belong to a context, and a session that was set up
   * under one virtual host must not open another (Delignat-Lavaud and Bhargavan, "Virtual host confusion", 2014).
   */
  #serverFor(virtualHost: VirtualHost, identity: Identity): Server {
    const key = `${virtualHost.serverName} ${identity.keyType} ${identity.fingerprint}`;
    let entry = this.#servers.get(key);
    this.#servers.delete(key);
    if (!entry) {
      const server = this.#createServer(virtualHost, identity);
      entry = { server, virtualHost: virtualHost.serverName };
      const oldest = this.#servers.size >= this.#mostContexts ? this.#servers.keys().next().value : undefined;
      if (oldest !== undefined) this.#servers.delete(oldest);
    }
    this.#servers.set(key, entry);
    this.#counters.now.contexts = this.#servers.size;
    return entry.server;
  }

  #createServer(virtualHost: VirtualHost, identity: Identity): Server {
    const { clientAuth } = virtualHost.tls;
    const clientAuthority = this.#clientAuthorities.get(clientAuth.ca ?? '');
    const clients = clientAuth.mode === 'none' || clientAuthority === undefined ? undefined : new ClientVerifier(clientAuth, clientAuthority);
    const server = createSecureServer({
      virtualHost,
      identity,
      clientAuthority,
      clients,
      ticketSecret: this.#ticketSecret,
      // Another virtual host may staple for the same certificate.
      staple: () => (virtualHost.ocsp.stapling ? this.#staple(identity.fingerprint) : undefined),
    });
    server.on('secureConnection', (socket: TLSSocket) => this.#secured(socket, clients));
    server.on('tlsClientError', (error, socket) => this.#failed(error, socket));
    return server;
  }

  /** The TLS library hands back its own socket; `_parent` is the one that it was given. */
  #pendingOf(socket: TLSSocket): Pending | undefined {
    const { _parent: raw } = socket as TLSSocket & { _parent?: Socket };
    return raw && this.#pending.get(raw);
  }

  #secured(socket: TLSSocket, clients: ClientVerifier | undefined): void {
    const pending = this.#pendingOf(socket);
    const version = socket.getProtocol() ?? 'unknown';
    // A second ClientHello after a HelloRetryRequest must not name another virtual host than the one that was chosen. Before
    // TLS 1.3 there is none, and of a resumed session the library does not know the name.
    const isOther = version === 'TLSv1.3' && normalized(socket.servername) !== pending?.serverName;
    if (!pending || isOther) {
      this.#log.warn('connection refused: its server name changed during the handshake', {
        code: 'server_name_changed',
        client: pending?.arrival.peer.address,
      });
      pending?.arrival.refused('server_name_changed');
      socket.destroy();
      return;
    }
    const { arrival, virtualHost } = pending;
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

  /** The TLS library has given up; without a reason of its own the client went away, and the end of its connection says so. */
  #failed(error: Error & { reason?: string }, socket: TLSSocket): void {
    const { authorizationError } = socket;
    const refusal = authorizationError ? reasonOf(authorizationError) : undefined;
    // It lets every client certificate pass, says afterwards what was wrong with it, and closes the connection without an alert:
    // without these words it would be a hang-up.
    this.#handshakeFailed(
      this.#pendingOf(socket),
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
      refusal instanceof PlainHttp ? plainHttpAnswer : refusal instanceof TlsAlert ? refusal.record : new TlsAlert(Alert.internalError, code, '').record,
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

class PlainHttp extends Error {
  readonly code = 'plain_http';
}

/** A request line begins with a method in capital letters; a TLS record never does. @returns undefined when it is too early to tell */
function looksLikeHttp(bytes: Buffer): boolean | undefined {
  const text = bytes.toString('latin1', 0, 16);
  return /^[A-Z]{3,8} \S/.test(text) || (/^[A-Z]{1,8} ?$/.test(text) ? undefined : false);
}

const plainHttpText = 'This port speaks TLS: use https:// instead of http://.\n';
const plainHttpAnswer = `HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: ${plainHttpText.length}\r\nConnection: close\r\n\r\n${plainHttpText}`;
