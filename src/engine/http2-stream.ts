import { constants, type IncomingHttpHeaders, type OutgoingHttpHeaders, type ServerHttp2Stream } from 'node:http2';
import type { Duplex } from 'node:stream';
import type { ClientStream, Connection } from '../proxy/client-stream.ts';
import { contained } from '../proxy/contained.ts';
import type { AnswerHead } from '../proxy/engine.ts';
import type { Exchange } from '../proxy/exchange.ts';
import { fieldsFromRaw, type Field } from '../proxy/headers.ts';
import { ProxyError } from '../proxy/proxy-error.ts';
import type { ConnectionHost } from './client-connection.ts';
import { HeldBody } from './held-body.ts';
import type { Http2HeadReader } from './http2-head.ts';
import { Http2Tunnel } from './http2-tunnel.ts';

/** What a stream is destroyed with to be reset with INTERNAL_ERROR. */
const BROKEN_OFF = new Error('the answer broke off');

/** The connection that a stream belongs to. */
export interface Http2StreamOwner {
  readonly connection: Connection;
  readonly host: ConnectionHost;
  readonly heads: Http2HeadReader;
  /** The stream has its answer, and it is now for the client to take it. */
  answered(): void;
  /** The stream is closed, and its exchange accounted for. */
  left(stream: Http2Stream): void;
}

/** One request of an HTTP/2 connection, and its answer (RFC 9113, 8.1). */
export class Http2Stream implements ClientStream {
  readonly connection: Connection;
  readonly #stream: ServerHttp2Stream;
  readonly #owner: Http2StreamOwner;
  #exchange: Exchange | undefined;
  #isHead = false;
  /** The request has been read to its end. */
  #isRead = false;
  /** What the backend does not take of it yet. */
  #held: HeldBody | undefined;
  #requestTrailers: readonly Field[] = [];
  /** More was given at a time than the client took. */
  #isFull = false;
  #isTunnel = false;
  /** No DATA follows the head of the answer. */
  #bodyless = false;
  #trailers: readonly Field[] | undefined;
  /** Bytes of the answer that the client had left when it was last looked at. */
  #waiting = -1;

  /** `stream` must have an error listener. */
  constructor(stream: ServerHttp2Stream, owner: Http2StreamOwner) {
    this.connection = owner.connection;
    this.#stream = stream;
    this.#owner = owner;
    contained(stream, this.#fault)('close', () => this.#gone());
  }

  #gone(): void {
    if (!this.#isTunnel) this.#exchange?.clientGone();
    if (this.#stream.destroyed && this.#exchange?.isOver !== false) this.#owner.left(this);
  }

  /** An error of ours: it ends this stream and no other. */
  readonly #fault = (error: Error): void => {
    this.#exchange?.fault(error);
    this.cut();
  };

  /**
   * @param headers the head of the request by name, and `raw` as it came: names and values in turn
   * @param isComplete no body follows
   */
  begin(headers: IncomingHttpHeaders, raw: readonly string[], isComplete: boolean): void {
    const { heads, host } = this.#owner;
    const { ':method': method, ':path': path } = headers;
    this.#isHead = method === 'HEAD';
    this.#isRead = isComplete;
    try {
      const head = heads.read(raw, isComplete);
      this.#exchange = host.handler.begin(this, head);
      // What comes before the backend has switched belongs to the WebSocket.
      if (head.webSocket) return this.#holdBody().hold();
      if (!isComplete && head.framing !== 0) this.#readBody(this.#exchange);
    } catch (error) {
      const refusal = error instanceof ProxyError ? error : new ProxyError('internal', (error as Error).message);
      this.#exchange = host.handler.reject(this, refusal, `${method} ${path}`);
    }
    this.#stream.resume();
  }

  /** DATA that does not add up to Content-Length never gets here: nghttp2 resets the stream (RFC 9113, 8.1.1). */
  #readBody(exchange: Exchange): void {
    const stream = this.#stream;
    const on = contained(stream, this.#fault);
    const held = this.#holdBody();
    on('aborted', () => this.#gone());
    on('data', (piece: Buffer) => {
      if (exchange.body(piece)) exchange.flushBody();
      else held.hold();
    });
    on('trailers', (_fields: unknown, _flags: number, raw: string[]) => {
      this.#requestTrailers = fieldsFromRaw(raw);
    });
    on('end', () => {
      this.#isRead = true;
      // Node ends a stream that was reset, too.
      if (stream.closed) return exchange.clientGone();
      exchange.bodyEnded(this.#requestTrailers);
      exchange.flushBody();
    });
  }

  #holdBody(): HeldBody {
    return (this.#held = new HeldBody(this.#stream));
  }

  resumeBody(): void {
    this.#held?.release((piece) => this.#exchange?.body(piece) ?? true);
    this.#exchange?.flushBody();
  }

  inform(status: number, fields: readonly Field[]): void {
    if (!this.#stream.closed) this.#stream.additionalHeaders(headersOf(fields, { ':status': status }));
  }

  respond({ status, fields, framing }: AnswerHead): void {
    const stream = this.#stream;
    if (stream.closed) return;
    this.#bodyless = this.#isHead || framing === 'none' || framing === 0 || status === 205;
    const raw = [':status', String(status)];
    // A Content-Length that no DATA follows would be malformed (RFC 9113, 8.1.1), and a 205 has none (RFC 9110, 15.3.6).
    for (const { key, value } of fields.list) if (key !== 'content-length' || status !== 205) raw.push(key, value);
    stream.respond(raw, { endStream: this.#bodyless, waitForTrailers: !this.#bodyless && framing === 'chunked' });
    if (!this.#bodyless && framing === 'chunked') contained(stream, this.#fault)('wantTrailers', () => this.#sendTrailers());
  }

  write(piece: Buffer): boolean {
    const stream = this.#stream;
    if (this.#bodyless || stream.writableEnded || stream.write(piece)) return true;
    if (!this.#isFull) contained(stream, this.#fault)('drain', () => this.#exchange?.clientDrained());
    this.#isFull = true;
    return false;
  }

  /** Frames are collected and sent once a turn of the event loop. */
  flush(): void {}

  end(trailers: readonly Field[]): void {
    if (this.#isTunnel) return this.#gone();
    const stream = this.#stream;
    const waitsForTrailers = stream.listenerCount('wantTrailers') > 0;
    this.#trailers = trailers;
    if (!stream.writableEnded) stream.end();
    if (!waitsForTrailers) this.#stopReading();
    this.#owner.answered();
  }

  /** `close` would end the stream before it resets it, and a client could take what it has for the whole. */
  cut(): void {
    this.#stream.destroy(BROKEN_OFF);
  }

  /** Cuts a complete answer of which the client has taken nothing since the last call; until then the exchange keeps the time. */
  cutStalled(): void {
    if (this.#exchange?.isOver !== true) return;
    const waiting = this.#stream.bufferSize;
    if (waiting === this.#waiting) this.cut();
    this.#waiting = waiting;
  }

  switchProtocols(fields: readonly Field[]): Duplex | undefined {
    const stream = this.#stream;
    if (stream.closed || !this.#held) return undefined;
    this.#isTunnel = true;
    const raw = [':status', '200'];
    // That one is for clients of HTTP/1.1, which have sent a key (RFC 8441, 5).
    for (const { key, value } of fields) if (key !== 'sec-websocket-accept') raw.push(key, value);
    stream.respond(raw);
    return new Http2Tunnel(stream, this.#held);
  }

  #sendTrailers(): void {
    this.#stream.sendTrailers(headersOf(this.#trailers ?? [], {}));
    // It is sent in the next turn.
    setImmediate(() => this.#stopReading());
  }

  /** After the whole answer, what is left of the request is of no use to anyone (RFC 9113, 8.1). */
  #stopReading(): void {
    if (this.#isRead) return;
    this.resumeBody();
    this.#stream.close(constants.NGHTTP2_NO_ERROR);
  }
}

/** As node:http2 takes them where it takes no list: the values of a repeated field stay together. */
function headersOf(fields: readonly Field[], headers: OutgoingHttpHeaders): OutgoingHttpHeaders {
  const values = Map.groupBy(fields, ({ key }) => key);
  for (const [key, group] of values) headers[key] = group.map(({ value }) => value);
  return headers;
}
