import { Duplex } from 'node:stream';
import { ErrorCode } from '../http2/frames.ts';
import type { Stream } from '../http2/stream.ts';

/** A stream of an HTTP/2 connection as the two-way stream that a WebSocket is carried on (RFC 8441, 5). */
export class Http2Tunnel extends Duplex {
  readonly #stream: Stream;
  readonly #onRead: () => void;
  /** Called when the client takes more. */
  #written: ((error?: Error | null) => void) | undefined;

  /** @param onRead what the client sends is wanted: it is to be pushed, until that returns false */
  constructor(stream: Stream, onRead: () => void) {
    super();
    this.#stream = stream;
    this.#onRead = onRead;
  }

  drained(): void {
    const written = this.#written;
    this.#written = undefined;
    written?.();
  }

  override _read(): void {
    this.#onRead();
  }

  override _write(piece: Buffer, _encoding: string, done: (error?: Error | null) => void): void {
    if (this.#stream.write(piece, false)) done();
    else this.#written = done;
  }

  override _final(done: () => void): void {
    this.#stream.end([]);
    done();
  }

  /** RFC 8441, 5: what neither side has ended in order is reset. */
  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    if (this.readableEnded || this.writableFinished) this.#stream.end([]);
    else this.#stream.reset(ErrorCode.INTERNAL_ERROR);
    done(error);
  }
}
