import type { Duplex } from 'node:stream';
import { ErrorCode } from '../http2/frames.ts';
import type { HeaderField, HeaderList } from '../http2/header-field.ts';
import type { Stream, StreamHandler } from '../http2/stream.ts';
import type { ClientStream, Connection } from '../proxy/client-stream.ts';
import type { AnswerHead } from '../proxy/engine.ts';
import type { Exchange } from '../proxy/exchange.ts';
import { field, type Field } from '../proxy/headers.ts';
import { ProxyError } from '../proxy/proxy-error.ts';
import type { ConnectionHost } from './client-connection.ts';
import { httpDate } from './date.ts';
import { type BodyTaker, Http2Body } from './http2-body.ts';
import { sortFields, type Http2HeadReader } from './http2-head.ts';
import { Http2Tunnel } from './http2-tunnel.ts';

/**
 * With which a backend may cut an answer to its client, too: to clients of gRPC they are CANCELLED and RESOURCE_EXHAUSTED. NO_ERROR could
 * be taken for an answer's end, clients repeat what ends with REFUSED_STREAM or HTTP_1_1_REQUIRED, Go's with PROTOCOL_ERROR
 * (golang/go#47635), and the other codes are about the connection between us and the backend.
 */
const PASSED_ON = new Map<string, ErrorCode>([
  ['CANCEL', ErrorCode.CANCEL],
  ['ENHANCE_YOUR_CALM', ErrorCode.ENHANCE_YOUR_CALM],
]);

/** The connection that a stream belongs to. */
export interface Http2StreamOwner {
  readonly connection: Connection;
  readonly host: ConnectionHost;
  readonly heads: Http2HeadReader;
  readonly offersWebSocket: boolean;
  /** The stream has its answer, and it is now for the client to take it. */
  answered(): void;
  /** The stream is closed, and its exchange accounted for. */
  left(stream: Http2Stream): void;
}

/** One request of an HTTP/2 connection, and its answer (RFC 9113, 8.1). */
export class Http2Stream implements ClientStream, StreamHandler, BodyTaker {
  readonly connection: Connection;
  readonly #stream: Stream;
  readonly #owner: Http2StreamOwner;
  #exchange: Exchange | undefined;
  #isHead = false;
  /** Undefined when there is none. */
  #body: Http2Body | undefined;
  #tunnel: Http2Tunnel | undefined;
  /** Nothing follows the head of the answer. */
  #bodyless = false;
  /** Bytes of the answer that are still to come, and nothing behind them; -1 when only its end will tell. */
  #left = -1;
  /** Bytes of the answer that the client had left when it was last looked at. */
  #waiting = -1;

  constructor(stream: Stream, owner: Http2StreamOwner) {
    this.connection = owner.connection;
    this.#stream = stream;
    this.#owner = owner;
  }

  /** @throws StreamError when the head is malformed */
  begin(list: HeaderList): void {
    const { heads, host, offersWebSocket } = this.#owner;
    const stream = this.#stream;
    const isComplete = stream.isReceived;
    const fields = sortFields(list.fields, isComplete, offersWebSocket);
    stream.handler = this;
    stream.contentLeft = fields.length;
    this.#isHead = fields.method === 'HEAD';
    try {
      const head = heads.read(fields, isComplete);
      const hasBody = head.webSocket || (head.framing !== 'none' && head.framing !== 0);
      // What comes before the backend has switched belongs to the WebSocket.
      if (hasBody) this.#body = new Http2Body(this, head.webSocket);
      this.#exchange = host.handler.begin(this, head);
    } catch (error) {
      const refusal = error instanceof ProxyError ? error : new ProxyError('internal', (error as Error).message);
      this.#exchange = host.handler.reject(this, refusal, `${fields.method} ${fields.path}`);
    }
    // What was refused at once has ended before its exchange was known here.
    if (stream.isClosed) this.#gone();
  }

  /** An error of ours ends this stream and no other. */
  #contained(act: () => void): void {
    try {
      act();
    } catch (error) {
      this.fault(error as Error);
    }
  }

  // The request.

  data(piece: Buffer): void {
    if (!this.#body) return this.#stream.consumed(piece.length);
    this.#contained(() => this.#body?.add(piece));
  }

  ended(trailers: readonly HeaderField[]): void {
    this.#contained(() => this.#body?.end(trailers));
  }

  resumeBody(): void {
    this.#body?.release();
  }

  take(piece: Buffer, release?: () => void): boolean {
    this.#stream.consumed(piece.length);
    if (this.#tunnel) {
      const takesMore = this.#tunnel.push(release ? Buffer.from(piece) : piece);
      release?.();
      return takesMore;
    }
    const takesMore = this.#exchange?.body(piece, release) !== false;
    this.#exchange?.flushBody();
    return takesMore;
  }

  bodyEnded(trailers: readonly Field[]): void {
    if (this.#tunnel) return void this.#tunnel.push(null);
    this.#exchange?.bodyEnded(trailers);
    this.#exchange?.flushBody();
  }

  fault(error: Error): void {
    this.#exchange?.fault(error);
    this.cut();
  }

  closed(): void {
    this.#body?.close();
    this.#contained(() => {
      if (this.#tunnel) this.#tunnel.destroy();
      else this.#exchange?.clientGone();
    });
    this.#gone();
  }

  get isTunnel(): boolean {
    return this.#tunnel !== undefined;
  }

  #gone(): void {
    if (this.#stream.isClosed && this.#exchange?.isOver) this.#owner.left(this);
  }

  // The answer.

  inform(status: number, fields: readonly Field[]): void {
    this.#stream.respond(status, fields, false);
  }

  respond({ status, fields, framing, mayHaveTrailers }: AnswerHead): void {
    this.#bodyless = this.#isHead || framing === 'none' || (framing === 0 && !mayHaveTrailers) || status === 205;
    this.#left = typeof framing !== 'number' || mayHaveTrailers ? -1 : framing;
    let { list } = fields;
    // A Content-Length that no DATA follows would be malformed (RFC 9113, 8.1.1), and a 205 has none (RFC 9110, 15.3.6).
    if (status === 205) list = list.filter(({ key }) => key !== 'content-length');
    // RFC 9110, 6.6.1: whoever forwards an answer without a date adds one.
    if (!fields.isDated) list = [...list, field('date', httpDate())];
    this.#stream.respond(status, list, this.#bodyless);
  }

  write(piece: Buffer, release?: () => void): boolean {
    if (this.#bodyless) return true;
    if (this.#left !== -1) this.#left -= piece.length;
    return this.#stream.write(piece, this.#left === 0, release);
  }

  /** Frames are collected and sent once a turn of the event loop. */
  flush(): void {}

  drained(): void {
    this.#contained(() => {
      if (this.#tunnel) this.#tunnel.drained();
      else this.#exchange?.clientDrained();
    });
  }

  end(trailers: readonly Field[]): void {
    const stream = this.#stream;
    if (this.#tunnel || stream.isClosed) this.#gone();
    else stream.end(trailers);
    if (!stream.isClosed) this.#owner.answered();
  }

  cut(error?: ProxyError): void {
    this.#stream.reset(PASSED_ON.get(String(error?.facts['reset'])) ?? ErrorCode.INTERNAL_ERROR);
  }

  /** Cuts a complete answer of which the client has taken nothing since the last call; until then the exchange keeps the time. */
  cutStalled(): void {
    if (this.#exchange?.isOver !== true) return;
    const waiting = this.#stream.waiting.length;
    if (waiting === this.#waiting) this.cut();
    this.#waiting = waiting;
  }

  switchProtocols(fields: readonly Field[]): Duplex | undefined {
    const stream = this.#stream;
    if (stream.isClosed) return undefined;
    // That one is for clients of HTTP/1.1, which have sent a key (RFC 8441, 5).
    stream.respond(
      200,
      fields.filter(({ key }) => key !== 'sec-websocket-accept'),
      false,
    );
    this.#tunnel = new Http2Tunnel(stream, () => this.resumeBody());
    return this.#tunnel;
  }
}
