import { Pieces } from '../http2/pieces.ts';
import type { Field } from '../proxy/headers.ts';
import { ReadBuffer, SMALL } from './read-buffer.ts';
import { atTurnEnd, type Collecting } from './turn-end.ts';

/** Where a body goes. */
export interface BodyTaker {
  /**
   * @param release may be called when the bytes of the piece are not needed any more
   * @returns false when it takes no more for now
   */
  take(piece: Buffer, release?: () => void): boolean;
  bodyEnded(trailers: readonly Field[]): void;
  /** Of ours. */
  fault(error: Error): void;
}

/**
 * A body of a request or an answer on its way. What comes of it in one turn of the event loop, or less, goes on in one piece: frames
 * and TLS records are small. What is not taken is held; it is the flow-control window that bounds it.
 */
export class Http2Body implements Collecting {
  readonly #taker: BodyTaker;
  #collected: ReadBuffer | undefined;
  readonly #held = new Pieces();
  readonly #collecting: (body: Collecting) => void;
  #isHolding: boolean;
  /** What came behind the body, from its end until that has been told. */
  #trailers: readonly Field[] | undefined;

  /**
   * @param isHolding nothing is taken before `release`
   * @param collecting called when bytes begin to wait for `flush`
   */
  constructor(taker: BodyTaker, isHolding: boolean, collecting: (body: Collecting) => void = atTurnEnd) {
    this.#taker = taker;
    this.#isHolding = isHolding;
    this.#collecting = collecting;
  }

  /** @param piece valid until this returns */
  add(piece: Buffer): void {
    for (let at = 0; at < piece.length;) {
      if (this.#isHolding) return this.#held.add(Buffer.from(piece.subarray(at)));
      if (!this.#collected) {
        this.#collected = ReadBuffer.take();
        this.#collecting(this);
      }
      at += this.#collected.add(piece, at);
      if (this.#collected.isFull) this.flush();
    }
  }

  end(trailers: readonly Field[]): void {
    this.#trailers = trailers;
    this.#tellEnd();
  }

  /** Goes on after `take` has returned false. */
  release(): void {
    this.#isHolding = false;
    const held = this.#held;
    while (held.length > 0 && !this.#isHolding) {
      const piece = held.first(held.length);
      held.drop(piece.length);
      this.#isHolding = !this.#taker.take(piece);
    }
    this.#tellEnd();
  }

  flush(): void {
    const collected = this.#collected;
    if (!collected) return;
    this.#collected = undefined;
    const done = collected.hold();
    const bytes = collected.filled;
    if (bytes.length > SMALL) {
      this.#isHolding = !this.#taker.take(bytes, done);
    } else {
      const copy = Buffer.from(bytes);
      done();
      this.#isHolding = !this.#taker.take(copy);
    }
    this.#tellEnd();
  }

  fault(error: Error): void {
    this.#taker.fault(error);
  }

  /** Drops what has not been taken. */
  close(): void {
    this.#collected?.hold()();
    this.#collected = undefined;
    this.#held.clear();
    this.#trailers = undefined;
  }

  #tellEnd(): void {
    const trailers = this.#trailers;
    if (!trailers || this.#isHolding || this.#collected) return;
    this.#trailers = undefined;
    this.#taker.bodyEnded(trailers);
  }
}
