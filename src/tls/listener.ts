import * as net from 'node:net';
import { setImmediate as turn } from 'node:timers/promises';
import { networkMatcher } from '../config/networks.ts';
import type { Config, Listen } from '../config/schema.ts';
import type { Log } from '../log.ts';
import type { Admission } from './admission.ts';
import type { Arrival } from './arrival.ts';
import { type ProxiedConnection, readProxyHeader } from './proxy-protocol.ts';
import { readPrefix } from './read-prefix.ts';

/** How long, in milliseconds, a socket that is about to be closed is still accepted on. */
const longestQueue = 200;

const remedies: Record<string, string> = {
  // 0.0.0.0:443 can be bound while another program has only bound 127.0.0.1:443; the first to listen wins.
  EADDRINUSE: 'another program has the port',
  EINVAL: 'what the service manager passed is no stream socket (ListenStream=, LISTEN_FDS)',
};

/** Both return 0 or an error number of libuv. */
interface ListeningHandle {
  readStart(): number;
  readStop(): number;
}

/** Accepts connections on a listening socket inherited as a file descriptor, and finds out who the client is. */
export class Listener {
  /** Its words in the configuration. A reload may change all but the address. */
  listen: Listen;
  readonly #server: net.Server;
  readonly #config: () => Config;
  readonly #log: Log;
  readonly #admission: Admission;
  readonly #refused = new Set<string>();
  readonly #onConnection: (arrival: Arrival) => void;
  /** Whether connections have no addresses because they come through a unix socket. */
  #isUnix = false;
  /** Connections that have been accepted and have not arrived. */
  #arriving = 0;
  #accepted = 0;
  #isClosed = false;
  readonly #empty = Promise.withResolvers<void>();

  constructor(options: { listen: Listen; config: () => Config; log: Log; admission: Admission; onConnection: (arrival: Arrival) => void }) {
    this.listen = options.listen;
    this.#config = options.config;
    this.#log = options.log;
    this.#admission = options.admission;
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
      const { code = '' } = error as NodeJS.ErrnoException;
      throw new Error(`cannot listen on ${this.listen.address.name}: ${code}: ${remedies[code] ?? 'see listen[].address'}`, { cause: error });
    }
    this.#isUnix = typeof (this.#server.address() ?? '') === 'string';
    this.#server.off('error', listening.reject);
    this.#server.on('error', (error) => this.#log.error(`${this.listen.address.name}: ${error.message}`, { code: 'accept_failed' }));
    this.#admission.add(this);
  }

  /** Leaves new connections in the kernel's queue. */
  pause(): void {
    // Node offers no way to stop accepting but to close the socket. The handle was opened from a descriptor, so it can be told to
    // read, which for a listening socket means to accept; only after that will it be told to stop.
    this.#handle?.readStart();
    this.#handle?.readStop();
  }

  /** Accepts again. */
  resume(): void {
    this.#handle?.readStart();
  }

  get #handle(): ListeningHandle | undefined {
    return (this.#server as net.Server & { _handle?: ListeningHandle })._handle;
  }

  /** Stops accepting; resolves when no connection that was accepted before is still on its way. */
  async close(): Promise<void> {
    this.#admission.remove(this);
    await this.#emptyQueue();
    this.#server.close();
    this.#isClosed = true;
    if (this.#arriving > 0) await this.#empty.promise;
  }

  /** Accepts who waits in the kernel's queue: when the last descriptor of a socket is closed, they would be reset. */
  async #emptyQueue(): Promise<void> {
    const latest = performance.now() + longestQueue;
    // A turn of the event loop accepts one; the first two may have begun before the last one came.
    for (let quiet = 0; quiet < 2 && performance.now() < latest;) {
      const before = this.#accepted;
      await turn();
      quiet = this.#accepted === before ? quiet + 1 : 0;
    }
  }

  /** One of its connections is past its handshake, or has ended. */
  arrived(): void {
    this.#arriving -= 1;
    if (this.#isClosed && this.#arriving === 0) this.#empty.resolve();
  }

  #accept(socket: net.Socket): void {
    this.#accepted += 1;
    this.#arriving += 1;
    const arrival = this.#admission.enter(socket, this.#config().timeouts.handshake, this);
    const { peer } = arrival;
    // What a client has sent can still be read after it has reset the connection, but not who it was: without this it could
    // have a PROXY header of its own believed, or pass for somebody behind a unix socket.
    if (peer.address === '' && !this.#isUnix) {
      arrival.drop('handshake_abandoned');
      return;
    }
    if (!this.listen.proxyProtocol) {
      this.#admit(arrival);
      return;
    }
    if (!this.#isUnix && !networkMatcher(this.#config().trustedProxies)(peer.address)) {
      this.#distrust(arrival, 'it is not in trusted_proxies');
      return;
    }
    readPrefix<{ proxied: ProxiedConnection | undefined }>(
      socket,
      (bytes) => {
        const header = readProxyHeader(bytes);
        return header && { value: { proxied: header.value }, consumed: header.consumed };
      },
      (result) => {
        if ('error' in result) {
          this.#distrust(arrival, `${result.error instanceof Error ? result.error.message : 'malformed'} (listen[].proxy_protocol)`);
          return;
        }
        const { proxied } = result.value;
        if (proxied) [arrival.peer, arrival.local] = [proxied.source, proxied.destination];
        this.#admit(arrival);
      },
    );
  }

  #admit(arrival: Arrival): void {
    const { address } = arrival.peer;
    // A load balancer that sends no PROXY header has all its clients behind one address.
    const isCounted = this.#admission.countsClients && address !== '' && !networkMatcher(this.#config().trustedProxies)(address);
    if (!isCounted || this.#admission.admits(arrival)) this.#onConnection(arrival);
    else arrival.drop('client_limit');
  }

  #distrust(arrival: Arrival, why: string): void {
    const { address } = arrival.peer;
    // Once for each address: a stranger must not fill the log.
    const level = this.#refused.size < 100 && !this.#refused.has(address) ? 'warn' : 'debug';
    if (level === 'warn') this.#refused.add(address);
    this.#log[level](`${this.listen.address.name}: connection from ${address || 'a unix socket'} refused: ${why}`, { code: 'proxy_protocol' });
    arrival.drop('proxy_protocol');
  }
}
