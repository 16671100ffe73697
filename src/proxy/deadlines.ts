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
/** Who came together expires together: thousands in one turn of the event loop would keep everybody else waiting. */
const AT_ONCE = 16;

/**
 * Watches many deadlines with one timer: moving one is an assignment, where a timer of its own would cost a fifth of a
 * small request. Late by up to a tenth of a second, never early.
 */
export class Deadlines {
  readonly #watched = new Set<Timed>();
  readonly #timer = setInterval(() => this.#sweep(), RESOLUTION).unref();
  #rest: NodeJS.Immediate | undefined;

  watch(timed: Timed): void {
    this.#watched.add(timed);
  }

  forget(timed: Timed): void {
    this.#watched.delete(timed);
  }

  close(): void {
    clearInterval(this.#timer);
    clearImmediate(this.#rest);
  }

  #sweep(): void {
    clearImmediate(this.#rest);
    const now = performance.now();
    let expired = 0;
    for (const timed of this.#watched) {
      if (timed.deadline > now) continue;
      if (expired === AT_ONCE) {
        this.#rest = setImmediate(() => this.#sweep());
        return;
      }
      expired += 1;
      timed.deadline = Infinity;
      try {
        timed.expire();
      } catch (error) {
        timed.fault(error as Error);
      }
    }
  }
}
