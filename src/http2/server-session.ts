import { type ConnectionError, ErrorCode, INITIAL_WINDOW, PING, PREFACE } from './frames.ts';
import { CONNECTION_WINDOW, MAX_STREAMS, type Requested, ServerStreams } from './server-streams.ts';
import { type Output, Session } from './session.ts';
import { Setting, writeSettings } from './settings.ts';
import { ANY_STREAM } from './stream-table.ts';
import { STREAM_WINDOW } from './streams.ts';

const OUR_PING = Buffer.from('stplgate');

/** What a session tells of. */
export interface ServerEvents {
  requested: Requested;
  /** The client has heard of the end that was announced. */
  heard(): void;
  /** The client will ask nothing more. */
  leaving(): void;
  /** The connection cannot go on: GOAWAY waits to be sent, and all streams are closed. */
  failed(error: ConnectionError): void;
}

export interface ServerOptions {
  /** WebSockets are offered (RFC 8441). */
  webSocket: boolean;
  /** Decoded bytes of one head (SETTINGS_MAX_HEADER_LIST_SIZE). */
  maxHeaderList: number;
}

/** HTTP/2 as a server speaks it. */
export class ServerSession extends Session {
  protected readonly streams: ServerStreams;
  readonly #events: ServerEvents;

  constructor(events: ServerEvents, { webSocket, maxHeaderList }: ServerOptions, output: Output) {
    super(output, PREFACE, maxHeaderList);
    this.#events = events;
    this.streams = new ServerStreams(this.sender, this.limits, (stream, head) => events.requested(stream, head));
    writeSettings(this.sender.writer, [
      [Setting.MAX_CONCURRENT_STREAMS, MAX_STREAMS],
      [Setting.INITIAL_WINDOW_SIZE, STREAM_WINDOW],
      [Setting.MAX_HEADER_LIST_SIZE, maxHeaderList],
      ...(webSocket ? [[Setting.ENABLE_CONNECT_PROTOCOL, 1] as const] : []),
    ]);
    this.sender.updateWindow(0, CONNECTION_WINDOW - INITIAL_WINDOW);
  }

  /** Says that the connection will end, and asks when the client has heard it; what it asks until then is answered. */
  announceEnd(): void {
    this.sender.goAway(ANY_STREAM, ErrorCode.NO_ERROR);
    this.sender.writer.copy(PING, 0, 0, OUR_PING, 0, OUR_PING.length);
  }

  /** Takes no more streams; those that there are go on. */
  close(): void {
    const { table } = this.streams;
    if (table.final !== ANY_STREAM || this.isOver) return;
    table.final = table.last;
    this.sender.goAway(table.last, ErrorCode.NO_ERROR);
  }

  protected get lastHeard(): number {
    return this.streams.table.last;
  }

  protected failed(error: ConnectionError): void {
    this.#events.failed(error);
  }

  protected goneAway(): void {
    this.#events.leaving();
  }

  protected acknowledged(payload: Buffer): void {
    if (OUR_PING.equals(payload)) this.#events.heard();
  }

  protected settled(): void {}

  /** We begin no streams: nothing is pushed. */
  maxStreams(): void {}
  push(): void {}
}
