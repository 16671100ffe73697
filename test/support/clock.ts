import type { TestContext } from 'node:test';
import type { TestFront } from './front.ts';

/** The clock that deadlines go by: it stands still but for its leaps, however slow the machine is. To be made before fronts are. */
export class LeapingClock {
  #now = performance.now();

  constructor(t: TestContext) {
    t.mock.method(performance, 'now', () => this.#now);
  }

  /** Sets the clock forward by `ms`; resolves when everything whose deadline is not after that has expired. */
  async leap({ front: { deadlines } }: TestFront, ms: number): Promise<void> {
    this.#now += ms;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    // Deadlines are looked at in the order of their coming, so this one comes last.
    const last = { deadline: this.#now, expire: resolve, fault: reject };
    deadlines.watch(last);
    await promise;
    deadlines.forget(last);
  }
}
