import type { Route } from '../config/schema.ts';
import type { BackendAddress } from '../config/values.ts';
import { choose } from './balance.ts';
import { HEALTHY, afterChoice, afterFailure, type Health } from './health.ts';
import { ProxyError } from './proxy-error.ts';

/** One backend address, shared by every route that names it. */
export class Upstream {
  readonly address: BackendAddress;
  /** Exchanges under way, of all routes. */
  active = 0;
  health: Health = HEALTHY;
  /** Routes where somebody waits for a backend, those first that were not served last. */
  readonly waiting = new Set<UpstreamPool>();
  #pause: NodeJS.Timeout | undefined;
  /** Places that are being given away. */
  #places = 0;
  #isAdmitting = false;

  constructor(address: BackendAddress) {
    this.address = address;
  }

  /** An exchange is over: whoever waits longest may have its place. */
  release(): void {
    this.active -= 1;
    this.#admit(1);
  }

  /** It could not be reached. `now` in ms since the epoch. */
  unreachable(now: number): void {
    this.health = afterFailure(this.health, now);
    clearTimeout(this.#pause);
    this.#pause = setTimeout(() => this.#admit(1), this.health.downUntil - now).unref();
  }

  /** It has accepted a connection. */
  reached(): void {
    if (this.health === HEALTHY) return;
    this.health = HEALTHY;
    this.#admit(Infinity);
  }

  /** In turn, so that a route with a long queue does not keep others from a backend that they share. */
  #admit(places: number): void {
    if (this.waiting.size === 0) return;
    this.#places += places;
    // Who is admitted may fail at once, and give its place back: a long queue of these must not become a deep stack.
    if (this.#isAdmitting) return;
    this.#isAdmitting = true;
    for (const pool of this.waiting) {
      if (this.#places === 0) break;
      if (!pool.admit(Date.now())) continue;
      this.#places -= 1;
      if (this.waiting.delete(pool)) this.waiting.add(pool);
    }
    this.#places = 0;
    this.#isAdmitting = false;
  }
}

/** Who waits for a backend. */
export interface Waiter {
  /** Backends that it has tried in vain. */
  readonly tried: ReadonlySet<Upstream> | undefined;
  /** It has a place at this backend, and gives it back with `release`. */
  admitted(upstream: Upstream): void;
}

/** For who has waited longer than `timeouts.queue`. */
export function waitedInVain(): ProxyError {
  return new ProxyError('queue_timeout', 'no backend of the route had a place in time', { setting: 'timeouts.queue' });
}

/** Of all pools for which nobody has ever waited: ten thousand virtual hosts have as many. */
const nobody: Set<Waiter> = new Set();

function joined(waiters: Set<Waiter>, waiter: Waiter): Set<Waiter> {
  return (waiters === nobody ? new Set<Waiter>() : waiters).add(waiter);
}

type Terms = Pick<Route, 'balance' | 'maxConnections' | 'maxQueue'>;

/** The backends of one route, and the queue for them. */
export class UpstreamPool {
  readonly #upstreams: readonly Upstream[];
  readonly #balance: Route['balance'];
  readonly #limit: number;
  readonly #maxQueue: number;
  #turn = 0;
  /** In the order of their coming. */
  #queue = nobody;
  /** Who has had a place before, and is served first. */
  #returned = nobody;

  constructor(upstreams: readonly Upstream[], { balance, maxConnections, maxQueue }: Terms) {
    this.#upstreams = upstreams;
    this.#balance = balance;
    this.#limit = maxConnections ?? Infinity;
    this.#maxQueue = maxQueue;
  }

  /** Different backends. */
  get size(): number {
    return new Set(this.#upstreams).size;
  }

  /**
   * A place at the next backend that is not in `tried`, to be given back with `release`. Undefined when all of them are full.
   * `now` in ms since the epoch.
   */
  take(tried: ReadonlySet<Upstream> | undefined, now: number): Upstream | undefined {
    // A backend may have come back without anybody noticing: whoever waits goes first.
    while (this.#waiting > 0 && this.admit(now));
    return this.#take(tried, now);
  }

  /**
   * Waits in the queue, behind all others; before them where `isRetry` tells that the waiter has had a place before.
   * @throws ProxyError backend_busy when the queue is full; never for a retry
   */
  wait(waiter: Waiter, isRetry: boolean): void {
    if (this.#queue.size >= this.#maxQueue && !isRetry) {
      const facts = { setting: 'virtual_hosts[].routes[].max_connections', queued: this.#queue.size };
      throw new ProxyError('backend_busy', 'every backend of the route is busy, and nobody more may wait', facts);
    }
    if (isRetry) this.#returned = joined(this.#returned, waiter);
    else this.#queue = joined(this.#queue, waiter);
    for (const { waiting } of this.#upstreams) waiting.add(this);
  }

  /** Nobody waits any more. */
  leave(waiter: Waiter): void {
    if (!this.#queue.delete(waiter)) this.#returned.delete(waiter);
    if (this.#waiting === 0) for (const { waiting } of this.#upstreams) waiting.delete(this);
  }

  /** Gives a place that has become free to the first who can use it. @returns false when nobody can */
  admit(now: number): boolean {
    for (const waiters of [this.#returned, this.#queue]) {
      for (const waiter of waiters) {
        const upstream = this.#take(waiter.tried, now);
        if (upstream) {
          this.leave(waiter);
          waiter.admitted(upstream);
          return true;
        }
        // Who has tried nothing yet can use any backend: there is none.
        if (!waiter.tried) return false;
      }
    }
    return false;
  }

  get #waiting(): number {
    return this.#queue.size + this.#returned.size;
  }

  #take(tried: ReadonlySet<Upstream> | undefined, now: number): Upstream | undefined {
    const left = tried ? this.#upstreams.filter((upstream) => !tried.has(upstream)) : this.#upstreams;
    const upstream = choose(left, this.#balance, this.#turn, now, this.#limit);
    this.#turn = (this.#turn + 1) % Number.MAX_SAFE_INTEGER;
    if (upstream) {
      upstream.active += 1;
      upstream.health = afterChoice(upstream.health, now);
    }
    return upstream;
  }
}

/** Upstreams by address: a new configuration finds the live state of the addresses it shares with the old one. */
export class Upstreams {
  #byName = new Map<string, Upstream>();

  /** One upstream per distinct address; addresses that are no longer named are forgotten. */
  replace(addresses: Iterable<BackendAddress>): (address: BackendAddress) => Upstream {
    const next = new Map<string, Upstream>();
    for (const address of addresses) {
      if (!next.has(address.name)) next.set(address.name, this.#byName.get(address.name) ?? new Upstream(address));
    }
    this.#byName = next;
    return (address) => next.get(address.name) ?? new Upstream(address);
  }
}
