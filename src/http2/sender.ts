import type { Field } from '../proxy/headers.ts';
import {
  ConnectionError,
  CONTINUATION,
  DATA,
  END_HEADERS,
  END_STREAM,
  ErrorCode,
  GOAWAY,
  HEADERS,
  INITIAL_WINDOW,
  MAX_PAYLOAD,
  MAX_WINDOW,
  RST_STREAM,
  WINDOW_UPDATE,
} from './frames.ts';
import type { FrameWriter } from './frame-writer.ts';
import { blockBound, HpackEncoder } from './hpack-encoder.ts';
import type { Stream } from './stream.ts';

/** What the other side has not taken yet; beyond it no DATA is sent. */
const MAX_BACKLOG = 131_072;

/** Bytes of DATA for which the other side may well send a frame of its own. */
const ACKNOWLEDGED = 128;
/** Frames that it may well send for a message, however short: gRPC widens both windows for each, and asks how far away we are. */
const PER_MESSAGE = 4;

/** For blocks of the usual size. */
const scratch = Buffer.allocUnsafeSlow(MAX_PAYLOAD);

/** Sends the frames of one connection. Streams that wait for room or for a window take turns, a frame each (RFC 9113, 5.2). */
export class Sender {
  /** What all streams together may send. */
  window = INITIAL_WINDOW;
  /** What each new stream may send. */
  initialWindow = INITIAL_WINDOW;
  readonly encoder = new HpackEncoder();
  readonly writer: FrameWriter;
  #acknowledgeable = 0;
  readonly #row: Stream[] = [];

  constructor(writer: FrameWriter) {
    this.writer = writer;
  }

  /** The other side takes nothing for now: what waits should not become more. */
  get isFull(): boolean {
    return this.writer.backlog >= MAX_BACKLOG;
  }

  /** It takes nothing more, and much waits. */
  get isClogged(): boolean {
    return this.writer.backlog > 2 * MAX_BACKLOG;
  }

  /**
   * How many frames the other side may well send for the DATA since the last call; single bytes that it has made so, by its windows
   * (CVE-2019-9511), are worth none.
   */
  acknowledgeable(): number {
    const count = this.#acknowledgeable;
    this.#acknowledgeable = 0;
    return count;
  }

  /** @throws ConnectionError FLOW_CONTROL_ERROR beyond 2^31-1 */
  openWindow(increment: number): void {
    this.window += increment;
    if (this.window > MAX_WINDOW) throw tooLarge();
  }

  /** The other side has changed SETTINGS_INITIAL_WINDOW_SIZE: of open streams, too (RFC 9113, 6.9.2). @throws as `openWindow` */
  resizeWindows(size: number, open: Iterable<Stream>): void {
    const difference = size - this.initialWindow;
    this.initialWindow = size;
    for (const stream of open) {
      stream.sendWindow += difference;
      if (stream.sendWindow > MAX_WINDOW) throw tooLarge();
      this.enqueue(stream);
    }
  }

  /** A head, or trailers, whole (RFC 9113, 4.3); `status` is that of an answer. */
  head(stream: number, status: number | undefined, fields: readonly Field[], isLast: boolean): void {
    const bound = blockBound(fields);
    const block = bound > scratch.length ? Buffer.allocUnsafe(bound) : scratch;
    const length = this.encoder.encode(status, fields, block, 0);
    const endStream = isLast ? END_STREAM : 0;
    if (length <= MAX_PAYLOAD) return this.writer.copy(HEADERS, END_HEADERS | endStream, stream, block, 0, length);
    this.writer.copy(HEADERS, endStream, stream, block, 0, MAX_PAYLOAD);
    for (let at = MAX_PAYLOAD; at < length; at += MAX_PAYLOAD) {
      const end = Math.min(at + MAX_PAYLOAD, length);
      this.writer.copy(CONTINUATION, end === length ? END_HEADERS : 0, stream, block, at, end);
    }
  }

  /** How many bytes of DATA this stream may send now, in one frame. */
  room({ sendWindow }: Stream): number {
    if (this.#row.length > 0 || this.isFull) return 0;
    return Math.min(sendWindow, this.window, MAX_PAYLOAD);
  }

  /** What it has waits for room, or for its window. */
  enqueue(stream: Stream): void {
    if (stream.isInRow || stream.sendWindow <= 0 || stream.waiting.length === 0) return;
    stream.isInRow = true;
    this.#row.push(stream);
  }

  /** Sends what may be sent now. */
  pump(): void {
    const row = this.#row;
    while (row.length > 0 && this.window > 0 && !this.isFull) {
      const stream = row.shift()!;
      stream.isInRow = false;
      // Meanwhile it may have been reset, or its window have become smaller.
      if (stream.waiting.length === 0 || stream.sendWindow <= 0) continue;
      stream.sendWaiting(Math.min(stream.sendWindow, this.window, MAX_PAYLOAD));
      this.enqueue(stream);
    }
  }

  data(stream: Stream, piece: Buffer, start: number, end: number, isLast: boolean): void {
    const length = end - start;
    const isCut = length === Math.min(this.window, stream.sendWindow);
    this.#acknowledgeable += isCut ? length / ACKNOWLEDGED : Math.max(PER_MESSAGE, length / ACKNOWLEDGED);
    this.window -= length;
    stream.sendWindow -= length;
    this.writer.copy(DATA, isLast ? END_STREAM : 0, stream.id, piece, start, end);
  }

  end(stream: number, trailers: readonly Field[]): void {
    if (trailers.length > 0) this.head(stream, undefined, trailers, true);
    else if (!this.writer.amend(DATA, END_STREAM, stream)) this.writer.frame(DATA, END_STREAM, stream, 0);
  }

  reset(stream: number, code: ErrorCode): void {
    this.writer.numbers(RST_STREAM, 0, stream, code);
  }

  goAway(lastStream: number, code: ErrorCode): void {
    this.writer.numbers(GOAWAY, 0, 0, lastStream, code);
  }

  updateWindow(stream: number, increment: number): void {
    this.writer.numbers(WINDOW_UPDATE, 0, stream, increment);
  }
}

function tooLarge(): ConnectionError {
  return new ConnectionError(ErrorCode.FLOW_CONTROL_ERROR, 'a window that is too large');
}
