import { ConnectionError, ErrorCode, MAX_WINDOW } from './frames.ts';
import { isRegular, type HeaderList } from './header-field.ts';
import type { Limits } from './limits.ts';
import { ReceiveWindow } from './receive-window.ts';
import type { Sender } from './sender.ts';
import { StreamTable } from './stream-table.ts';
import type { Stream, StreamOwner } from './stream.ts';

/** What may wait of one body when whoever gets it is slow; with less, a distant client uploads slowly. */
export const STREAM_WINDOW = 262_144;

/** What the other side says on the streams of a connection (RFC 9113, 5), as far as it is the same for a server and a client. */
export abstract class Streams implements StreamOwner {
  readonly sender: Sender;
  readonly table: StreamTable;
  protected readonly limits: Limits;
  readonly #window: ReceiveWindow;
  /** Whose DATA is being read. */
  #receiving: Stream | undefined;

  /**
   * @param window of DATA that may come on all streams together
   * @param remembered streams whose last frames may be on their way when we reset them (RFC 9113, 5.1)
   */
  constructor(sender: Sender, limits: Limits, window: number, remembered: number) {
    this.sender = sender;
    this.limits = limits;
    this.table = new StreamTable(remembered);
    this.#window = new ReceiveWindow(window);
  }

  /** A header block: of a message, or behind one. */
  abstract headers(id: number, head: HeaderList, isEnd: boolean): void;
  /** What has come, in the bytes that are being read, is to be looked at now. */
  abstract begin(): void;
  /** As `begin`, of one stream: more is about to come of it. */
  protected abstract beginOne(stream: Stream): void;
  /** DATA has come that takes so much of the connection's window; some of it is padding, or of no stream. */
  protected abstract arrived(occupied: number, padding: number): void;
  /** A stream came to nothing by what the other side did. */
  protected abstract wasted(): void;
  abstract consumed(stream: Stream | undefined, bytes: number): void;
  abstract outspoken(stream: Stream): void;

  /** As the reader says it. @throws ConnectionError as the others do */
  dataBegins(id: number, isEnd: boolean, occupied: number, length: number): void {
    if (!this.#window.take(occupied)) throw new ConnectionError(ErrorCode.FLOW_CONTROL_ERROR, 'more DATA than the connection may carry');
    this.arrived(occupied, occupied - length);
    this.#receiving = undefined;
    const stream = this.table.get(id);
    if (!stream) return this.notOpen(id, 'DATA', true);
    if (stream.isReceived) return this.refuse(id, ErrorCode.STREAM_CLOSED, 'DATA behind its end');
    if (!stream.receiveWindow.take(occupied)) return this.refuse(id, ErrorCode.FLOW_CONTROL_ERROR, 'more DATA than its window');
    if (length === 0 && !isEnd) this.limits.idle('DATA frames without content');
    this.beginOne(stream);
    if (stream.isClosed) return;
    this.widen(stream, occupied - length);
    if (!stream.expects(length, isEnd)) return this.refuse(id, ErrorCode.PROTOCOL_ERROR, 'DATA that contradicts Content-Length');
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

  /** RST_STREAM: the other side neither says nor wants anything more. */
  takenBack(id: number, code: number): void {
    const stream = this.table.get(id);
    if (!stream) return this.notOpen(id, 'RST_STREAM', false);
    stream.resetCode = code;
    stream.close();
    this.wasted();
  }

  windowUpdate(id: number, increment: number): void {
    const stream = this.table.get(id);
    if (!stream) return this.notOpen(id, 'WINDOW_UPDATE', false);
    if (increment === 0) return this.refuse(id, ErrorCode.PROTOCOL_ERROR, 'WINDOW_UPDATE of 0');
    if (stream.sendWindow + increment > MAX_WINDOW) return this.refuse(id, ErrorCode.FLOW_CONTROL_ERROR, 'a window that is too large');
    stream.sendWindow += increment;
    this.sender.enqueue(stream);
  }

  // From streams.

  reset(stream: Stream, code: ErrorCode): void {
    if (!stream.isSent || !stream.isReceived) this.sender.reset(stream.id, code);
    if (!stream.isReceived) this.table.abandon(stream.id);
    stream.close();
  }

  left(stream: Stream): void {
    this.table.delete(stream.id);
  }

  // For both sides.

  protected trailers(stream: Stream, head: HeaderList, isEnd: boolean): void {
    if (stream.isReceived) return this.refuse(stream.id, ErrorCode.STREAM_CLOSED, 'HEADERS behind its end');
    this.beginOne(stream);
    if (stream.isClosed) return;
    const isProper = isEnd && !head.isTooLarge && head.fields.every(({ role }) => isRegular(role));
    if (!isProper || !stream.expects(0, true)) return this.refuse(stream.id, ErrorCode.PROTOCOL_ERROR, 'malformed trailers');
    stream.received(head.fields);
  }

  /** @param isMessage the frame would say something, and not only how to go on */
  protected notOpen(id: number, what: string, isMessage: boolean): void {
    const state = this.table.stateOf(id);
    const isWrong = state === 'idle' || (state === 'closed' && isMessage);
    if (!isWrong) return this.limits.idle('frames of closed streams');
    throw new ConnectionError(state === 'idle' ? ErrorCode.PROTOCOL_ERROR : ErrorCode.STREAM_CLOSED, `${what} of a stream that is ${state}`);
  }

  /** Resets a stream for what the other side did. */
  protected refuse(id: number, code: ErrorCode, misuse: string): void {
    const stream = this.table.get(id);
    if (stream) {
      stream.misuse = misuse;
      this.reset(stream, code);
    } else {
      this.sender.reset(id, code);
      this.table.abandon(id);
    }
    this.wasted();
  }

  /** So much more may come on all streams together. */
  protected widenAll(bytes: number): void {
    const increment = this.#window.giveBack(bytes);
    if (increment > 0) this.sender.updateWindow(0, increment);
  }

  /** So much more may come on this one. */
  protected widen(stream: Stream, bytes: number): void {
    const increment = stream.isReceived || bytes === 0 ? 0 : stream.receiveWindow.giveBack(bytes);
    if (increment > 0) this.sender.updateWindow(stream.id, increment);
  }
}
