import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import { setImmediate as immediate } from 'node:timers/promises';
import { UpstreamConnection } from '../../src/engine/upstream-connection.ts';
import { Deadlines, type Timed } from '../../src/proxy/deadlines.ts';
import { UpstreamPool } from '../../src/proxy/upstream.ts';
import type { TestFront } from './front.ts';

/** Keeps account of what fronts hold; to be made before them. */
export class Account {
  readonly #watched: () => Timed[];
  readonly #active: () => number[];

  constructor(t: TestContext) {
    const watch = t.mock.method(Deadlines.prototype, 'watch');
    const forget = t.mock.method(Deadlines.prototype, 'forget');
    const take = t.mock.method(UpstreamPool.prototype, 'take');
    this.#watched = () => {
      const forgotten = new Set(forget.mock.calls.map(({ arguments: [timed] }) => timed));
      return watch.mock.calls.map(({ arguments: [timed] }) => timed).filter((timed) => !forgotten.has(timed));
    };
    this.#active = () => take.mock.calls.map(({ result }) => result?.active ?? 0);
  }

  /** Resolves when no client is connected; throws when anything of an exchange is left then. */
  async settled({ front }: TestFront): Promise<void> {
    while (front.open > 0) await immediate();
    const left = this.#watched().filter((timed) => !(timed instanceof UpstreamConnection && timed.deadline < Infinity));
    assert.deepEqual(left, [], 'only idle connections to backends are watched');
    for (const active of this.#active()) assert.equal(active, 0, 'exchanges under way at a backend');
  }

  /** Closes the front, and looks for what is left of it. */
  async closed(front: TestFront): Promise<void> {
    await front.front.close(0);
    await this.settled(front);
    assert.deepEqual(this.#watched(), []);
  }
}
