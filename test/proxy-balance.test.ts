import assert from 'node:assert/strict';
import test from 'node:test';
import { choose } from '../src/proxy/balance.ts';
import { HEALTHY, afterChoice, afterFailure, isAvailable } from '../src/proxy/health.ts';
import { type Upstream, UpstreamPool, Upstreams, type Waiter } from '../src/proxy/upstream.ts';

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

/** Waits, and notes its name when it is admitted. */
class Waiting implements Waiter {
  tried: Set<Upstream> | undefined;
  readonly #note: () => void;

  constructor(note: () => void) {
    this.#note = note;
  }

  admitted(upstream: Upstream): void {
    this.at = upstream;
    this.#note();
  }

  at: Upstream | undefined;
}

/** A pool of two backends with one place each, both taken; and who was admitted since, in order. */
function fullPool(maxQueue = 10): { pool: UpstreamPool; one: Upstream; two: Upstream; order: string[]; waiter: (name: string) => Waiting } {
  const of = new Upstreams().replace([a, b]);
  const [one, two] = [of(a), of(b)];
  const pool = new UpstreamPool([one, two], { ...unlimited, maxConnections: 1, maxQueue });
  assert.equal(pool.take(undefined, 0), one);
  assert.equal(pool.take(undefined, 0), two);
  assert.equal(pool.take(undefined, 0), undefined);
  const order: string[] = [];
  return { pool, one, two, order, waiter: (name) => new Waiting(() => order.push(name)) };
}

test('who waits is served in order, each as soon as any backend has a place', () => {
  const { pool, one, two, order, waiter } = fullPool();
  const [first, second, third] = [waiter('first'), waiter('second'), waiter('third')];
  for (const each of [first, second, third]) pool.wait(each, false);
  two.release();
  assert.deepEqual(order, ['first']);
  assert.equal(first.at, two);
  pool.leave(second);
  one.release();
  assert.deepEqual(order, ['first', 'third'], 'who has left is passed over');
  assert.equal(third.at, one);
  assert.deepEqual([one.active, two.active], [1, 1]);
  one.release();
  two.release();
  assert.deepEqual([one.active, two.active], [0, 0]);
});

test('a queue is no longer than it may be, but who comes back is never refused, and is served first', () => {
  const { pool, one, two, order, waiter } = fullPool(2);
  pool.wait(waiter('first'), false);
  pool.wait(waiter('second'), false);
  assert.throws(() => pool.wait(waiter('third'), false), { code: 'backend_busy', facts: { setting: 'virtual_hosts[].routes[].max_connections', queued: 2 } });
  const again = waiter('again');
  again.tried = new Set([one]);
  pool.wait(again, true);
  one.release();
  assert.deepEqual(order, ['first'], 'the one that comes back has no use for this backend');
  two.release();
  assert.deepEqual(order, ['first', 'again']);
});

test('without a queue nobody waits', () => {
  const { pool, waiter } = fullPool(0);
  assert.throws(() => pool.wait(waiter('first'), false), { code: 'backend_busy' });
});

test('who comes while others wait does not overtake them', () => {
  const { pool, one, order, waiter } = fullPool();
  one.unreachable(0);
  one.active = 0;
  assert.equal(pool.take(undefined, 1), undefined, 'down, and the other one is full');
  pool.wait(waiter('first'), false);
  assert.equal(pool.take(undefined, 1000), undefined, 'its pause is over, but somebody was there before');
  assert.deepEqual(order, ['first']);
});

test('a backend that is reached again admits those who waited for it', () => {
  const { pool, one, order, waiter } = fullPool();
  one.unreachable(Date.now());
  one.active = 0;
  pool.wait(waiter('first'), false);
  pool.wait(waiter('second'), false);
  assert.deepEqual(order, []);
  one.reached();
  assert.deepEqual(order, ['first']);
});

test('when the pause of a backend is over, somebody who waits tries it', async () => {
  const { pool, one, waiter } = fullPool();
  one.active = 0;
  const { promise, resolve } = Promise.withResolvers<void>();
  const first = waiter('first');
  first.admitted = () => resolve();
  one.unreachable(Date.now() - 990);
  pool.wait(first, false);
  // The timer of the pause does not keep a process alive.
  const alive = setTimeout(() => {}, 5_000);
  await promise;
  clearTimeout(alive);
});

test('routes that share a backend take turns, however long their queues are', () => {
  const of = new Upstreams().replace([a]);
  const terms = { ...unlimited, maxConnections: 1, maxQueue: 10 };
  const [left, right] = [new UpstreamPool([of(a)], terms), new UpstreamPool([of(a)], terms)];
  assert(left.take(undefined, 0));
  assert.equal(right.take(undefined, 0), undefined, 'the place is taken, whoever has it');
  const order: string[] = [];
  const waiter = (name: string) => new Waiting(() => order.push(name));
  for (const name of ['l1', 'l2', 'l3']) left.wait(waiter(name), false);
  for (const name of ['r1', 'r2']) right.wait(waiter(name), false);
  for (let n = 0; n < 5; n += 1) of(a).release();
  assert.deepEqual(order, ['l1', 'r1', 'l2', 'r2', 'l3']);
});

test('a backend that is named twice is no two backends', () => {
  const of = new Upstreams().replace([a]);
  assert.equal(new UpstreamPool([of(a), of(a)], unlimited).size, 1);
});
