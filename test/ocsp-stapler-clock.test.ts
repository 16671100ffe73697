import assert from 'node:assert/strict';
import test from 'node:test';
import { systemClock } from '../src/ocsp/clock.ts';

const day = 86_400_000;

test('a wait longer than a Node timer can be ends when it should, not at once', (t) => {
  t.mock.timers.enable({ apis: ['setTimeout', 'Date'] });
  const rang: number[] = [];
  systemClock.setTimeout(() => rang.push(Date.now()), 60 * day);
  for (let days = 0; days < 61; days += 1) t.mock.timers.tick(day);
  assert.equal(rang.length, 1);
  assert.ok(rang[0]! >= 60 * day && rang[0]! <= 61 * day);
});

test('after a machine slept, what is due is noticed within minutes', (t) => {
  t.mock.timers.enable({ apis: ['setTimeout', 'Date'] });
  let rang = false;
  systemClock.setTimeout(() => (rang = true), 10 * day);
  t.mock.timers.setTime(11 * day);
  t.mock.timers.tick(15 * 60_000);
  t.mock.timers.tick(1);
  assert.equal(rang, true);
});

test('a cancelled wait does not ring, whichever piece of it is running', (t) => {
  t.mock.timers.enable({ apis: ['setTimeout', 'Date'] });
  let rang = 0;
  const cancel = systemClock.setTimeout(() => (rang += 1), 2 * day);
  t.mock.timers.tick(day);
  cancel();
  t.mock.timers.tick(3 * day);
  assert.equal(rang, 0);
});
