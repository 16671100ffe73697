import { type ClientConnection, FIRST_REQUEST } from './client-connection.ts';

/** Milliseconds between two looks at all connections. */
const LOOK_EVERY = 100;
/** How many are remembered from one look. */
const MOST = 128;

/**
 * Finds the connections that have been idle for longest. Keeping all of them in order would cost something with every
 * request; they are looked through when a place is wanted, and not more often than `LOOK_EVERY`.
 */
export class IdleConnections {
  readonly #connections: Iterable<ClientConnection>;
  /** Longest idle last, at the time of the last look. */
  #found: ClientConnection[] = [];
  #lookedAt = Number.NEGATIVE_INFINITY;

  constructor(connections: Iterable<ClientConnection>) {
    this.#connections = connections;
  }

  /** Closes the one that has waited longest for a request; the client knows that this can happen (RFC 9112, 9.5). */
  endLongest(): void {
    this.#longest()?.endSoon();
  }

  #longest(): ClientConnection | undefined {
    const now = performance.now();
    while (this.#found.length > 0) {
      const one = this.#found.at(-1)!;
      if (one.idleSince <= this.#lookedAt) return one;
      this.#found.pop(); // it has gone, or asked since
    }
    if (now - this.#lookedAt < LOOK_EVERY) return undefined;
    this.#lookedAt = now;
    const waiting: { one: ClientConnection; since: number }[] = [];
    for (const one of this.#connections) {
      const since = one.idleSince;
      if (since <= (one.isFresh ? now - FIRST_REQUEST : now)) waiting.push({ one, since });
    }
    const longest = waiting.toSorted((a, b) => b.since - a.since).slice(-MOST);
    this.#found = longest.map(({ one }) => one);
    return this.#found.at(-1);
  }
}
