import { ConnectionError, ErrorCode, MAX_WINDOW, StreamError } from './frames.ts';
import { Role, type HeaderList } from './header-field.ts';
import type { Limits } from './limits.ts';
import { ReceiveWindow } from './receive-window.ts';
import type { Sender } from './sender.ts';
import { StreamTable } from './stream-table.ts';
import { Stream, type StreamOwner } from './stream.ts';

/** Streams of one connection at a time. */
export const MAX_STREAMS = 128;
/** What may wait of one body when its backend is slow; with less, a distant client uploads slowly. */
export const STREAM_WINDOW = 262_144;
/** Of all bodies of a connection together: so much can a client make us keep. */
export const CONNECTION_WINDOW = 16 * STREAM_WINDOW;

/**
 * A client asks, and has not taken it back together with the asking. The stream is given its handler.
 * @throws StreamError when the head is malformed
 */
export type Requested = (stream: Stream, head: HeaderList) => void;

/** What a client says on the streams of its connection (RFC 9113, 5). */
export class Streams implements StreamOwner {
  readonly sender: Sender;
  readonly table = new StreamTable();
  readonly #limits: Limits;
  readonly #requested: Requested;
  readonly #window = new ReceiveWindow(CONNECTION_WINDOW);
  /** Streams that have been asked for in the bytes that are being read. */
  #arrived: Stream[] = [];
  /** Whose DATA is being read. */
  #receiving: Stream | undefined;

  constructor(sender: Sender, limits: Limits, requested: Requested) {
    this.sender = sender;
    this.#limits = limits;
    this.#requested = requested;
  }

  /** A header block: a request, or the trailers of one. */
  headers(id: number, head: HeaderList, isEnd: boolean): void {
    const { table } = this;
    const stream = table.get(id);
    if (stream) return this.#trailers(stream, head, isEnd);
    if (id <= table.last || (id & 1) === 0) return this.#notOpen(id, 'HEADERS', true);
    if (id > table.final) return;
    table.last = id;
    this.#limits.earn(4);
    if (table.size >= MAX_STREAMS) return this.#refuse(id, ErrorCode.REFUSED_STREAM);
    if (head.isTooLarge) return this.#refuse(id, ErrorCode.ENHANCE_YOUR_CALM);
    const one = new Stream(id, this, head, isEnd, { receive: STREAM_WINDOW, send: this.sender.initialWindow });
    table.add(one);
    this.#arrived.push(one);
  }

  /** Looks at what was asked for, and not taken back, in the bytes that have been read. */
  begin(): void {
    if (this.#arrived.length === 0) return;
    const arrived = this.#arrived;
    this.#arrived = [];
    for (const stream of arrived) this.#begin(stream);
  }

  /** As the reader says it. @throws ConnectionError as the others do */
  dataBegins(id: number, isEnd: boolean, occupied: number, length: number): void {
    if (!this.#window.take(occupied)) throw new ConnectionError(ErrorCode.FLOW_CONTROL_ERROR, 'more DATA than the connection may carry');
    this.consumed(undefined, occupied - length);
    this.#receiving = undefined;
    const stream = this.table.get(id);
    if (!stream) return this.#notOpen(id, 'DATA', true);
    if (stream.isReceived) return this.#refuse(id, ErrorCode.STREAM_CLOSED);
    if (!stream.receiveWindow.take(occupied)) return this.#refuse(id, ErrorCode.FLOW_CONTROL_ERROR);
    if (length === 0 && !isEnd) this.#limits.idle('DATA frames without content');
    this.#begin(stream);
    if (stream.isClosed) return;
    this.#giveBack(stream, occupied - length);
    if (!stream.expects(length, isEnd)) return this.#refuse(id, ErrorCode.PROTOCOL_ERROR);
    this.#receiving = stream;
  }

  data(piece: Buffer): void {
    const stream = this.#receiving;
    if (!stream || stream.isClosed) return this.consumed(undefined, piece.length);
    stream.held += piece.length;
    stream.handler?.data(piece);
  }

  dataEnds(isEnd: boolean): void {
    if (isEnd && this.#receiving?.isClosed === false) this.#receiving.received([]);
    this.#receiving = undefined;
  }

  /** RST_STREAM: the client wants no answer, or nothing more of it. */
  takenBack(id: number): void {
    const stream = this.table.get(id);
    if (!stream) return this.#notOpen(id, 'RST_STREAM', false);
    stream.close();
    this.#limits.wasted();
  }

  windowUpdate(id: number, increment: number): void {
    const stream = this.table.get(id);
    if (!stream) return this.#notOpen(id, 'WINDOW_UPDATE', false);
    if (increment === 0) return this.#refuse(id, ErrorCode.PROTOCOL_ERROR);
    if (stream.sendWindow + increment > MAX_WINDOW) return this.#refuse(id, ErrorCode.FLOW_CONTROL_ERROR);
    stream.sendWindow += increment;
    this.sender.enqueue(stream);
  }

  // From streams.

  consumed(stream: Stream | undefined, bytes: number): void {
    const increment = this.#window.giveBack(bytes);
    if (increment > 0) this.sender.updateWindow(0, increment);
    if (stream) this.#giveBack(stream, bytes);
  }

  reset(stream: Stream, code: ErrorCode): void {
    if (!stream.isSent || !stream.isReceived) this.sender.reset(stream.id, code);
    if (!stream.isReceived) this.table.abandon(stream.id);
    stream.close();
  }

  left(stream: Stream): void {
    this.table.delete(stream.id);
  }

  #begin(stream: Stream): void {
    const { head } = stream;
    if (!head || stream.isClosed) return;
    stream.head = undefined;
    try {
      this.#requested(stream, head);
    } catch (error) {
      if (!(error instanceof StreamError)) throw error;
      this.#refuse(stream.id, error.code);
    }
  }

  #trailers(stream: Stream, head: HeaderList, isEnd: boolean): void {
    if (stream.isReceived) return this.#refuse(stream.id, ErrorCode.STREAM_CLOSED);
    this.#begin(stream);
    if (stream.isClosed) return;
    const isProper = isEnd && !head.isTooLarge && head.fields.every(({ name, role }) => role !== Role.MALFORMED && !name.startsWith(':'));
    if (!isProper || !stream.expects(0, true)) return this.#refuse(stream.id, ErrorCode.PROTOCOL_ERROR);
    stream.received(head.fields);
  }

  /** @param isMessage the frame would say something, and not only how to go on */
  #notOpen(id: number, what: string, isMessage: boolean): void {
    const state = this.table.stateOf(id);
    const isWrong = state === 'idle' || (state === 'closed' && isMessage);
    if (!isWrong) return this.#limits.idle('frames of closed streams');
    throw new ConnectionError(state === 'idle' ? ErrorCode.PROTOCOL_ERROR : ErrorCode.STREAM_CLOSED, `${what} of a stream that is ${state}`);
  }

  /** Resets a stream for what its client did. */
  #refuse(id: number, code: ErrorCode): void {
    const stream = this.table.get(id);
    if (stream) {
      this.reset(stream, code);
    } else {
      this.sender.reset(id, code);
      this.table.abandon(id);
    }
    this.#limits.wasted();
  }

  #giveBack(stream: Stream, bytes: number): void {
    const increment = stream.isReceived || stream.isSent || bytes === 0 ? 0 : stream.receiveWindow.giveBack(bytes);
    if (increment > 0) this.sender.updateWindow(stream.id, increment);
  }
}
