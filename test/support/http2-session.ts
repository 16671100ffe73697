import { PREFACE } from '../../src/http2/frames.ts';
import type { HeaderList } from '../../src/http2/header-field.ts';
import { ServerSession } from '../../src/http2/server-session.ts';
import type { Stream } from '../../src/http2/stream.ts';
import { flags, frame, frameTypes, getHead, headerBlock } from './http2.ts';
import { Peer, type Recorded } from './http2-peer.ts';

/** What a server has seen of a stream. */
export interface Seen extends Recorded {
  stream: Stream;
  head: HeaderList;
}

/** A client of a session that serves. */
export class SessionPeer extends Peer {
  readonly session: ServerSession;
  readonly seen = new Map<number, Seen>();
  heard = 0;
  leaving = 0;

  /** @param preface what the client begins with, instead of what is right */
  constructor({ settings = Buffer.alloc(0), webSocket = false, preface }: { settings?: Buffer; webSocket?: boolean; preface?: Buffer } = {}) {
    super(0);
    this.session = new ServerSession(
      {
        requested: (stream, head) => this.#requested(stream, head),
        heard: () => (this.heard += 1),
        leaving: () => (this.leaving += 1),
        failed: (error) => (this.error = error),
      },
      { webSocket, maxHeaderList: 65_536 },
      this.output,
    );
    this.send(preface ?? Buffer.concat([PREFACE, frame(frameTypes.settings, 0, 0, settings)]));
  }

  #requested(stream: Stream, head: HeaderList): void {
    const one: Seen = Object.assign(
      this.recorded(() => stream),
      { stream, head },
    );
    stream.handler = one;
    this.seen.set(stream.id, one);
  }

  headers(stream: number, isComplete = true, fields: readonly (readonly [string, string])[] = getHead): void {
    this.send(frame(frameTypes.headers, flags.endHeaders | (isComplete ? flags.endStream : 0), stream, headerBlock(fields)));
  }

  get(stream: number): Seen {
    const one = this.seen.get(stream);
    if (!one) throw new Error(`no stream ${stream}`);
    return one;
  }
}

/** Answers a request with 200 and this body. */
export function ok(peer: SessionPeer, stream: number, body: Buffer): void {
  const one = peer.get(stream).stream;
  one.respond(200, [], false);
  one.write(body, true);
  one.end([]);
}
