const SIZE = 65_536;
/** Bytes up to which copying them costs less than giving the buffer away. */
export const SMALL = 8_192;
/** 4 MB: more than a worker reads at a time. */
const MAX_KEPT = 64;

const kept: ReadBuffer[] = [];

/**
 * Bytes that were read and are being written elsewhere, to be read into again. A new buffer for every read would cost a
 * large body more than its encryption: V8 starts a full collection for every few hundred of them.
 */
export class ReadBuffer {
  readonly bytes = Buffer.allocUnsafeSlow(SIZE);
  #used = 0;
  #users = 0;

  static take(): ReadBuffer {
    return kept.pop() ?? new ReadBuffer();
  }

  /** @param bytes no more than fit */
  static copyOf(bytes: Buffer): ReadBuffer {
    const copy = ReadBuffer.take();
    copy.add(bytes);
    return copy;
  }

  /** What `add` has put into it. */
  get filled(): Buffer {
    return this.bytes.subarray(0, this.#used);
  }

  get isFull(): boolean {
    return this.#used === SIZE;
  }

  /** Copies as many of the bytes from `at` on as there is room for. @returns how many */
  add(bytes: Buffer, at = 0): number {
    const length = bytes.copy(this.bytes, this.#used, at);
    this.#used += length;
    return length;
  }

  /**
   * Somebody holds a part of the bytes.
   * @returns what to call when they are not needed any more; whoever never does leaves the buffer to the garbage collector
   */
  hold(): () => void {
    this.#users += 1;
    return this.#release;
  }

  readonly #release = (): void => {
    this.#users -= 1;
    if (this.#users > 0) return;
    this.#used = 0;
    if (kept.length < MAX_KEPT) kept.push(this);
  };
}
