import * as net from 'node:net';
import type { Config, Timeouts } from '../config/schema.ts';
import type { BackendAddress } from '../config/values.ts';
import type { Log } from '../log.ts';
import type { TunnelTraffic } from '../proxy/engine.ts';
import { ProxyError } from '../proxy/proxy-error.ts';
import { type Endpoint, proxyHeader, type ProxyProtocolVersion } from '../proxy/proxy-protocol.ts';
import { type Upstream, UpstreamPool, Upstreams, waitedInVain } from '../proxy/upstream.ts';
import { connectTimeout } from './backend-socket.ts';
import { OpenConnections } from './open-connections.ts';
import { joinTunnel } from './tunnel.ts';

/** A client's connection that nobody has answered yet, for a virtual host with `tls: passthrough`. */
export interface UnopenedConnection {
  /** Paused; the ClientHello is still to be read from it. */
  socket: net.Socket;
  /** The client. */
  source: Endpoint;
  /** What it connected to. */
  destination: Endpoint;
  /** `server_name` of the virtual host. */
  virtualHost: string;
  /** The name that the client asked for. */
  serverName: string | undefined;
  /** To be called when a backend has the connection; until then it stands under a deadline. */
  settled: () => void;
  /** Tells the client that there is no backend. */
  refuse: (code: string) => void;
}

interface CarryingRoute {
  pool: UpstreamPool;
  proxyProtocol: ProxyProtocolVersion | undefined;
}

/** Carries connections, byte for byte, to applications that do their own TLS. */
export class Passthrough {
  readonly #log: Log;
  readonly #upstreams = new Upstreams();
  /** By `server_name`. */
  #routes = new Map<string, CarryingRoute>();
  #config: Config;
  readonly #clients = new OpenConnections<net.Socket>();

  constructor({ config, log }: { config: Config; log: Log }) {
    this.#log = log;
    this.#config = config;
    this.update(config);
  }

  /** Carries new connections as another configuration says; those that are open stay where they are. */
  update(config: Config): void {
    this.#config = config;
    const routes = config.virtualHosts.flatMap(({ serverName, passthrough, routes }) =>
      passthrough ? routes.map((route): [string, typeof route] => [serverName, route]) : [],
    );
    const upstream = this.#upstreams.replace(routes.flatMap(([, { backends }]) => backends));
    this.#routes = new Map(
      routes.map(([name, route]) => [name, { pool: new UpstreamPool(route.backends.map(upstream), route), proxyProtocol: route.proxyProtocol }]),
    );
  }

  /** Connections that are open. */
  get open(): number {
    return this.#clients.size;
  }

  /** Takes over a connection; resolves when both sides of it are closed and accounted for. Never rejects. */
  async accept(connection: UnopenedConnection): Promise<void> {
    const { socket } = connection;
    if (socket.destroyed) return;
    this.#clients.add(socket);
    await this.#carry(connection);
    this.#clients.delete(socket);
  }

  /** Lets open connections end by themselves, and cuts what is left after `graceMs`. */
  close(graceMs: number): Promise<void> {
    return this.#clients.drained(graceMs, graceMs);
  }

  async #carry(connection: UnopenedConnection): Promise<void> {
    const { socket, source, destination, virtualHost, serverName } = connection;
    const route = this.#routes.get(virtualHost);
    const { timeouts, log } = this.#config;
    const started = performance.now();
    const gone = new AbortController();
    socket.once('close', () => gone.abort());
    let traffic: TunnelTraffic = { received: 0, sent: 0 };
    let upstream: Upstream | undefined;
    try {
      const found = await this.#connect(route?.pool, timeouts, gone.signal);
      upstream = found.upstream;
      connection.settled();
      if (route?.proxyProtocol) found.backend.write(proxyHeader(route.proxyProtocol, { source, destination, authority: serverName }));
      // Node would answer the end of one side with the end of the other.
      socket.allowHalfOpen = true;
      traffic = await joinTunnel(socket, found.backend, timeouts.tunnel, timeouts.keepAlive);
      upstream.release();
    } catch (error) {
      const { code, message, facts } = error instanceof ProxyError ? error : new ProxyError('internal', (error as Error).message);
      const level = code === 'client_gone' ? 'debug' : code === 'internal' ? 'error' : 'warn';
      this.#log[level](message, { code, ...facts, virtual_host: virtualHost, client: source.address });
      if (!socket.destroyed) connection.refuse(code);
    }
    if (!log.access) return;
    const ms = Math.round(performance.now() - started);
    const facts = { received: traffic.received, bytes: traffic.sent, ms, client: source.address, backend: upstream?.address.name };
    this.#log.info(`passthrough ${serverName ?? '(no name)'}`, { ...facts, virtual_host: virtualHost });
  }

  /**
   * A connection to the first backend that accepts one; it counts as active there.
   * @throws ProxyError of the last attempt
   */
  async #connect(pool: UpstreamPool | undefined, timeouts: Timeouts, signal: AbortSignal): Promise<{ backend: net.Socket; upstream: Upstream }> {
    if (!pool) throw new ProxyError('internal', 'the virtual host has no backend');
    const tried = new Set<Upstream>();
    for (;;) {
      const upstream = await placeAt(pool, tried.size > 0 ? tried : undefined, timeouts.queue, signal);
      try {
        const backend = await connectTo(upstream.address, timeouts.connect, signal);
        upstream.reached();
        return { backend, upstream };
      } catch (error) {
        const isUnreachable = error instanceof ProxyError && error.code !== 'client_gone';
        if (isUnreachable) upstream.unreachable(Date.now());
        tried.add(upstream);
        upstream.release();
        if (!isUnreachable || pool.size === tried.size) throw error;
        this.#log.warn(`${error.message}; trying the next one`, { code: error.code, ...error.facts });
      }
    }
  }
}

/**
 * A place at a backend, as soon as there is one.
 * @throws ProxyError backend_busy, queue_timeout, client_gone
 */
async function placeAt(pool: UpstreamPool, tried: ReadonlySet<Upstream> | undefined, timeout: number, signal: AbortSignal): Promise<Upstream> {
  const upstream = pool.take(tried, Date.now());
  if (upstream) return upstream;
  const { promise, resolve, reject } = Promise.withResolvers<Upstream>();
  const waiter = { tried, admitted: resolve };
  pool.wait(waiter, tried !== undefined);
  const leave = (error: ProxyError): void => {
    pool.leave(waiter);
    reject(error);
  };
  const left = (): void => leave(new ProxyError('client_gone', 'the client went away'));
  const timer = setTimeout(() => leave(waitedInVain()), timeout);
  signal.addEventListener('abort', left);
  return promise.finally(() => {
    clearTimeout(timer);
    signal.removeEventListener('abort', left);
  });
}

/** @throws ProxyError backend_unreachable, backend_connect_timeout, client_gone */
function connectTo(address: BackendAddress, timeout: number, signal: AbortSignal): Promise<net.Socket> {
  const { promise, resolve, reject } = Promise.withResolvers<net.Socket>();
  const where = 'socketPath' in address ? { path: address.socketPath } : { host: address.host, port: address.port };
  const backend = net.connect({ ...where, allowHalfOpen: true, noDelay: true, keepAlive: true });
  const { name } = address;
  const fail = (error: ProxyError): void => {
    backend.destroy();
    reject(error);
  };
  const late = (): void => fail(connectTimeout(address));
  const left = (): void => fail(new ProxyError('client_gone', 'the client went away', { backend: name }));
  const timer = setTimeout(late, timeout);
  const done = (): void => {
    clearTimeout(timer);
    signal.removeEventListener('abort', left);
  };
  signal.addEventListener('abort', left);
  backend.once('connect', () => resolve(backend));
  backend.on('error', ({ code, message }: NodeJS.ErrnoException) =>
    fail(new ProxyError('backend_unreachable', 'no connection to the backend', { backend: name, setting: 'virtual_hosts[].backends', cause: code ?? message })),
  );
  if (signal.aborted) left();
  return promise.finally(done);
}
