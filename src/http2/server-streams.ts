import { ConnectionError, ErrorCode, StreamError } from './frames.ts';
import type { HeaderList } from './header-field.ts';
import type { Limits } from './limits.ts';
import type { Sender } from './sender.ts';
import { Stream } from './stream.ts';
import { STREAM_WINDOW, Streams } from './streams.ts';

/** Streams of one connection at a time. */
export const MAX_STREAMS = 128;
/** Of all bodies of a connection together: so much can a client make us keep. */
export const CONNECTION_WINDOW = 16 * STREAM_WINDOW;
/** Decoded bytes of a header list that nobody sends but to do harm (CVE-2016-1544): many times what is served. */
const BOMB = 1_048_576;
/** Of streams that we have reset. */
const REMEMBERED = 512;
/** ms that a client has to hear an answer before the rest of its request is refused. */
const HEARING = 1_000;

/**
 * A client asks, and has not taken it back together with the asking. The stream is given its handler.
 * @throws StreamError when the head is malformed
 */
export type Requested = (stream: Stream, head: HeaderList) => void;

/** What a client says: it begins streams, with requests. */
export class ServerStreams extends Streams {
  readonly #requested: Requested;
  /** Streams that have been asked for in the bytes that are being read. */
  #arrived: Stream[] = [];

  constructor(sender: Sender, limits: Limits, requested: Requested) {
    super(sender, limits, CONNECTION_WINDOW, REMEMBERED);
    this.#requested = requested;
  }

  /** A request, or the trailers of one. */
  headers(id: number, head: HeaderList, isEnd: boolean): void {
    // Decoding as many of these as streams may come to nothing would keep others waiting.
    if (head.size > BOMB) throw new ConnectionError(ErrorCode.ENHANCE_YOUR_CALM, `a header list of ${head.size} bytes`);
    const { table } = this;
    const stream = table.get(id);
    if (stream) return this.trailers(stream, head, isEnd);
    if (id <= table.last || (id & 1) === 0) return this.notOpen(id, 'HEADERS', true);
    if (id > table.final) return;
    table.last = id;
    this.limits.earn(4);
    if (table.size >= MAX_STREAMS) return this.refuse(id, ErrorCode.REFUSED_STREAM, 'too many streams');
    if (head.isTooLarge) return this.refuse(id, ErrorCode.ENHANCE_YOUR_CALM, 'a head that is too large');
    const one = new Stream(id, this, { receive: STREAM_WINDOW, send: this.sender.initialWindow }, head);
    one.isReceived = isEnd;
    table.add(one);
    this.#arrived.push(one);
  }

  /** What was asked for and not taken back. */
  begin(): void {
    if (this.#arrived.length === 0) return;
    const arrived = this.#arrived;
    this.#arrived = [];
    for (const stream of arrived) this.beginOne(stream);
  }

  protected beginOne(stream: Stream): void {
    const { head } = stream;
    if (!head || stream.isClosed) return;
    stream.head = undefined;
    try {
      this.#requested(stream, head);
    } catch (error) {
      if (!(error instanceof StreamError)) throw error;
      this.refuse(stream.id, error.code, error.message);
    }
  }

  /** What is not consumed stays in the window, for that bounds it. */
  protected arrived(_occupied: number, padding: number): void {
    this.widenAll(padding);
  }

  protected wasted(): void {
    this.limits.wasted();
  }

  /** After the whole answer nothing more of a request is wanted. */
  protected override widen(stream: Stream, bytes: number): void {
    if (!stream.isSent) super.widen(stream, bytes);
  }

  // From streams.

  consumed(stream: Stream | undefined, bytes: number): void {
    this.widenAll(bytes);
    if (stream) this.widen(stream, bytes);
  }

  /**
   * After the whole answer, what is left of the request is of no use to anyone (RFC 9113, 8.1). But curl 7 forgets an answer
   * for a reset that it reads with it; until then the client may send what its window allows.
   */
  outspoken(stream: Stream): void {
    setTimeout(() => stream.reset(ErrorCode.NO_ERROR), HEARING).unref();
  }
}
