import type { Server, TLSSocket } from 'node:tls';
import type { VirtualHost } from '../config/schema.ts';
import type { Identity, ServableStaple, Snapshot } from '../snapshot.ts';
import { ClientVerifier } from './client-certificate.ts';
import { createSecureServer, ticketKeys } from './secure-server.ts';

export interface SecureServersOptions {
  /** How many are kept. */
  most: number;
  staple: (fingerprint: string) => ServableStaple | undefined;
  /** A handshake is done; `clients` judges the client's certificate where one was asked for. */
  onSecure: (socket: TLSSocket, clients: ClientVerifier | undefined) => void;
  onFailed: (error: Error & { reason?: string }, socket: TLSSocket) => void;
}

/**
 * The `tls.Server` of each virtual host and identity, made at the first handshake that needs it. Beyond a number, the one
 * used longest ago goes: its connections keep what they need of it, and it is made anew when it is asked for.
 *
 * Virtual hosts with the same certificate do not share one: ticket keys belong to a context, and a session that was set up
 * under one virtual host must not open another (Delignat-Lavaud and Bhargavan, "Virtual host confusion", 2014).
 */
export class SecureServers {
  readonly #options: SecureServersOptions;
  /** By everything that went into them, least recently used first. */
  readonly #servers = new Map<string, { server: Server; virtualHost: string }>();
  #ticketSecret: Uint8Array = new Uint8Array();
  #ticketRotation = 0;
  #clientAuthorities: ReadonlyMap<string, string> = new Map();

  constructor(options: SecureServersOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#servers.size;
  }

  /** All are made anew, from these. */
  reset({ config, ticketSecret, clientAuthorities }: Pick<Snapshot, 'config' | 'ticketSecret' | 'clientAuthorities'>): void {
    this.#servers.clear();
    this.#ticketSecret = ticketSecret;
    this.#ticketRotation = config.tls.ticketRotation;
    this.#clientAuthorities = clientAuthorities;
  }

  /** Those of these virtual hosts are made anew. */
  forget(virtualHosts: ReadonlySet<string>): void {
    for (const [key, { virtualHost }] of this.#servers) if (virtualHosts.has(virtualHost)) this.#servers.delete(key);
  }

  setTicketSecret(ticketSecret: Uint8Array): void {
    this.#ticketSecret = ticketSecret;
    for (const { server, virtualHost } of this.#servers.values()) server.setTicketKeys(ticketKeys(ticketSecret, virtualHost));
  }

  /**
   * @param http2 whether `h2` may be chosen, if `tls.alpn` has it
   * @throws Error of the TLS library when certificate, key, ciphers or authorities do not fit together
   */
  get(virtualHost: VirtualHost, identity: Identity, http2: boolean): Server {
    const alpn = http2 ? virtualHost.tls.alpn : virtualHost.tls.alpn.filter((protocol) => protocol !== 'h2');
    const key = `${virtualHost.serverName} ${identity.keyType} ${identity.fingerprint} ${alpn.length}`;
    const known = this.#servers.get(key);
    this.#servers.delete(key);
    const entry = known ?? { server: this.#create(virtualHost, identity, alpn), virtualHost: virtualHost.serverName };
    const oldest = this.#servers.size >= this.#options.most ? this.#servers.keys().next().value : undefined;
    if (oldest !== undefined) this.#servers.delete(oldest);
    this.#servers.set(key, entry);
    return entry.server;
  }

  #create(virtualHost: VirtualHost, identity: Identity, alpn: string[]): Server {
    const { staple, onSecure, onFailed } = this.#options;
    const { clientAuth } = virtualHost.tls;
    const clientAuthority = this.#clientAuthorities.get(clientAuth.ca ?? '');
    const clients = clientAuth.mode === 'none' || clientAuthority === undefined ? undefined : new ClientVerifier(clientAuth, clientAuthority);
    const server = createSecureServer({
      virtualHost,
      identity,
      clientAuthority,
      clients,
      ticketSecret: this.#ticketSecret,
      ticketRotation: this.#ticketRotation,
      alpn,
      // Another virtual host may staple for the same certificate.
      staple: () => (virtualHost.ocsp.stapling ? staple(identity.fingerprint) : undefined),
    });
    server.on('secureConnection', (socket: TLSSocket) => onSecure(socket, clients));
    server.on('tlsClientError', onFailed);
    return server;
  }
}
