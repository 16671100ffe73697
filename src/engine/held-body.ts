import type { Readable } from 'node:stream';

/** Pieces up to this size are copied together, so that they do not keep alive what they were cut from. */
const SMALL = 4_096;
const COPIES = 16_384;
const NOTHING = Buffer.alloc(0);

/**
 * What comes of a request body while nobody takes it. node:http2 would keep each DATA frame as an object of its own: a
 * client that sends single bytes (CVE-2019-9511 and its kin) would occupy hundreds of times what its flow-control window says.
 */
export class HeldBody {
  readonly #stream: Readable;
  #pieces: Buffer[] = [];
  #copies: Buffer | undefined;
  #used = 0;
  #isHolding = false;
  #isComplete = false;

  constructor(stream: Readable) {
    this.#stream = stream;
  }

  /** From now on the body comes here instead of to the listeners of `data` and `end`. */
  hold(): void {
    this.#isHolding = true;
    this.#stream.push = (piece: Buffer | null) => {
      if (piece) this.#add(piece);
      else this.#isComplete = true;
      return false;
    };
    this.#stream.pause();
  }

  /** Gives what was held, until `take` returns false; then the stream flows again. */
  release(take: (piece: Buffer) => boolean): void {
    if (!this.#isHolding) return;
    const pieces = this.#take();
    while (pieces.length > 0) {
      if (take(pieces.shift()!)) continue;
      this.#pieces = pieces.concat(this.#take());
      return;
    }
    this.#isHolding = false;
    Reflect.deleteProperty(this.#stream, 'push');
    // The empty piece says that what was asked for has come.
    this.#stream.push(this.#isComplete ? null : NOTHING);
    this.#stream.resume();
  }

  #add(piece: Buffer): void {
    if (piece.length > SMALL) {
      this.#pieces = this.#take();
      this.#pieces.push(piece);
      return;
    }
    if (this.#used + piece.length > COPIES) this.#pieces = this.#take();
    this.#copies ??= Buffer.allocUnsafeSlow(COPIES);
    this.#used += piece.copy(this.#copies, this.#used);
  }

  #take(): Buffer[] {
    const pieces = this.#pieces;
    if (this.#copies) pieces.push(this.#copies.subarray(0, this.#used));
    this.#pieces = [];
    this.#copies = undefined;
    this.#used = 0;
    return pieces;
  }
}
