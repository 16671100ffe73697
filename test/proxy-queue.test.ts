import assert from 'node:assert/strict';
import test from 'node:test';
import { type Upstream, UpstreamPool, Upstreams, type Waiter } from '../src/proxy/upstream.ts';
import { seeded } from './support/random.ts';

const a = { name: 'http://a:80', host: 'a', port: 80 };
const b = { name: 'http://b:80', host: 'b', port: 80 };
const unlimited = { balance: 'round_robin', maxConnections: undefined, maxQueue: 0 } as const;

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

test('a long queue whose every member fails at once is worked off, without a deep stack', () => {
  const of = new Upstreams().replace([a]);
  const pool = new UpstreamPool([of(a)], { ...unlimited, maxConnections: 1, maxQueue: 99_999 });
  assert(pool.take(undefined, 0));
  let admitted = 0;
  for (let n = 0; n < 50_000; n += 1) {
    const failing: Waiter = {
      tried: undefined,
      admitted: (upstream) => {
        admitted += 1;
        upstream.release();
      },
    };
    pool.wait(failing, false);
  }
  of(a).release();
  assert.deepEqual([admitted, of(a).active], [50_000, 0]);
});

/** One request of the simulation. */
class Visitor implements Waiter {
  tried: Set<Upstream> | undefined;
  at: Upstream | undefined;
  isWaiting = false;
  readonly number: number;
  readonly pool: UpstreamPool;
  readonly #admitted: (visitor: Visitor) => void;

  constructor(number: number, pool: UpstreamPool, admitted: (visitor: Visitor) => void) {
    this.number = number;
    this.pool = pool;
    this.#admitted = admitted;
  }

  come(): boolean {
    this.at = this.pool.take(this.tried, Date.now());
    if (this.at) return true;
    this.pool.wait(this, this.tried !== undefined);
    this.isWaiting = true;
    return false;
  }

  admitted(upstream: Upstream): void {
    this.at = upstream;
    this.isWaiting = false;
    this.#admitted(this);
  }
}

test('whatever comes, fails, leaves and recovers: limits hold, nobody is overtaken, and no place is free while somebody could use it', () => {
  const random = seeded(20_261_122);
  const pick = <T>(items: readonly T[]): T => items[Math.floor(random() * items.length)]!;
  for (let round = 0; round < 60; round += 1) {
    const addresses = ['a', 'b', 'c'].map((host) => ({ name: `http://${host}:80`, host, port: 80 }));
    const of = new Upstreams().replace(addresses);
    const upstreams = addresses.map(of);
    // Two routes that share two of three backends, each with a limit of its own.
    const balance = pick(['round_robin', 'least_conn'] as const);
    const routes = [upstreams, upstreams.slice(0, 2)].map((own) => {
      const limit = 1 + Math.floor(random() * 3);
      return { own, limit, pool: new UpstreamPool(own, { balance, maxConnections: limit, maxQueue: 99_999 }) };
    });
    const waiting = new Set<Visitor>();
    const served = new Set<Visitor>();
    const routeOf = (visitor: Visitor) => routes.find(({ pool }) => pool === visitor.pool)!;
    const admitted = (visitor: Visitor): void => {
      const before = [...waiting].filter((other) => other.pool === visitor.pool && !other.tried && other.number < visitor.number);
      if (!visitor.tried) assert.deepEqual(before, [], 'nobody who came earlier still waits');
      assert.ok(visitor.at!.active <= routeOf(visitor).limit);
      assert.ok(!visitor.tried?.has(visitor.at!));
      waiting.delete(visitor);
      served.add(visitor);
    };
    const come = (visitor: Visitor): void => {
      if (visitor.come()) admitted(visitor);
      else if (visitor.isWaiting) waiting.add(visitor);
    };
    const steps = {
      comes: () => come(new Visitor(step, pick(routes).pool, admitted)),
      finishes: () => {
        const visitor = pick([...served]);
        if (!visitor) return;
        served.delete(visitor);
        visitor.at!.reached();
        visitor.at!.release();
      },
      fails: () => {
        const visitor = pick([...served]);
        if (!visitor) return;
        served.delete(visitor);
        const at = visitor.at!;
        at.unreachable(Date.now());
        visitor.tried = new Set([...(visitor.tried ?? []), at]);
        at.release();
        if (visitor.tried.size < visitor.pool.size) come(visitor);
      },
      leaves: () => {
        const visitor = pick([...waiting]);
        if (!visitor) return;
        waiting.delete(visitor);
        visitor.pool.leave(visitor);
      },
      recovers: () => pick(upstreams).reached(),
    };
    let step = 0;
    for (; step < 400; step += 1) {
      pick([steps.comes, steps.comes, steps.comes, steps.finishes, steps.finishes, steps.fails, steps.leaves, steps.recovers])();
      for (const upstream of upstreams) assert.equal(upstream.active, [...served].filter(({ at }) => at === upstream).length);
      for (const visitor of waiting) {
        const { own, limit } = routeOf(visitor);
        const free = own.filter((upstream) => upstream.health.failures === 0 && upstream.active < limit && !visitor.tried?.has(upstream));
        assert.deepEqual(free, [], `round ${round}, step ${step}`);
      }
    }
    while (served.size > 0) steps.finishes();
    assert.equal(waiting.size, 0);
    for (const upstream of upstreams) assert.deepEqual([upstream.active, upstream.waiting.size], [0, 0]);
  }
});
