/** Pieces up to this size are copied together, so that they do not keep alive what they were cut from. */
const SMALL = 4_096;
const BLOCK = 16_384;

interface Piece {
  bytes: Buffer;
  start: number;
  end: number;
  /** The bytes are a copy, and there may be room behind them. */
  isCopy: boolean;
  release: (() => void) | undefined;
}

/**
 * Bytes that wait, first in, first out. As objects of their own, single bytes (CVE-2019-9511 and its kin) would occupy hundreds of
 * times what a flow-control window says.
 */
export class Pieces {
  /** All of them together. */
  length = 0;
  readonly #pieces: Piece[] = [];

  /** @param release called when the bytes of the piece are not needed any more */
  add(piece: Buffer, release?: () => void): void {
    this.length += piece.length;
    if (piece.length > SMALL) {
      this.#pieces.push({ bytes: piece, start: 0, end: piece.length, isCopy: false, release });
      return;
    }
    let last = this.#pieces.at(-1);
    if (!last?.isCopy || last.end + piece.length > BLOCK) {
      last = { bytes: Buffer.allocUnsafeSlow(BLOCK), start: 0, end: 0, isCopy: true, release: undefined };
      this.#pieces.push(last);
    }
    last.end += piece.copy(last.bytes, last.end);
    release?.();
  }

  /** The first bytes, `limit` at most; empty when there are none. */
  first(limit: number): Buffer {
    const [piece] = this.#pieces;
    return piece ? piece.bytes.subarray(piece.start, Math.min(piece.end, piece.start + limit)) : Buffer.alloc(0);
  }

  /** Drops bytes that `first` has given. */
  drop(bytes: number): void {
    const piece = this.#pieces[0]!;
    piece.start += bytes;
    this.length -= bytes;
    if (piece.start < piece.end) return;
    this.#pieces.shift();
    piece.release?.();
  }

  clear(): void {
    for (const { release } of this.#pieces.splice(0)) release?.();
    this.length = 0;
  }
}
