import assert from 'node:assert/strict';
import test from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { Deadlines, type Timed } from '../src/proxy/deadlines.ts';

/** Something whose time is up, and what happens to it. */
function late(expire: () => void, fault: () => void = () => assert.fail()): Timed {
  return { deadline: 0, expire, fault };
}

test('a deadline that has passed is told once; one that fails hurts no other', async (t) => {
  t.mock.timers.enable({ apis: ['setInterval'] });
  const deadlines = new Deadlines();
  t.after(() => deadlines.close());
  const told: string[] = [];
  const failing = late(
    () => assert.fail(),
    () => told.push('fault'),
  );
  for (const timed of [failing, late(() => told.push('late'))]) deadlines.watch(timed);
  deadlines.watch({ ...late(() => assert.fail()), deadline: performance.now() + 3_600_000 });
  const forgotten = late(() => assert.fail());
  deadlines.watch(forgotten);
  deadlines.forget(forgotten);
  t.mock.timers.tick(100);
  t.mock.timers.tick(100);
  assert.deepEqual(told, ['fault', 'late']);
});

test('of a crowd that expires at the same time only some do in one turn of the event loop', async (t) => {
  t.mock.timers.enable({ apis: ['setInterval'] });
  const deadlines = new Deadlines();
  t.after(() => deadlines.close());
  const perTurn = [0];
  for (let n = 0; n < 100; n += 1) deadlines.watch(late(() => (perTurn[perTurn.length - 1]! += 1)));
  t.mock.timers.tick(100);
  for (let n = 0; n < 7; n += 1) {
    perTurn.push(0);
    await turn();
  }
  assert.deepEqual(perTurn, [16, 16, 16, 16, 16, 16, 4, 0]);
});
