import * as http2 from 'node:http2';
import type { Socket } from 'node:net';
import type { ClientConnection, ConnectionHost } from './client-connection.ts';
import type { Connection } from '../proxy/client-stream.ts';
import { contained } from '../proxy/contained.ts';
import type { Timed } from '../proxy/deadlines.ts';
import { MAX_HEAD } from './head.ts';
import { Http2HeadReader } from './http2-head.ts';
import { Http2Stream } from './http2-stream.ts';

const { NGHTTP2_FLAG_END_STREAM, NGHTTP2_NO_ERROR } = http2.constants;

/** ms for a client to answer a PING, and to close after us. */
const MAX_WAIT = 5_000;
/** The announcement that a connection will end, before it is known which stream is the last (RFC 9113, 6.8). */
const ANY_STREAM = 2 ** 31 - 1;

/**
 * What one client may ask of us at once, beside nghttp2's own limits for CONTINUATION (CVE-2024-27983), for
 * acknowledgements that are not read (CVE-2019-9512, CVE-2019-9515) and for protocol errors.
 */
const OPTIONS: http2.ServerOptions & { streamResetBurst: number; streamResetRate: number } = {
  settings: {
    maxConcurrentStreams: 128,
    // Twice as much as is served: who is only a little above gets an answer that says so, and no bare reset.
    maxHeaderListSize: 2 * MAX_HEAD,
    // What may wait of one body when its backend is slow; with less, a distant client uploads slowly.
    initialWindowSize: 262_144,
  },
  maxHeaderListPairs: 256,
  // In megabytes; beyond them new streams are refused.
  maxSessionMemory: 16,
  maxSettings: 32,
  maxSessionInvalidFrames: 100,
  maxSessionRejectedStreams: 100,
  // Rapid reset (CVE-2023-44487): a browser that leaves a page full of pictures takes back a hundred.
  streamResetBurst: 200,
  streamResetRate: 33,
  // A backend may repeat a field that should be single, as with HTTP/1.
  strictSingleValueFields: false,
};
/** For all streams of a connection together. */
const CONNECTION_WINDOW = 1_048_576;

/** A client's connection that speaks HTTP/2 (RFC 9113); frames, header compression and flow control are nghttp2's. */
export class Http2Connection implements ClientConnection, Timed {
  deadline: number;
  readonly connection: Connection;
  readonly host: ConnectionHost;
  readonly heads = new Http2HeadReader();
  readonly #socket: Socket;
  readonly #session: http2.ServerHttp2Session;
  readonly #streams = new Set<Http2Stream>();
  #isUsed = false;
  /** The client has been told that the connection ends. */
  #isEnding = false;
  #isClosed = false;

  constructor(socket: Socket, connection: Connection, host: ConnectionHost) {
    this.connection = connection;
    this.host = host;
    this.#socket = socket;
    this.deadline = performance.now() + host.timeouts.requestHeader;
    host.deadlines.watch(this);
    const settings = { ...OPTIONS.settings, enableConnectProtocol: host.http2.websocket };
    const session = http2.performServerHandshake(socket, { ...OPTIONS, settings });
    this.#session = session;
    session.setLocalWindowSize(CONNECTION_WINDOW);
    const fault = (error: Error): void => this.fault(error);
    const onSession = contained(session, fault);
    onSession('stream', (stream: http2.ServerHttp2Stream, headers: http2.IncomingHttpHeaders, flags: number, raw: string[]) =>
      this.#begin(stream, headers, raw, (flags & NGHTTP2_FLAG_END_STREAM) !== 0),
    );
    onSession('error', ({ message }: Error) => {
      host.log.debug(`HTTP/2 connection ended: ${message}`, { code: 'http2_error', client: connection.clientAddress });
    });
    const onSocket = contained(socket, fault);
    // As with HTTP/1, whoever closes its side has gone.
    onSocket('end', () => this.destroy());
    onSocket('close', () => {
      this.#isClosed = true;
      host.deadlines.forget(this);
      this.#leave();
    });
  }

  get isIdle(): boolean {
    return this.#streams.size === 0;
  }

  get isFresh(): boolean {
    return !this.#isUsed;
  }

  /** Streams that have begun are answered; what the client sent after them was not processed, and it knows (RFC 9113, 6.8). */
  endOutdated(): void {
    this.#close();
  }

  /**
   * Ends when the streams under way have their answers. A request that crosses the announcement on the wire is still
   * served: which stream is the last is said when the client is known to have heard of it, or when none is left.
   */
  endSoon(): void {
    if (this.#isEnding || this.#session.destroyed) return;
    if (this.isIdle) return this.#close();
    this.#isEnding = true;
    this.#session.goaway(NGHTTP2_NO_ERROR, ANY_STREAM);
    this.#session.ping(() => this.#close());
  }

  destroy(): void {
    this.#socket.destroy();
  }

  /** An error of ours: it ends this connection and no other. */
  fault(error: Error): void {
    this.host.log.error(`internal error: ${error.message}`, { code: 'internal', at: error.stack?.split('\n')[1]?.trim() });
    this.destroy();
  }

  expire(): void {
    if (!this.isIdle) {
      for (const stream of this.#streams) stream.cutStalled();
      this.#limit(this.host.timeouts.responseBody);
    } else if (this.#isEnding) {
      this.destroy();
    } else {
      this.#close();
    }
  }

  /** A stream has its answer, and it is now for the client to take it. */
  answered(): void {
    if (this.deadline === Infinity) this.#limit(this.host.timeouts.responseBody);
  }

  /** A stream is closed, and its exchange accounted for. */
  left(stream: Http2Stream): void {
    if (!this.#streams.delete(stream) || !this.isIdle) return;
    if (this.#isClosed) return this.#leave();
    if (this.#isEnding || this.host.isHurrying) this.#close();
    else this.#limit(this.host.timeouts.keepAlive);
  }

  #begin(stream: http2.ServerHttp2Stream, headers: http2.IncomingHttpHeaders, raw: readonly string[], isComplete: boolean): void {
    // What went wrong is told by its end.
    stream.on('error', () => {});
    // Taken back before it was looked at: no backend hears of it.
    if (stream.closed) return;
    this.#isUsed = true;
    if (this.isIdle) this.deadline = Infinity;
    const one = new Http2Stream(stream, this);
    this.#streams.add(one);
    one.begin(headers, raw, isComplete);
    if (this.host.isClosing) this.endSoon();
  }

  #close(): void {
    this.#isEnding = true;
    this.#session.close();
    if (this.isIdle) this.#limit(MAX_WAIT);
  }

  #leave(): void {
    if (this.isIdle) this.host.left(this);
  }

  #limit(ms: number): void {
    this.deadline = performance.now() + ms;
  }
}
