import type { Field } from '../proxy/headers.ts';
import { ErrorCode, StreamError } from './frames.ts';
import { isRegular, Role, type HeaderField, type HeaderList } from './header-field.ts';
import type { Limits } from './limits.ts';
import type { Sender } from './sender.ts';
import { Stream, type StreamHandler } from './stream.ts';
import { STREAM_WINDOW, Streams } from './streams.ts';

/**
 * Of all answers of a connection together. It is widened as DATA comes, whoever takes it: that one client is slow holds up no
 * other, and what is held of its answer is bounded by the window of its stream.
 */
export const CONNECTION_WINDOW = 64 * STREAM_WINDOW;
/** Of streams that we have reset; all of a session's may be, at once and again. */
const REMEMBERED = 4_096;
/** Bytes of DATA for which a server may well send a frame that carries nothing. */
const ACKNOWLEDGED = 128;

/** Where an answer goes. */
export interface AnswerHandler extends StreamHandler {
  /** An interim answer. */
  informed(status: number, fields: readonly HeaderField[]): void;
  /** @param isComplete nothing follows, no trailers either */
  answered(status: number, fields: readonly HeaderField[], isComplete: boolean): void;
}

/** What a server says: it answers on the streams that we have begun. */
export class ClientStreams extends Streams {
  /** Whose answer has not begun, by stream. */
  readonly #unanswered = new Map<number, AnswerHandler>();

  constructor(sender: Sender, limits: Limits) {
    super(sender, limits, CONNECTION_WINDOW, REMEMBERED);
  }

  /** Begins a stream, with the head of a request; `isLast` when nothing follows. */
  request(fields: readonly Field[], isLast: boolean, handler: AnswerHandler): Stream {
    const { table } = this;
    table.last += table.last === 0 ? 1 : 2;
    const stream = new Stream(table.last, this, { receive: STREAM_WINDOW, send: this.sender.initialWindow });
    stream.handler = handler;
    table.add(stream);
    this.#unanswered.set(stream.id, handler);
    this.limits.earn(4);
    stream.request(fields, isLast);
    return stream;
  }

  /** Streams after the last one are not looked at: they may be begun elsewhere (RFC 9113, 6.8). */
  goneAway(last: number): void {
    for (const stream of this.table.all()) {
      if (stream.id <= last) continue;
      stream.resetCode = ErrorCode.REFUSED_STREAM;
      this.table.abandon(stream.id);
      stream.close();
    }
  }

  /** Interim answers, an answer, or the trailers of one. */
  headers(id: number, head: HeaderList, isEnd: boolean): void {
    const stream = this.table.get(id);
    if (!stream) return this.notOpen(id, 'HEADERS', true);
    const handler = this.#unanswered.get(id);
    if (!handler) return this.trailers(stream, head, isEnd);
    try {
      this.#head(stream, handler, head, isEnd);
    } catch (error) {
      if (!(error instanceof StreamError)) throw error;
      this.refuse(id, error.code, error.message);
    }
  }

  /** @throws StreamError when it is malformed (RFC 9113, 8.3.2) */
  #head(stream: Stream, handler: AnswerHandler, head: HeaderList, isEnd: boolean): void {
    if (head.isTooLarge) throw new StreamError(ErrorCode.ENHANCE_YOUR_CALM, 'a head that is too large');
    const [first] = head.fields;
    if (first?.role !== Role.STATUS) throw malformed('no :status');
    const fields = head.fields.slice(1);
    const wrong = fields.find(({ role }) => !isRegular(role));
    if (wrong) throw malformed(`field ${JSON.stringify(wrong.name.slice(0, 60))}`);
    const status = Number(first.value);
    if (status < 200) {
      // RFC 9113, 8.6: nothing is switched to.
      if (isEnd || status === 101) throw malformed(`an answer that is ${status}`);
      this.limits.idle('interim answers');
      return handler.informed(status, fields);
    }
    this.#unanswered.delete(stream.id);
    handler.answered(status, fields, isEnd);
    if (isEnd && !stream.isClosed) stream.received([]);
  }

  /** Requests are looked at by the other side. */
  begin(): void {}

  /** DATA comes: the answer must be there (RFC 9113, 8.1). */
  protected beginOne({ id }: Stream): void {
    if (this.#unanswered.has(id)) this.refuse(id, ErrorCode.PROTOCOL_ERROR, 'DATA before the answer');
  }

  protected arrived(occupied: number, padding: number): void {
    this.limits.earn((occupied - padding) / ACKNOWLEDGED);
    this.widenAll(occupied);
  }

  /** It costs the exchange that it belonged to, and nobody else. */
  protected wasted(): void {}

  // From streams.

  consumed(stream: Stream | undefined, bytes: number): void {
    if (stream) this.widen(stream, bytes);
  }

  override left(stream: Stream): void {
    this.#unanswered.delete(stream.id);
    super.left(stream);
  }

  /** The answer is to come. */
  outspoken(): void {}
}

function malformed(message: string): StreamError {
  return new StreamError(ErrorCode.PROTOCOL_ERROR, message);
}
