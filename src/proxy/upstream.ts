import type { Route } from '../config/schema.ts';
import type { BackendAddress } from '../config/values.ts';
import { choose } from './balance.ts';
import { HEALTHY, afterChoice, afterFailure, type Health } from './health.ts';

/** One backend address, shared by every route that names it. */
export class Upstream {
  readonly address: BackendAddress;
  active = 0;
  health: Health = HEALTHY;

  constructor(address: BackendAddress) {
    this.address = address;
  }
}

/** The backends of one route. */
export class UpstreamPool {
  readonly #upstreams: readonly Upstream[];
  readonly #balance: Route['balance'];
  #turn = 0;

  constructor(upstreams: readonly Upstream[], balance: Route['balance']) {
    this.#upstreams = upstreams;
    this.#balance = balance;
  }

  get size(): number {
    return this.#upstreams.length;
  }

  /** The next backend that is not in `tried`, or undefined when all are. `now` in ms since the epoch. */
  choose(tried: ReadonlySet<Upstream> | undefined, now: number): Upstream | undefined {
    const left = tried ? this.#upstreams.filter((upstream) => !tried.has(upstream)) : this.#upstreams;
    const upstream = choose(left, this.#balance, this.#turn, now);
    this.#turn = (this.#turn + 1) % Number.MAX_SAFE_INTEGER;
    if (upstream) upstream.health = afterChoice(upstream.health, now);
    return upstream;
  }
}

/** Marks a backend that could not be reached. */
export function unreachable(upstream: Upstream, now: number): void {
  upstream.health = afterFailure(upstream.health, now);
}

/** Marks a backend that accepted a connection. */
export function reached(upstream: Upstream): void {
  upstream.health = HEALTHY;
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
