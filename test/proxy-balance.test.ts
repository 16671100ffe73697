import assert from 'node:assert/strict';
import test from 'node:test';
import { choose } from '../src/proxy/balance.ts';
import { HEALTHY, afterChoice, afterFailure, isAvailable } from '../src/proxy/health.ts';
import { UpstreamPool, Upstreams } from '../src/proxy/upstream.ts';

const a = { name: 'http://a:80', host: 'a', port: 80 };
const b = { name: 'http://b:80', host: 'b', port: 80 };

const unlimited = { balance: 'round_robin', maxConnections: undefined, maxQueue: 0 } as const;

test('round_robin takes turns', () => {
  const candidates = [1, 2, 3].map((id) => ({ id, health: HEALTHY, active: 0 }));
  assert.deepEqual(
    [0, 1, 2, 3].map((turn) => choose(candidates, 'round_robin', turn, 0)?.id),
    [1, 2, 3, 1],
  );
  assert.equal(choose([], 'round_robin', 0, 0), undefined);
});

test('least_conn takes the least busy, and turns among equals', () => {
  const candidates = [5, 1, 1].map((active, id) => ({ id, health: HEALTHY, active }));
  assert.deepEqual(
    [0, 1, 2].map((turn) => choose(candidates, 'least_conn', turn, 0)?.id),
    [1, 1, 2],
  );
});

test('a backend that cannot be reached is left alone, longer each time, half a minute at most', () => {
  let health = HEALTHY;
  const pauses = [];
  for (let n = 0; n < 8; n += 1) {
    health = afterFailure(health, 1000);
    pauses.push(health.downUntil - 1000);
  }
  assert.deepEqual(pauses, [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000]);
  assert.equal(isAvailable(afterFailure(HEALTHY, 0), 999), false);
  assert.equal(isAvailable(afterFailure(HEALTHY, 0), 1000), true);
});

test('when its pause is over, one request tries it and the others wait for the outcome', () => {
  const down = afterFailure(HEALTHY, 0);
  assert.equal(isAvailable(afterChoice(down, 1000), 1001), false);
  assert.equal(afterChoice(HEALTHY, 1000), HEALTHY);
});

test('one that is full is passed over; when all that are up are full, those that are down are not tried', () => {
  const up = (active: number) => ({ health: HEALTHY, active });
  const down = { health: afterFailure(HEALTHY, 0), active: 0 };
  const full = up(2);
  const free = up(1);
  assert.equal(choose([full, free], 'round_robin', 0, 1, 2), free);
  assert.equal(choose([full, down], 'round_robin', 0, 1, 2), undefined);
  assert.equal(choose([full, down], 'round_robin', 0, 1000, 2), down, 'its pause is over');
  assert.equal(choose([down, { ...down, active: 2 }], 'least_conn', 0, 1, 2), down);
  assert.equal(choose([full], 'round_robin', 0, 1, 2), undefined);
});

test('a pool passes over what is down, and guesses when all are', () => {
  const upstreams = new Upstreams();
  const of = upstreams.replace([a, b]);
  const pool = new UpstreamPool([of(a), of(b)], unlimited);
  of(a).unreachable(0);
  assert.deepEqual(
    [1, 2, 3].map((now) => pool.take(new Set(), now)?.address.name),
    [b.name, b.name, b.name],
  );
  of(b).unreachable(3);
  assert(pool.take(new Set(), 4));
  assert.equal(pool.take(new Set([of(a), of(b)]), 5), undefined);
  of(a).reached();
  assert.equal(pool.take(new Set(), 6)?.address.name, a.name);
});

test('live state follows the address through a new configuration', () => {
  const upstreams = new Upstreams();
  const before = upstreams.replace([a, b]);
  before(a).unreachable(0);
  const after = upstreams.replace([a]);
  assert.equal(after(a), before(a));
  assert.notEqual(upstreams.replace([a, b])(b), before(b), 'a forgotten address starts anew');
});

test('a backend that is named twice is no two backends', () => {
  const of = new Upstreams().replace([a]);
  assert.equal(new UpstreamPool([of(a), of(a)], unlimited).size, 1);
});
