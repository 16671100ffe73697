import type { ConnectionError } from '../../src/http2/frames.ts';
import type { Output, Session } from '../../src/http2/session.ts';
import type { Stream, StreamHandler } from '../../src/http2/stream.ts';
import { flags, frame, frameTypes, type Frame } from './http2.ts';

/** What a session has told of a stream. */
export interface Recorded extends StreamHandler {
  /** One character a byte. */
  body: string;
  trailers: [string, string][] | undefined;
  drains: number;
  isClosed: boolean;
}

/** The other side of a session without a socket: bytes go in, frames come out, and time stands still. */
export abstract class Peer {
  abstract readonly session: Session;
  /** What the session has said since the last `take`. */
  frames: Frame[] = [];
  /** What it has said before its first frame. */
  preface: Buffer | undefined;
  error: ConnectionError | undefined;
  now = 0;
  /** Whether DATA is consumed as it comes. */
  consumes = true;
  /** Whether the socket takes what it is given. */
  takes = true;
  readonly #waiting: (() => void)[] = [];
  readonly #prefaceLength: number;
  #isBegun = false;

  /** @param prefaceLength bytes with which the session begins */
  constructor(prefaceLength: number) {
    this.#prefaceLength = prefaceLength;
  }

  protected output: Output = {
    give: (bytes, taken) => {
      this.#parse(Buffer.from(bytes));
      this.#waiting.push(taken);
    },
    onWaiting: () => {},
    onTaken: () => this.session.sender.pump(),
  };

  #parse(bytes: Buffer): void {
    if (!this.#isBegun) this.preface = bytes.subarray(0, this.#prefaceLength);
    for (let at = this.#isBegun ? 0 : this.#prefaceLength; at < bytes.length;) {
      const end = at + 9 + bytes.readUIntBE(at, 3);
      this.frames.push({ type: bytes[at + 3]!, flags: bytes[at + 4]!, stream: bytes.readUInt32BE(at + 5), payload: bytes.subarray(at + 9, end) });
      at = end;
    }
    this.#isBegun = true;
  }

  send(...bytes: Buffer[]): void {
    this.session.read(Buffer.concat(bytes), this.now);
  }

  /** Sends these bytes in pieces, `changes` of them made others; `between` is called behind each piece. */
  sendMangled(good: readonly Buffer[], changes: number, random: () => number, between: () => void): void {
    const bytes = Buffer.concat(good);
    for (let n = 0; n < changes; n += 1) bytes[Math.floor(random() * bytes.length)] = Math.floor(random() * 256);
    for (let at = 0; at < bytes.length;) {
      const end = at + 1 + Math.floor(random() * 60);
      this.send(bytes.subarray(at, end));
      at = end;
      between();
    }
  }

  protected recorded(stream: () => Stream): Recorded {
    const one: Recorded = {
      body: '',
      trailers: undefined,
      drains: 0,
      isClosed: false,
      data: (piece) => {
        one.body += piece.toString('latin1');
        if (this.consumes) stream().consumed(piece.length);
      },
      ended: (trailers) => (one.trailers = trailers.map(({ name, value }) => [name, value])),
      drained: () => (one.drains += 1),
      closed: () => (one.isClosed = true),
    };
    return one;
  }

  data(stream: number, bytes: number | string, isComplete = false): void {
    this.send(frame(frameTypes.data, isComplete ? flags.endStream : 0, stream, typeof bytes === 'string' ? Buffer.from(bytes) : Buffer.alloc(bytes)));
  }

  update(stream: number, increment: number): void {
    this.send(frame(frameTypes.windowUpdate, 0, stream, uint32(increment)));
  }

  settings(...settings: [name: number, value: number][]): void {
    this.send(frame(frameTypes.settings, 0, 0, settingsPayload(...settings)));
  }

  /** The socket has taken everything. */
  take(): void {
    for (const taken of this.#waiting.splice(0)) taken();
  }

  /** What the session has said since the last call, at the end of a turn. */
  said(): Frame[] {
    const { sender } = this.session;
    sender.pump();
    do {
      sender.writer.flush();
      if (this.takes) this.take();
    } while (this.takes && sender.writer.backlog > 0);
    const { frames } = this;
    this.frames = [];
    return frames;
  }

  /** As `said`, the DATA only: stream and length, and whether it ends. */
  saidData(): [stream: number, length: number, isEnd: boolean][] {
    return this.said()
      .filter(({ type }) => type === frameTypes.data)
      .map(({ stream, payload, flags: bits }) => [stream, payload.length, (bits & flags.endStream) !== 0]);
  }

  /** The code of RST_STREAM or GOAWAY that the session has sent last. */
  ended(): string {
    const last = this.said().findLast(({ type }) => type === frameTypes.rstStream || type === frameTypes.goaway);
    if (!last) return 'nothing';
    return last.type === frameTypes.rstStream ? `RST ${last.payload.readUInt32BE()}` : `GOAWAY ${last.payload.readUInt32BE(4)}`;
  }
}

export function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

export function settingsPayload(...settings: [name: number, value: number][]): Buffer {
  return Buffer.concat(settings.map(([name, value]) => Buffer.concat([uint32(name).subarray(2), uint32(value)])));
}
