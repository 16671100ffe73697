import type { ConnectionError } from '../../src/http2/frames.ts';
import { PREFACE } from '../../src/http2/frames.ts';
import type { HeaderList } from '../../src/http2/header-field.ts';
import { ServerSession } from '../../src/http2/server-session.ts';
import type { Stream, StreamHandler } from '../../src/http2/stream.ts';
import { flags, frame, frameTypes, getHead, headerBlock, type Frame } from './http2.ts';

/** What a server has seen of a stream. */
export interface Seen extends StreamHandler {
  stream: Stream;
  head: HeaderList;
  /** One character a byte. */
  body: string;
  trailers: [string, string][] | undefined;
  drains: number;
  isClosed: boolean;
}

/** A session without a socket: bytes go in, frames come out, and time stands still. */
export class SessionPeer {
  readonly session: ServerSession;
  readonly seen = new Map<number, Seen>();
  /** What the server has said since the last `take`. */
  frames: Frame[] = [];
  error: ConnectionError | undefined;
  heard = 0;
  leaving = 0;
  now = 0;
  /** Whether DATA is consumed as it comes. */
  consumes = true;
  /** Whether the socket takes what it is given. */
  takes = true;
  readonly #waiting: (() => void)[] = [];

  /** @param preface what the client begins with, instead of what is right */
  constructor({ settings = Buffer.alloc(0), webSocket = false, preface }: { settings?: Buffer; webSocket?: boolean; preface?: Buffer } = {}) {
    this.session = new ServerSession(
      {
        requested: (stream, head) => this.#requested(stream, head),
        heard: () => (this.heard += 1),
        leaving: () => (this.leaving += 1),
        failed: (error) => (this.error = error),
      },
      { webSocket, maxHeaderList: 65_536 },
      {
        give: (bytes, taken) => {
          this.#parse(Buffer.from(bytes));
          this.#waiting.push(taken);
        },
        onWaiting: () => {},
        onTaken: () => this.session.sender.pump(),
      },
    );
    this.send(preface ?? Buffer.concat([PREFACE, frame(frameTypes.settings, 0, 0, settings)]));
  }

  #requested(stream: Stream, head: HeaderList): void {
    const one: Seen = {
      stream,
      head,
      body: '',
      trailers: undefined,
      drains: 0,
      isClosed: false,
      data: (piece) => {
        one.body += piece.toString('latin1');
        if (this.consumes) stream.consumed(piece.length);
      },
      ended: (trailers) => (one.trailers = trailers.map(({ name, value }) => [name, value])),
      drained: () => (one.drains += 1),
      closed: () => (one.isClosed = true),
    };
    stream.handler = one;
    this.seen.set(stream.id, one);
  }

  #parse(bytes: Buffer): void {
    for (let at = 0; at < bytes.length;) {
      const end = at + 9 + bytes.readUIntBE(at, 3);
      this.frames.push({ type: bytes[at + 3]!, flags: bytes[at + 4]!, stream: bytes.readUInt32BE(at + 5), payload: bytes.subarray(at + 9, end) });
      at = end;
    }
  }

  send(...bytes: Buffer[]): void {
    this.session.read(Buffer.concat(bytes), this.now);
  }

  headers(stream: number, isComplete = true, fields: readonly (readonly [string, string])[] = getHead): void {
    this.send(frame(frameTypes.headers, flags.endHeaders | (isComplete ? flags.endStream : 0), stream, headerBlock(fields)));
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

  /** What the server has said since the last call, at the end of a turn. */
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

  /** The code of RST_STREAM or GOAWAY that the server has sent last. */
  ended(): string {
    const last = this.said().findLast(({ type }) => type === frameTypes.rstStream || type === frameTypes.goaway);
    if (!last) return 'nothing';
    return last.type === frameTypes.rstStream ? `RST ${last.payload.readUInt32BE()}` : `GOAWAY ${last.payload.readUInt32BE(4)}`;
  }

  get(stream: number): Seen {
    const one = this.seen.get(stream);
    if (!one) throw new Error(`no stream ${stream}`);
    return one;
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

/** Answers a request with 200 and this body. */
export function ok(peer: SessionPeer, stream: number, body: Buffer): void {
  const one = peer.get(stream).stream;
  one.respond(200, [], false);
  one.write(body, true);
  one.end([]);
}
