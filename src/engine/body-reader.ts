import type { Field } from '../proxy/headers.ts';
import type { Framing } from '../proxy/request-head.ts';
import { ChunkedDecoder } from './chunked.ts';

/** Cuts one body out of the bytes of a connection (RFC 9112, 6.3); `end` is a body that ends with its connection. */
export class BodyReader {
  readonly #chunks: ChunkedDecoder | undefined;
  #left: number;

  /** `code` is of the ProxyError that a malformed body is worth: it tells whose fault it is. */
  constructor(framing: Framing | 'end', code: 'bad_request' | 'backend_bad_response') {
    this.#chunks = framing === 'chunked' ? new ChunkedDecoder(code) : undefined;
    this.#left = typeof framing === 'number' ? framing : framing === 'none' ? 0 : Infinity;
  }

  get done(): boolean {
    return this.#chunks ? this.#chunks.done : this.#left === 0;
  }

  /** Only the end of the connection ends it. */
  get endsWithConnection(): boolean {
    return this.#left === Infinity && !this.#chunks;
  }

  get trailers(): readonly Field[] {
    return this.#chunks?.trailers ?? [];
  }

  /**
   * Takes what belongs to the body; pieces are views of `bytes`.
   * @returns the number of bytes taken: all of them unless the body ends before
   * @throws ProxyError
   */
  read(bytes: Buffer, onPiece: (piece: Buffer) => void): number {
    if (this.#chunks) return this.#chunks.decode(bytes, onPiece);
    const taken = Math.min(bytes.length, this.#left);
    this.#left -= taken;
    if (taken > 0) onPiece(taken === bytes.length ? bytes : bytes.subarray(0, taken));
    return taken;
  }
}
