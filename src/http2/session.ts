import {
  ACK,
  ConnectionError,
  END_STREAM,
  ErrorCode,
  GOAWAY,
  INITIAL_WINDOW,
  MAX_WINDOW,
  PING,
  PRIORITY,
  PUSH_PROMISE,
  RST_STREAM,
  SETTINGS,
  WINDOW_UPDATE,
} from './frames.ts';
import { FrameReader, type FrameSink } from './frame-reader.ts';
import { FrameWriter, type Give } from './frame-writer.ts';
import { HpackDecoder } from './hpack-decoder.ts';
import { Limits } from './limits.ts';
import { Sender } from './sender.ts';
import { readSettings, writeSettings } from './settings.ts';
import { ANY_STREAM } from './stream-table.ts';
import { CONNECTION_WINDOW, MAX_STREAMS, STREAM_WINDOW, Streams, type Requested } from './streams.ts';

const OUR_PING = Buffer.from('stplgate');

/** What a session tells of. */
export interface SessionEvents {
  requested: Requested;
  /** The client has heard of the end that was announced. */
  heard(): void;
  /** The client will ask nothing more. */
  leaving(): void;
  /** The connection cannot go on: GOAWAY waits to be sent, and all streams are closed. */
  failed(error: ConnectionError): void;
}

export interface SessionOptions {
  /** WebSockets are offered (RFC 8441). */
  webSocket: boolean;
  /** Decoded bytes of one head (SETTINGS_MAX_HEADER_LIST_SIZE). */
  maxHeaderList: number;
}

/** HTTP/2 as a server speaks it (RFC 9113): a client's bytes become streams, and what is said on these becomes bytes. */
export class Session implements FrameSink {
  readonly sender: Sender;
  readonly #reader = new FrameReader(this);
  readonly #decoder = new HpackDecoder();
  readonly #events: SessionEvents;
  readonly #maxHeaderList: number;
  readonly #limits = new Limits();
  readonly #streams: Streams;
  #isOver = false;

  /** @param give as for `FrameWriter`, and what follows it */
  constructor(events: SessionEvents, options: SessionOptions, give: Give, onWaiting: () => void, onTaken: () => void) {
    this.#events = events;
    this.#maxHeaderList = options.maxHeaderList;
    this.sender = new Sender(new FrameWriter(give, onWaiting, onTaken));
    this.#streams = new Streams(this.sender, this.#limits, (stream, head) => events.requested(stream, head));
    writeSettings(this.sender.writer, { maxStreams: MAX_STREAMS, window: STREAM_WINDOW, ...options });
    this.sender.updateWindow(0, CONNECTION_WINDOW - INITIAL_WINDOW);
  }

  /**
   * @param bytes valid until this returns
   * @param now in ms
   */
  read(bytes: Buffer, now: number): void {
    if (this.#isOver) return;
    this.#limits.now = now;
    try {
      this.#reader.read(bytes);
      this.#streams.begin();
      this.sender.pump();
    } catch (error) {
      if (!(error instanceof ConnectionError)) throw error;
      this.fail(error);
    }
  }

  /** Says that the connection will end, and asks when the client has heard it; what it asks until then is answered. */
  announceEnd(): void {
    this.sender.goAway(ANY_STREAM, ErrorCode.NO_ERROR);
    this.sender.writer.copy(PING, 0, 0, OUR_PING, 0, OUR_PING.length);
  }

  /** Takes no more streams; those that there are go on. */
  close(): void {
    const { table } = this.#streams;
    if (table.final !== ANY_STREAM || this.#isOver) return;
    table.final = table.last;
    this.sender.goAway(table.last, ErrorCode.NO_ERROR);
  }

  fail(error: ConnectionError): void {
    if (this.#isOver) return;
    this.sender.goAway(this.#streams.table.last, error.code);
    this.abandon();
    this.#events.failed(error);
  }

  /** Closes all streams: the connection has ended, or is about to. */
  abandon(): void {
    this.#isOver = true;
    for (const stream of this.#streams.table.all()) stream.close();
  }

  // From the reader.

  headers(id: number, flags: number, block: Buffer, start: number, end: number): void {
    // Every block is decoded, whatever becomes of its stream: later ones refer to it.
    const head = this.#decoder.decode(block, start, end, this.#maxHeaderList);
    this.#streams.headers(id, head, (flags & END_STREAM) !== 0);
  }

  dataBegins(id: number, flags: number, occupied: number, length: number): void {
    this.#streams.dataBegins(id, (flags & END_STREAM) !== 0, occupied, length);
  }

  data(piece: Buffer): void {
    this.#streams.data(piece);
  }

  dataEnds(flags: number): void {
    this.#streams.dataEnds((flags & END_STREAM) !== 0);
  }

  frame(type: number, flags: number, id: number, bytes: Buffer, start: number, end: number): void {
    const length = end - start;
    const isAck = (flags & ACK) !== 0;
    switch (type) {
      case RST_STREAM:
        expect(length === 4, id !== 0, 'RST_STREAM');
        return this.#streams.takenBack(id);
      case SETTINGS:
        expect(isAck ? length === 0 : length % 6 === 0, id === 0, 'SETTINGS');
        this.#limits.idle('SETTINGS');
        return isAck ? undefined : this.#settings(bytes, start, end);
      case PUSH_PROMISE:
        throw new ConnectionError(ErrorCode.PROTOCOL_ERROR, 'PUSH_PROMISE of a client');
      case PING:
        expect(length === 8, id === 0, 'PING');
        this.#limits.earn(this.sender.acknowledgeable());
        this.#limits.idle('PING');
        if (!isAck) this.sender.writer.copy(PING, ACK, 0, bytes, start, end);
        else if (OUR_PING.compare(bytes, start, end) === 0) this.#events.heard();
        return;
      case GOAWAY:
        expect(length >= 8, id === 0, 'GOAWAY');
        this.#limits.idle('GOAWAY');
        return this.#events.leaving();
      case WINDOW_UPDATE:
        expect(length === 4, true, 'WINDOW_UPDATE');
        this.#limits.earn(this.sender.acknowledgeable());
        this.#limits.idle('WINDOW_UPDATE');
        return this.#windowUpdate(id, bytes.readUInt32BE(start) & MAX_WINDOW);
      case PRIORITY:
        // Of no use any more (RFC 9113, 5.3.2).
        expect(length === 5, id !== 0, 'PRIORITY');
        return this.#limits.idle('PRIORITY');
      default:
        // RFC 9113, 5.5.
        this.#limits.idle('unknown frames');
    }
  }

  #settings(bytes: Buffer, start: number, end: number): void {
    readSettings(bytes, start, end, {
      headerTable: (size) => this.sender.encoder.limit(size),
      initialWindow: (size) => this.sender.resizeWindows(size, this.#streams.table.all()),
    });
    this.sender.writer.frame(SETTINGS, ACK, 0, 0);
  }

  #windowUpdate(id: number, increment: number): void {
    if (id !== 0) return this.#streams.windowUpdate(id, increment);
    if (increment === 0) throw new ConnectionError(ErrorCode.PROTOCOL_ERROR, 'WINDOW_UPDATE of 0');
    this.sender.openWindow(increment);
  }
}

function expect(hasRightSize: boolean, isOnRightStream: boolean, what: string): void {
  if (!isOnRightStream) throw new ConnectionError(ErrorCode.PROTOCOL_ERROR, `${what} on a wrong stream`);
  if (!hasRightSize) throw new ConnectionError(ErrorCode.FRAME_SIZE_ERROR, `${what} of a wrong size`);
}
