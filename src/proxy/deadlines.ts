/** Something that must not take longer than it may. */
export interface Timed {
  /** By performance.now(); Infinity while there is no limit. */
  deadline: number;
  /** Called once after the deadline, which is Infinity then. */
  expire(): void;
  /** `expire` has thrown. */
  fault(error: Error): void;
}

const RESOLUTION = 100;

/**
 * Watches many deadlines with one timer: moving one is an assignment, where a timer of its own would cost a fifth of a
 * small request. Late by up to a tenth of a second, never early.
 */
export class Deadlines {
  readonly #watched = new Set<Timed>();
  readonly #timer = setInterval(() => this.#sweep(), RESOLUTION).unref();

  watch(timed: Timed): void {
    this.#watched.add(timed);
  }

  forget(timed: Timed): void {
    this.#watched.delete(timed);
  }

  close(): void {
    clearInterval(this.#timer);
  }

  #sweep(): void {
    const now = performance.now();
    for (const timed of this.#watched) {
      if (timed.deadline > now) continue;
      timed.deadline = Infinity;
      try {
        timed.expire();
      } catch (error) {
        timed.fault(error as Error);
      }
    }
  }
}
