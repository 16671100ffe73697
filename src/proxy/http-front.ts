import * as http from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { Config } from '../config/schema.ts';
import type { Log } from '../log.ts';
import type { Engine } from './engine.ts';
import { Handler, type Connection } from './handler.ts';
import { drain, linger } from './leftovers.ts';
import { field } from './headers.ts';
import { ProxyError, type ProxyErrorCode } from './proxy-error.ts';
import { parseRequestHead } from './request-head.ts';
import { headBytes, page } from './respond.ts';

export type { Connection } from './handler.ts';

/** The largest request head; Node answers 431 beyond it. */
const MAX_HEAD = 32_768;
/** How long the first request of a new connection may take at a shutdown, in milliseconds: it is on its way. */
const FIRST_REQUEST = 2_000;
/** Requests that a client may send ahead of their answers; apt sends ten. */
const MAX_PIPELINED = 100;

interface ClientState {
  connection: Connection;
  /** Requests that have been read and are not finished: the first is being answered, the others wait. */
  pending: number;
  /** Settles when the requests read so far are finished. */
  turn: Promise<void>;
  /** The request read last. */
  latest: http.IncomingMessage | undefined;
  /** The answer being written, if any. */
  current: http.ServerResponse | undefined;
  /** What came last was not HTTP: the requests before it are answered, then the connection ends. */
  failed: boolean;
  /** The handshake obeyed rules that are not in force any more: nothing new is taken from this connection. */
  outdated: boolean;
}

const PARSER_ERRORS: Record<string, ProxyErrorCode> = {
  HPE_HEADER_OVERFLOW: 'head_too_large',
  HPE_CHUNK_EXTENSIONS_OVERFLOW: 'chunk_extensions_too_large',
  ERR_HTTP_REQUEST_TIMEOUT: 'client_head_timeout',
};

/** Speaks HTTP/1 on connections that others have accepted: sockets after their TLS handshake, or plain ones. */
export class HttpFront {
  readonly #log: Log;
  readonly #engine: Engine;
  readonly #handler: Handler;
  readonly #server: http.Server;
  readonly #clients = new Map<Socket, ClientState>();
  /** Each answer is the last of its connection. */
  #closing = false;
  /** Nobody waits for idle connections. */
  #hurrying = false;
  #emptied: (() => void) | undefined;

  /** `engine` is closed with the front. */
  constructor({ config, log, engine }: { config: Config; log: Log; engine: Engine }) {
    this.#log = log;
    this.#engine = engine;
    this.#handler = new Handler(engine, log, config);
    this.#server = http.createServer({
      insecureHTTPParser: false,
      requireHostHeader: false,
      maxHeaderSize: MAX_HEAD,
      requestTimeout: 0,
      connectionsCheckingInterval: 1_000,
      shouldUpgradeCallback: (req) => this.#mayUpgrade(req),
    });
    // The parser would silently drop fields beyond a count; the count is checked with the rest of the head.
    this.#server.maxHeadersCount = 0;
    const enter = (req: http.IncomingMessage, res: http.ServerResponse): void => this.#enter(req, res, undefined);
    this.#server.on('request', enter).on('checkContinue', enter).on('checkExpectation', enter);
    const detached = (req: http.IncomingMessage, _socket: Duplex, early: Buffer): void => this.#detached(req, early);
    this.#server.on('upgrade', detached).on('connect', detached);
    this.#server.on('clientError', (error: NodeJS.ErrnoException, socket) => this.#failed(error, socket as Socket));
    this.#time(config);
    // Without it the timeouts of a server that never listens do not run.
    this.#server.emit('listening');
  }

  /** Connections that are open, tunnels among them. */
  get open(): number {
    return this.#clients.size;
  }

  /** Takes over a connection; it is closed by the client, by a timeout or by `close`. */
  accept(socket: Socket, connection: Connection): void {
    if (socket.destroyed) return;
    const state: ClientState = { connection, pending: 0, turn: Promise.resolve(), latest: undefined, current: undefined, failed: false, outdated: false };
    this.#clients.set(socket, state);
    socket.once('close', () => {
      // Open until the last exchange is accounted for.
      void state.turn.then(() => {
        this.#clients.delete(socket);
        if (this.#clients.size === 0) this.#emptied?.();
      });
    });
    this.#server.emit('connection', socket);
  }

  /** Serves new requests from another configuration. */
  update(config: Config): void {
    this.#handler.update(config);
    this.#time(config);
  }

  /**
   * Ends the connections of these virtual hosts, whose rules for client certificates have changed: who was let in under the
   * old ones is not served further. Requests that have been read are answered; a WebSocket that is open stays.
   */
  endOutdated(virtualHosts: ReadonlySet<string>): void {
    for (const [socket, state] of this.#clients) {
      if (state.connection.virtualHost === undefined || !virtualHosts.has(state.connection.virtualHost)) continue;
      state.outdated = true;
      if (state.pending === 0) socket.destroySoon();
    }
  }

  /** From now on each answer says that it is the last of its connection. */
  announceEnd(): void {
    this.#closing = true;
  }

  /**
   * Ends each connection after its next answer (or with its tunnel), and cuts what is left after `graceMs`.
   * @param hasSuccessor others serve from now on, so there is time: an idle connection may ask once more, because a request may
   *   be on its way already (HAProxy's idle-close-on-response)
   */
  async close(graceMs: number, hasSuccessor = false): Promise<void> {
    this.announceEnd();
    if (!hasSuccessor) this.endIdle();
    if (this.#clients.size > 0) {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#emptied = resolve;
      const timer = setTimeout(() => {
        for (const socket of this.#clients.keys()) socket.destroy();
      }, graceMs);
      await promise;
      clearTimeout(timer);
    }
    this.#engine.close();
    this.#server.close();
  }

  /** Ends connections between two requests now, and new ones when their first request does not come soon. */
  endIdle(): void {
    this.#hurrying = true;
    const end = (isNew: boolean): void => {
      for (const [socket, { pending, latest }] of this.#clients) if (pending === 0 && (latest === undefined) === isNew) socket.destroySoon();
    };
    end(false);
    setTimeout(() => end(true), FIRST_REQUEST).unref();
  }

  #time({ timeouts }: Config): void {
    this.#server.headersTimeout = timeouts.requestHeader;
    this.#server.keepAliveTimeout = timeouts.keepAlive;
  }

  /** A request waits for its predecessors: their answers may be what it depends on (RFC 9112, 9.3.2). */
  #enter(req: http.IncomingMessage, res: http.ServerResponse, upgrade: Duplex | undefined): void {
    const { socket } = req;
    const state = this.#clients.get(socket);
    if (!state || state.pending >= MAX_PIPELINED) {
      socket.destroy();
      return;
    }
    if (state.outdated) return;
    // A late write to a connection that is gone; the exchange hears of that from `close`.
    res.on('error', () => {});
    state.pending += 1;
    state.latest = req;
    state.turn = state.turn.then(async () => {
      // After an answer that ends the connection, nothing behind it counts; nor does a request that will never be complete.
      if (socket.writable && (req.complete || !state.failed)) {
        state.current = res;
        await this.#handler.handle({ req, res, connection: state.connection, upgrade, closing: () => this.#closing || state.outdated });
        if (!upgrade) {
          drain(req, socket);
          // Pages have no timer of their own, and a client may never take them.
          res.setTimeout(this.#server.keepAliveTimeout);
          if (!res.closed) await new Promise((resolve) => res.once('close', resolve));
        }
        state.current = undefined;
      }
      state.pending -= 1;
      if ((this.#hurrying || state.failed || state.outdated) && state.pending === 0) socket.destroySoon();
    });
  }

  #mayUpgrade(req: http.IncomingMessage): boolean {
    const state = this.#clients.get(req.socket);
    if (!state || state.pending > 0 || state.connection.protocol !== 'https') return false;
    try {
      return parseRequestHead(req.method ?? '', req.url ?? '', req.httpVersion, req.rawHeaders).webSocket;
    } catch {
      // Refused in its turn, with the same error.
      return false;
    }
  }

  /** Node has let go of the connection (WebSocket, CONNECT): its errors, its answer and its end are ours. */
  #detached(req: http.IncomingMessage, early: Buffer): void {
    const { socket } = req;
    socket.on('error', () => socket.destroy());
    if ((this.#clients.get(socket)?.pending ?? 1) > 0) {
      socket.destroy();
      return;
    }
    if (early.length > 0) socket.unshift(early);
    // The socket goes on reading into its bounded buffer, so an end is noticed; nobody takes bytes before the tunnel stands.
    socket.once('end', () => socket.destroySoon());
    const res = new http.ServerResponse(req);
    res.assignSocket(socket);
    res.shouldKeepAlive = false;
    socket.on('drain', () => res.emit('drain'));
    res.once('finish', () => socket.destroySoon());
    this.#enter(req, res, socket);
  }

  /**
   * What is not HTTP. Answered only where the answer cannot be taken for a part of another one, and without harm to the
   * answers under way. (Node reports HPE_PAUSED for good bytes, too, if a client pipelines faster than it takes answers.)
   */
  #failed(error: NodeJS.ErrnoException, socket: Socket): void {
    const state = this.#clients.get(socket);
    if (!state || state.failed) return;
    state.failed = true;
    const refusal = new ProxyError(PARSER_ERRORS[error.code ?? ''] ?? 'bad_request', 'the client does not speak proper HTTP');
    this.#log.debug(refusal.message, { code: refusal.code, cause: error.code, client: state.connection.clientAddress });
    if (state.pending > 1 || (state.pending === 1 && state.latest?.complete)) return;
    if (state.current?.headersSent || !socket.writable || error.code === 'ECONNRESET') {
      socket.destroy();
      return;
    }
    const { fields, body } = page(refusal.status, undefined);
    socket.write(Buffer.concat([headBytes(refusal.status, [...fields, field('Connection', 'close')]), body]));
    if (state.pending > 0) socket.destroySoon();
    else linger(socket);
  }
}
