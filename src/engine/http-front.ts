import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import type { Config, Timeouts } from '../config/schema.ts';
import type { Log } from '../log.ts';
import type { Connection } from '../proxy/client-stream.ts';
import { Deadlines } from '../proxy/deadlines.ts';
import { Handler } from '../proxy/handler.ts';
import type { BackendFiles } from './backend-tls.ts';
import { type ClientConnection, type ConnectionHost, FIRST_REQUEST } from './client-connection.ts';
import { Http1Connection } from './http1-connection.ts';
import { Http2Connection } from './http2-connection.ts';
import { HttpProxyEngine } from './http-proxy.ts';
import { IdleConnections } from './idle-connections.ts';
import { NativeEngine } from './native.ts';
import { OpenConnections } from './open-connections.ts';

export type { Connection } from '../proxy/client-stream.ts';

/** Serves HTTP on connections that others have accepted: sockets after their TLS handshake, or plain ones. */
export class HttpFront implements ConnectionHost {
  readonly log: Log;
  readonly handler: Handler;
  readonly deadlines = new Deadlines();
  timeouts: Timeouts;
  http2: Config['http2'];
  isClosing = false;
  isHurrying = false;
  readonly #engines: { native: NativeEngine; 'http-proxy': HttpProxyEngine };
  readonly #connections = new OpenConnections<ClientConnection>();
  readonly #idle = new IdleConnections(this.#connections);

  constructor({ config, backendFiles = new Map(), log }: { config: Config; backendFiles?: BackendFiles; log: Log }) {
    this.log = log;
    this.timeouts = config.timeouts;
    this.http2 = config.http2;
    this.#engines = { native: new NativeEngine(this.deadlines), 'http-proxy': new HttpProxyEngine() };
    for (const engine of Object.values(this.#engines)) engine.update(backendFiles);
    this.handler = new Handler({ engines: this.#engines, log, deadlines: this.deadlines, config });
  }

  /** Connections that are open, tunnels among them. */
  get open(): number {
    return this.#connections.size;
  }

  /** Takes over a connection; it is closed by the client, by a timeout or by `close`. */
  accept(socket: Socket | TLSSocket, connection: Connection): void {
    if (socket.destroyed) return;
    const speaksHttp2 = 'alpnProtocol' in socket && socket.alpnProtocol === 'h2';
    this.#connections.add(speaksHttp2 ? new Http2Connection(socket, connection, this) : new Http1Connection(socket, connection, this));
  }

  left(connection: ClientConnection): void {
    this.#connections.delete(connection);
  }

  /** Serves new requests from another configuration. */
  update(config: Config, backendFiles: BackendFiles = new Map()): void {
    this.timeouts = config.timeouts;
    this.http2 = config.http2;
    for (const engine of Object.values(this.#engines)) engine.update(backendFiles);
    this.handler.update(config);
  }

  /**
   * Ends the connections of these virtual hosts, whose rules for client certificates have changed: who was let in under the
   * old ones is not served further. Requests that have been read are answered; a WebSocket that is open stays.
   */
  endOutdated(virtualHosts: ReadonlySet<string>): void {
    for (const one of this.#connections) if (virtualHosts.has(one.connection.virtualHost ?? '')) one.endOutdated();
  }

  /** From now on each answer says that it is the last of its connection. */
  announceEnd(): void {
    this.isClosing = true;
  }

  /**
   * Ends each connection after its next answer (or with its tunnel), and cuts what is left after `graceMs`, tunnels after `tunnelMs`.
   * @param hasSuccessor others serve from now on, so there is time: an idle connection may ask once more, because a request may
   *   be on its way already (HAProxy's idle-close-on-response)
   */
  async close(graceMs: number, hasSuccessor = false, tunnelMs = graceMs): Promise<void> {
    this.announceEnd();
    if (!hasSuccessor) this.endIdle();
    await this.#connections.drained(graceMs, tunnelMs);
    for (const engine of Object.values(this.#engines)) engine.close();
    this.deadlines.close();
  }

  /** Makes room for another connection, if one waits for its next request. */
  endLongestIdle(): void {
    this.#idle.endLongest();
  }

  /** Ends connections between two requests now, and new ones when their first request does not come soon. */
  endIdle(): void {
    this.isHurrying = true;
    const end = (isFresh: boolean): void => {
      for (const connection of this.#connections) if (connection.isIdle && connection.isFresh === isFresh) connection.endSoon();
    };
    end(false);
    setTimeout(() => end(true), FIRST_REQUEST).unref();
  }
}
