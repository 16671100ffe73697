/** How much DATA the other side may send, on a stream or on the connection (RFC 9113, 5.2). */
export class ReceiveWindow {
  readonly #size: number;
  #left: number;
  #done = 0;

  constructor(size: number) {
    this.#size = size;
    this.#left = size;
  }

  /** DATA has come. @returns false when it was not allowed to send as much */
  take(bytes: number): boolean {
    if (bytes > this.#left) return false;
    this.#left -= bytes;
    return true;
  }

  /**
   * What has come is done with.
   * @returns the increment to send; mostly 0, because it is collected until half of the window is worth a frame
   */
  giveBack(bytes: number): number {
    this.#done += bytes;
    if (2 * this.#done < this.#size) return 0;
    const increment = this.#done;
    this.#left += increment;
    this.#done = 0;
    return increment;
  }
}
