import type { Field } from '../proxy/headers.ts';
import { type AnswerHandler, ClientStreams, CONNECTION_WINDOW } from './client-streams.ts';
import { ConnectionError, ErrorCode, INITIAL_WINDOW, PREFACE } from './frames.ts';
import { type Output, Session } from './session.ts';
import { Setting, writeSettings } from './settings.ts';
import type { Stream } from './stream.ts';
import { STREAM_WINDOW } from './streams.ts';

/** Streams of one session at a time, whatever the server allows. */
const MAX_STREAMS = 256;
/** Streams of one session: their numbers are not endless (RFC 9113, 5.1.1). */
const MAX_BEGUN = 1_000_000;
const NOTHING = Buffer.alloc(0);

/** What a session tells of. */
export interface ClientEvents {
  /** The server has said how many streams there may be, for the first time or anew. */
  allowed(): void;
  /** The server takes no more streams; those that it will not look at are closed. `code` is NO_ERROR, or what it finds fault with. */
  leaving(code: number): void;
  /** The connection cannot go on: GOAWAY waits to be sent, and all streams are closed. */
  failed(error: ConnectionError): void;
}

/** HTTP/2 as a client speaks it. */
export class ClientSession extends Session {
  protected readonly streams: ClientStreams;
  readonly #events: ClientEvents;
  /** Its settings come before everything else (RFC 9113, 3.4). */
  isReady = false;
  /** Streams at a time. */
  limit = MAX_STREAMS;
  #isLeft = false;

  /** @param maxHeaderList decoded bytes of one head (SETTINGS_MAX_HEADER_LIST_SIZE) */
  constructor(events: ClientEvents, maxHeaderList: number, output: Output) {
    super(output, NOTHING, maxHeaderList);
    this.#events = events;
    this.streams = new ClientStreams(this.sender, this.limits);
    this.sender.writer.raw(PREFACE);
    writeSettings(this.sender.writer, [
      [Setting.ENABLE_PUSH, 0],
      [Setting.INITIAL_WINDOW_SIZE, STREAM_WINDOW],
      [Setting.MAX_HEADER_LIST_SIZE, maxHeaderList],
    ]);
    this.sender.updateWindow(0, CONNECTION_WINDOW - INITIAL_WINDOW);
  }

  /** One more stream can be begun now. */
  get hasRoom(): boolean {
    const { size, last } = this.streams.table;
    return size < this.limit && last < 2 * MAX_BEGUN && !this.isLeft && !this.sender.isFull;
  }

  /** It carries no stream. */
  get isIdle(): boolean {
    return this.streams.table.size === 0;
  }

  /** No more streams can be begun, ever. */
  get isLeft(): boolean {
    return this.#isLeft || this.isOver;
  }

  /** Begins a stream, with the head of a request, pseudo-header fields first; `isLast` when nothing follows. There must be room. */
  request(fields: readonly Field[], isLast: boolean, handler: AnswerHandler): Stream {
    return this.streams.request(fields, isLast, handler);
  }

  /** Begins no more streams. */
  close(): void {
    if (this.isLeft) return;
    this.#isLeft = true;
    this.sender.goAway(this.lastHeard, ErrorCode.NO_ERROR);
  }

  /** Streams of a server's own would be pushed. */
  protected get lastHeard(): number {
    return 0;
  }

  protected failed(error: ConnectionError): void {
    this.#events.failed(error);
  }

  protected goneAway(last: number, code: number): void {
    this.#isLeft = true;
    this.streams.goneAway(last);
    this.#events.leaving(code);
  }

  /** We ask nothing. */
  protected acknowledged(): void {}

  protected settled(): void {
    this.isReady = true;
    this.#events.allowed();
  }

  maxStreams(count: number): void {
    this.limit = Math.min(count, MAX_STREAMS);
  }

  push(isWelcome: boolean): void {
    if (isWelcome) throw new ConnectionError(ErrorCode.PROTOCOL_ERROR, 'a server that wants pushes');
  }
}
