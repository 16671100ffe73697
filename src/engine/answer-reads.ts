import type { OnReadOpts } from 'node:net';
import { ReadBuffer, SMALL } from './read-buffer.ts';
import { sharedBytes } from './socket-reads.ts';

/** Who takes what was read. */
export interface AnswerTaker {
  /** What comes next is a piece of a body. */
  readonly isWithinBody: boolean;
  /**
   * @param bytes valid until this returns
   * @param lent whose they are: to be held where they are needed later
   */
  take(bytes: Buffer, lent?: ReadBuffer): void;
}

/** Where the socket to a backend reads into. A new buffer each time would cost a tenth of a small request. */
export class AnswerReads {
  /** For `net.connect`. */
  readonly onread: OnReadOpts = {
    buffer: () => this.#buffer(),
    callback: (length: number, bytes: Uint8Array) => this.#onRead(length, bytes as Buffer),
  };
  readonly #taker: AnswerTaker;
  /** Where the next bytes of a body go. */
  #next: ReadBuffer | undefined;

  constructor(taker: AnswerTaker) {
    this.#taker = taker;
  }

  #buffer(): Buffer {
    if (this.#taker.isWithinBody) return (this.#next ??= ReadBuffer.take()).bytes;
    // Most answers are small, and bytes that were used just now are in the processor's cache.
    this.#next?.hold()();
    this.#next = undefined;
    return sharedBytes;
  }

  /**
   * @param bytes the beginning of them was read
   * @returns false to stop reading
   */
  #onRead(length: number, bytes: Buffer): boolean {
    const read = bytes.subarray(0, length);
    if (length <= SMALL) {
      this.#taker.take(read);
    } else {
      const buffer = this.#next ?? ReadBuffer.copyOf(read);
      this.#next = undefined;
      const release = buffer.hold();
      this.#taker.take(buffer.bytes.subarray(0, length), buffer);
      release();
    }
    return true;
  }
}
