import * as net from 'node:net';
import { networkMatcher, unmapped } from '../config/networks.ts';
import type { Config, Listen } from '../config/schema.ts';
import type { Log } from '../log.ts';
import { type ProxiedPeer, readProxyHeader } from './proxy-protocol.ts';
import { readPrefix } from './read-prefix.ts';

/** Who is at the other end of a connection; the address is empty for a unix socket. */
export interface Peer {
  address: string;
  port: number;
}

export interface Accepted {
  socket: net.Socket;
  peer: Peer;
  /** Lifts the deadline (`timeouts.handshake`) under which every new connection stands. */
  settled: () => void;
}

/** Accepts connections on a listening socket inherited as a file descriptor, and finds out who the client is. */
export class Listener {
  /** Its words in the configuration. A reload may change all but the address. */
  listen: Listen;
  readonly #server: net.Server;
  readonly #config: () => Config;
  readonly #log: Log;
  readonly #refused = new Set<string>();
  readonly #onConnection: (accepted: Accepted) => void;
  /** Accepted and not yet settled. */
  readonly #arriving = new Set<net.Socket>();
  #arrived: () => void = () => {};

  constructor(options: { listen: Listen; config: () => Config; log: Log; onConnection: (accepted: Accepted) => void }) {
    this.listen = options.listen;
    this.#config = options.config;
    this.#log = options.log;
    this.#onConnection = options.onConnection;
    this.#server = net.createServer({ noDelay: true, keepAlive: true }, (socket) => this.#accept(socket));
  }

  /** @throws Error naming the address when the socket cannot listen */
  async start(fd: number): Promise<void> {
    const listening = Promise.withResolvers<void>();
    this.#server.once('error', listening.reject);
    this.#server.listen({ fd, backlog: 4096 }, listening.resolve);
    try {
      await listening.promise;
    } catch (error) {
      // 0.0.0.0:443 and 127.0.0.1:443 can both be bound, but only one of them can listen.
      const inUse = (error as NodeJS.ErrnoException).code === 'EADDRINUSE' ? ': another program, or another entry of listen, has the port' : '';
      throw new Error(`cannot listen on ${this.listen.address.name}: ${(error as NodeJS.ErrnoException).code}${inUse}`, { cause: error });
    }
    this.#server.off('error', listening.reject);
    this.#server.on('error', (error) => this.#log.error(`${this.listen.address.name}: ${error.message}`, { code: 'accept_failed' }));
  }

  /** Stops accepting at once; resolves when no connection that was accepted before is still on its way to be settled. */
  async close(): Promise<void> {
    this.#server.close();
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#arrived = resolve;
    if (this.#arriving.size > 0) await promise;
  }

  #accept(socket: net.Socket): void {
    // A reset before anyone else listens must not become an uncaught exception.
    socket.on('error', () => socket.destroy());
    const deadline = setTimeout(() => socket.destroy(), this.#config().timeouts.handshake);
    this.#arriving.add(socket);
    const settled = () => {
      clearTimeout(deadline);
      this.#arriving.delete(socket);
      if (this.#arriving.size === 0) this.#arrived();
    };
    socket.once('close', settled);
    const peer: Peer = { address: unmapped(socket.remoteAddress ?? ''), port: socket.remotePort ?? 0 };
    if (!this.listen.proxyProtocol) {
      this.#onConnection({ socket, peer, settled });
      return;
    }
    if (peer.address !== '' && !networkMatcher(this.#config().trustedProxies)(peer.address)) {
      this.#refuse(socket, peer, 'it is not in trusted_proxies');
      return;
    }
    readPrefix<{ proxied: ProxiedPeer | undefined }>(
      socket,
      (bytes) => {
        const header = readProxyHeader(bytes);
        return header && { value: { proxied: header.value }, consumed: header.consumed };
      },
      (result) => {
        if ('error' in result) this.#refuse(socket, peer, result.error instanceof Error ? result.error.message : 'malformed');
        else this.#onConnection({ socket, peer: result.value.proxied ?? peer, settled });
      },
    );
  }

  #refuse(socket: net.Socket, peer: Peer, why: string): void {
    // Once for each address: a stranger must not fill the log.
    const level = this.#refused.size < 100 && !this.#refused.has(peer.address) ? 'warn' : 'debug';
    if (level === 'warn') this.#refused.add(peer.address);
    this.#log[level](`${this.listen.address.name}: connection from ${peer.address || 'a unix socket'} refused: ${why}`, { code: 'proxy_protocol' });
    socket.destroy();
  }
}
