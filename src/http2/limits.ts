import { ConnectionError, ErrorCode } from './frames.ts';

/** So many at once, and so many a second from then on. */
class Allowance {
  readonly #burst: number;
  readonly #perSecond: number;
  #left: number;
  #at = 0;

  constructor(burst: number, perSecond: number) {
    this.#burst = burst;
    this.#perSecond = perSecond;
    this.#left = burst;
  }

  spend(now: number, what: string): void {
    if (this.#left < 1) {
      this.#left = Math.min(this.#burst, this.#left + ((now - this.#at) / 1_000) * this.#perSecond);
      this.#at = now;
      if (this.#left < 1) throw new ConnectionError(ErrorCode.ENHANCE_YOUR_CALM, `too many ${what}`);
    }
    this.#left -= 1;
  }

  earn(count: number): void {
    this.#left = Math.min(this.#burst, this.#left + count);
  }
}

/** How often the other side may do what costs us more than it costs that side. */
export class Limits {
  /** In ms. */
  now = 0;
  /** A browser that leaves a page full of pictures takes back a hundred requests. */
  readonly #wasted = new Allowance(200, 33);
  readonly #idle = new Allowance(1_000, 100);

  /**
   * A stream of a client that came to nothing: reset by the client (rapid reset, CVE-2023-44487), by us for an error of the client
   * (CVE-2025-8671), or refused.
   * @throws ConnectionError ENHANCE_YOUR_CALM, as `idle` does
   */
  wasted(): void {
    this.#wasted.spend(this.now, 'streams that came to nothing');
  }

  /** A frame that carries nothing, but must be looked at or answered (CVE-2019-9512, -9513, -9515, -9517, -9518). */
  idle(what: string): void {
    this.#idle.spend(this.now, what);
  }

  /** The other side did something useful, or has something to acknowledge. */
  earn(count: number): void {
    this.#idle.earn(count);
  }
}
