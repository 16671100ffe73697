import {
  ACK,
  ConnectionError,
  END_STREAM,
  ErrorCode,
  GOAWAY,
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
import { readSettings, type SettingsTaker } from './settings.ts';
import type { Streams } from './streams.ts';

/** How its bytes leave a session, as `FrameWriter` has it. */
export interface Output {
  give: Give;
  onWaiting: () => void;
  onTaken: () => void;
}

/**
 * One side of a connection of HTTP/2 (RFC 9113): what is said of the connection, as far as it is the same for both. Bytes become
 * streams, and what is said on these becomes bytes.
 */
export abstract class Session implements FrameSink, SettingsTaker {
  readonly sender: Sender;
  protected abstract readonly streams: Streams;
  protected readonly limits = new Limits();
  protected isOver = false;
  /** Why it could not go on. */
  failure: ConnectionError | undefined;
  readonly #reader: FrameReader;
  readonly #decoder = new HpackDecoder();
  readonly #maxHeaderList: number;

  /**
   * @param preface with what the other side begins, before its settings
   * @param maxHeaderList decoded bytes of one head (SETTINGS_MAX_HEADER_LIST_SIZE)
   */
  constructor({ give, onWaiting, onTaken }: Output, preface: Buffer, maxHeaderList: number) {
    this.sender = new Sender(new FrameWriter(give, onWaiting, onTaken));
    this.#reader = new FrameReader(this, preface);
    this.#maxHeaderList = maxHeaderList;
  }

  /** The last stream of the other side's that was looked at. */
  protected abstract get lastHeard(): number;
  /** All streams are closed, and GOAWAY waits to be sent. */
  protected abstract failed(error: ConnectionError): void;
  /** GOAWAY. */
  protected abstract goneAway(last: number, code: number): void;
  /** PING with what was asked before. */
  protected abstract acknowledged(payload: Buffer): void;
  /** All of the other side's SETTINGS frame has been taken. */
  protected abstract settled(): void;
  abstract maxStreams(count: number): void;
  abstract push(isWelcome: boolean): void;

  /**
   * @param bytes valid until this returns
   * @param now in ms
   */
  read(bytes: Buffer, now: number): void {
    if (this.isOver) return;
    this.limits.now = now;
    try {
      this.#reader.read(bytes);
      this.streams.begin();
      this.sender.pump();
    } catch (error) {
      if (!(error instanceof ConnectionError)) throw error;
      this.fail(error);
    }
  }

  fail(error: ConnectionError): void {
    if (this.isOver) return;
    this.failure = error;
    this.sender.goAway(this.lastHeard, error.code);
    this.abandon();
    this.failed(error);
  }

  /** Closes all streams: the connection has ended, or is about to. */
  abandon(): void {
    this.isOver = true;
    for (const stream of this.streams.table.all()) stream.close();
  }

  // From the reader.

  headers(id: number, flags: number, block: Buffer, start: number, end: number): void {
    // Every block is decoded, whatever becomes of its stream: later ones refer to it.
    const head = this.#decoder.decode(block, start, end, this.#maxHeaderList);
    this.streams.headers(id, head, (flags & END_STREAM) !== 0);
  }

  dataBegins(id: number, flags: number, occupied: number, length: number): void {
    this.streams.dataBegins(id, (flags & END_STREAM) !== 0, occupied, length);
  }

  data(piece: Buffer): void {
    this.streams.data(piece);
  }

  dataEnds(flags: number): void {
    this.streams.dataEnds((flags & END_STREAM) !== 0);
  }

  frame(type: number, flags: number, id: number, bytes: Buffer, start: number, end: number): void {
    const length = end - start;
    const isAck = (flags & ACK) !== 0;
    switch (type) {
      case RST_STREAM:
        expect(length === 4, id !== 0, 'RST_STREAM');
        return this.streams.takenBack(id, bytes.readUInt32BE(start));
      case SETTINGS:
        expect(isAck ? length === 0 : length % 6 === 0, id === 0, 'SETTINGS');
        this.limits.idle('SETTINGS');
        return isAck ? undefined : this.#settings(bytes, start, end);
      case PUSH_PROMISE:
        // A client may not send it, and we allow no server to.
        throw new ConnectionError(ErrorCode.PROTOCOL_ERROR, 'PUSH_PROMISE');
      case PING:
        expect(length === 8, id === 0, 'PING');
        this.limits.earn(this.sender.acknowledgeable());
        this.limits.idle('PING');
        if (isAck) this.acknowledged(bytes.subarray(start, end));
        else this.sender.writer.copy(PING, ACK, 0, bytes, start, end);
        return;
      case GOAWAY:
        expect(length >= 8, id === 0, 'GOAWAY');
        this.limits.idle('GOAWAY');
        return this.goneAway(bytes.readUInt32BE(start) & MAX_WINDOW, bytes.readUInt32BE(start + 4));
      case WINDOW_UPDATE:
        expect(length === 4, true, 'WINDOW_UPDATE');
        this.limits.earn(this.sender.acknowledgeable());
        this.limits.idle('WINDOW_UPDATE');
        return this.#windowUpdate(id, bytes.readUInt32BE(start) & MAX_WINDOW);
      case PRIORITY:
        // Of no use any more (RFC 9113, 5.3.2).
        expect(length === 5, id !== 0, 'PRIORITY');
        return this.limits.idle('PRIORITY');
      default:
        // RFC 9113, 5.5.
        this.limits.idle('unknown frames');
    }
  }

  // From settings.

  headerTable(size: number): void {
    this.sender.encoder.limit(size);
  }

  initialWindow(size: number): void {
    this.sender.resizeWindows(size, this.streams.table.all());
  }

  #settings(bytes: Buffer, start: number, end: number): void {
    readSettings(bytes, start, end, this);
    this.sender.writer.frame(SETTINGS, ACK, 0, 0);
    this.settled();
  }

  #windowUpdate(id: number, increment: number): void {
    if (id !== 0) return this.streams.windowUpdate(id, increment);
    if (increment === 0) throw new ConnectionError(ErrorCode.PROTOCOL_ERROR, 'WINDOW_UPDATE of 0');
    this.sender.openWindow(increment);
  }
}

function expect(hasRightSize: boolean, isOnRightStream: boolean, what: string): void {
  if (!isOnRightStream) throw new ConnectionError(ErrorCode.PROTOCOL_ERROR, `${what} on a wrong stream`);
  if (!hasRightSize) throw new ConnectionError(ErrorCode.FRAME_SIZE_ERROR, `${what} of a wrong size`);
}
