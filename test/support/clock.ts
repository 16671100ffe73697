import type { TestContext } from 'node:test';
import type { TestFront } from './front.ts';

/** The clock that deadlines go by: it runs as ever, and can be set forward. To be made before fronts are. */
export class LeapingClock {
  #ahead = 0;

  constructor(t: TestContext) {
    const now = performance.now.bind(performance);
    t.mock.method(performance, 'now', () => now() + this.#ahead);
  }

  /** Sets the clock forward by `ms`; resolves when everything whose deadline lay before that has expired. */
  async leap({ front: { deadlines } }: TestFront, ms: number): Promise<void> {
    this.#ahead += ms;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    // Deadlines are looked at in the order of their coming, so this one comes last.
    const last = { deadline: performance.now(), expire: resolve, fault: reject };
    deadlines.watch(last);
    await promise;
    deadlines.forget(last);
  }
}
