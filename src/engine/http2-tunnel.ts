import { Duplex } from 'node:stream';
import type { ServerHttp2Stream } from 'node:http2';
import { contained } from '../proxy/contained.ts';
import type { HeldBody } from './held-body.ts';

/** A stream of an HTTP/2 connection as the two-way stream that a WebSocket is carried on (RFC 8441, 5). */
export class Http2Tunnel extends Duplex {
  readonly #stream: ServerHttp2Stream;
  readonly #held: HeldBody;

  /** @param held holds what the client has sent already */
  constructor(stream: ServerHttp2Stream, held: HeldBody) {
    super();
    this.#stream = stream;
    this.#held = held;
    const on = contained(stream, (error) => this.destroy(error));
    on('data', (piece: Buffer) => {
      if (!this.push(piece)) held.hold();
    });
    on('end', () => this.push(null));
    on('close', () => this.destroy());
  }

  override _read(): void {
    this.#held.release((piece) => this.push(piece));
  }

  override _write(piece: Buffer, _encoding: string, done: (error?: Error | null) => void): void {
    this.#stream.write(piece, done);
  }

  override _final(done: () => void): void {
    this.#stream.end(done);
  }

  /** RFC 8441, 5: what neither side has ended in order is reset. */
  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    if (this.readableEnded || this.writableFinished) this.#stream.close();
    else this.#stream.destroy(error ?? new Error('the WebSocket broke off'));
    done(error);
  }
}
