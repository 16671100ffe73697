import type { Clock } from './clock.ts';

/** Lets some things begin at once, and so many a second after that (a token bucket). */
export class Pace {
  readonly #burst: number;
  readonly #perSecond: number;
  readonly #clock: Pick<Clock, 'now'>;
  #left: number;
  #since: number;

  constructor({ burst, perSecond, clock }: { burst: number; perSecond: number; clock: Pick<Clock, 'now'> }) {
    this.#burst = burst;
    this.#perSecond = perSecond;
    this.#clock = clock;
    this.#left = burst;
    this.#since = clock.now();
  }

  /** Milliseconds until the next one may begin: 0 when it may now. */
  wait(): number {
    const now = this.#clock.now();
    // A clock that was set back must not stop everything.
    this.#left = Math.min(this.#burst, this.#left + (Math.max(0, now - this.#since) * this.#perSecond) / 1000);
    this.#since = now;
    return this.#left >= 1 ? 0 : Math.ceil(((1 - this.#left) * 1000) / this.#perSecond);
  }

  /** One begins. */
  take(): void {
    this.#left -= 1;
  }
}
