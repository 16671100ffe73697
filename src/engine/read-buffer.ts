const SIZE = 65_536;
/** 4 MB: more than a worker reads at a time. */
const MAX_KEPT = 64;

const kept: ReadBuffer[] = [];

/**
 * Bytes that were read and are being written elsewhere, to be read into again. A new buffer for every read would cost a
 * large answer more than its encryption: V8 starts a full collection for every few hundred of them.
 */
export class ReadBuffer {
  readonly bytes = Buffer.allocUnsafeSlow(SIZE);
  #users = 0;

  static take(): ReadBuffer {
    return kept.pop() ?? new ReadBuffer();
  }

  /** Somebody holds a part of the bytes until `release`. Whoever never calls it leaves the buffer to the garbage collector. */
  hold(): void {
    this.#users += 1;
  }

  readonly release = (): void => {
    this.#users -= 1;
    if (this.#users === 0 && kept.length < MAX_KEPT) kept.push(this);
  };
}
