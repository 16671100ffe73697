import assert from 'node:assert/strict';
import test from 'node:test';
import { nextRefresh, retryDelay } from '../src/ocsp/schedule.ts';
import { DAY, HOUR, MINUTE, NOW, SECOND } from './support/ocsp-material.ts';
import { seeded } from './support/random.ts';

const middle = (): number => 0.5;

/** A staple with this life, `age` old at NOW. */
const staple = (life: number, age = 0): { thisUpdate: number; validUntil: number } => ({ thisUpdate: NOW - age, validUntil: NOW - age + life });

test('a staple is refreshed at half of its life', () => {
  assert.equal(nextRefresh(staple(7 * DAY), { now: NOW, random: middle }), NOW + 3.5 * DAY);
  assert.equal(nextRefresh(staple(7 * DAY, DAY), { now: NOW, random: middle }), NOW + 2.5 * DAY);
});

test('jitter moves a refresh by at most a tenth, both ways', () => {
  assert.equal(nextRefresh(staple(4 * DAY), { now: NOW, random: () => 0 }), NOW + 1.8 * DAY);
  const late = nextRefresh(staple(4 * DAY), { now: NOW, random: () => 0.999 });
  assert.ok(late > NOW + 2.19 * DAY && late < NOW + 2.2 * DAY);
});

test('HTTP freshness brings a refresh forward, never back', () => {
  assert.equal(nextRefresh(staple(7 * DAY), { now: NOW, httpMaxAge: HOUR, random: middle }), NOW + HOUR);
  assert.equal(nextRefresh(staple(7 * DAY), { now: NOW, httpMaxAge: 6 * DAY, random: middle }), NOW + 3.5 * DAY);
});

test('a responder cannot make us ask more often than every five minutes', () => {
  assert.equal(nextRefresh(staple(7 * DAY), { now: NOW, httpMaxAge: 0, random: middle }), NOW + 5 * MINUTE);
  assert.equal(nextRefresh(staple(7 * DAY), { now: NOW, httpMaxAge: 0, minDelay: MINUTE, random: middle }), NOW + MINUTE);
});

test('a short-lived staple is refreshed at half of its life even below five minutes, but not in a loop', () => {
  assert.equal(nextRefresh(staple(4 * MINUTE), { now: NOW, random: middle }), NOW + 2 * MINUTE);
  assert.equal(nextRefresh(staple(SECOND), { now: NOW, random: middle }), NOW + SECOND);
  assert.equal(nextRefresh(staple(DAY, 2 * DAY), { now: NOW, random: middle }), NOW + SECOND);
});

test('past half of its life, when the responder still serves the old one, the rest is halved, hourly at least', () => {
  assert.equal(nextRefresh(staple(7 * DAY, 4 * DAY), { now: NOW, random: middle }), NOW + HOUR);
  assert.equal(nextRefresh(staple(2 * HOUR, 90 * MINUTE), { now: NOW, random: middle }), NOW + 15 * MINUTE);
});

test('for any staple: the refresh comes before its end, not before the minimum, and not later than 1.1 times the half', () => {
  const random = seeded(1);
  for (let round = 0; round < 20_000; round++) {
    const life = 10 ** (random() * 7) * SECOND;
    const current = staple(life, random() * life);
    const httpMaxAge = random() < 0.5 ? undefined : random() * life;
    const delay = nextRefresh(current, { now: NOW, httpMaxAge, random }) - NOW;
    const left = current.validUntil - NOW;
    const half = current.thisUpdate + life / 2 - NOW;
    const context = JSON.stringify({ round, life, left, httpMaxAge, delay });
    assert.ok(delay >= Math.min(5 * MINUTE, left / 2) - 1, context);
    assert.ok(delay < left || delay <= SECOND + 1, context);
    assert.ok(delay <= Math.max(1.1 * half, Math.min(HOUR, left / 2) * 1.1, Math.min(5 * MINUTE, left / 2), SECOND) + 1, context);
  }
});

test('retries: the bound doubles from one minute to one hour and the delay is spread over all of it', () => {
  const bounds = (failures: number): number[] => [0, 1 - 2 ** -52].map((value) => Math.round(retryDelay(failures, 0, undefined, () => value) / SECOND));
  assert.deepEqual([1, 2, 3, 6, 7, 8, 100, 5000].map(bounds), [
    [30, 60],
    [30, 120],
    [30, 240],
    [30, 1920],
    [30, 3600],
    [30, 3600],
    [30, 3600],
    [30, 3600],
  ]);
});

test('Retry-After delays a retry, within thirty seconds and one hour', () => {
  const shortest = (retryAfter: number): number => retryDelay(1, 0, retryAfter, () => 0);
  assert.equal(shortest(10 * MINUTE), 10 * MINUTE);
  assert.equal(shortest(0), 30 * SECOND);
  assert.equal(shortest(365 * DAY), HOUR);
  assert.ok(retryDelay(1, 0, 10 * MINUTE, () => 0.9) > 12 * MINUTE, 'all that were told the same do not come back together');
});

test('for any sequence of failures there is a further try before the staple runs out', () => {
  const random = seeded(2);
  for (let round = 0; round < 2000; round++) {
    let left = 10 ** (random() * 6) * SECOND + 3 * SECOND;
    for (let failures = 1; left > 3 * SECOND; failures++) {
      const retryAfter = random() < 0.3 ? random() * 10 * DAY : undefined;
      const delay = retryDelay(failures, left, retryAfter, random);
      assert.ok(delay >= SECOND && delay <= HOUR && delay < left, JSON.stringify({ failures, left, retryAfter, delay }));
      left -= delay;
    }
  }
});

test('without a staple every delay lies between thirty seconds and one hour', () => {
  const random = seeded(3);
  for (let round = 0; round < 20_000; round++) {
    const retryAfter = random() < 0.5 ? random() * 2 * HOUR : undefined;
    const delay = retryDelay(1 + Math.floor(random() * 50), -random() * DAY, retryAfter, random);
    assert.ok(delay >= 30 * SECOND && delay <= HOUR, String(delay));
  }
});
