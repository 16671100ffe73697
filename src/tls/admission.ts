import type { Socket } from 'node:net';
import { type ConnectionCounters, count } from '../connection-counters.ts';
import type { Log } from '../log.ts';
import type { WorkerLimits } from '../snapshot.ts';
import { Arrival, type ArrivalObserver } from './arrival.ts';

/** Something that accepts connections and can be made to leave them in the kernel's queue. */
interface Acceptor {
  pause(): void;
  resume(): void;
}

const minute = 60_000;
/** How often, in milliseconds, a worker without a free place looks for one that is idle. */
const lookEvery = 100;
/**
 * So many connections within a millisecond, then a pause for the rest of it: the first worker to wake would take a whole burst before
 * others get a core, and keep it for as long as the clients stay connected. No worker finishes as many handshakes in that time.
 */
const burst = 8;

/**
 * How many connections a worker takes on, over all its listeners.
 *
 * With the last of `limits.connections` the one that has been idle for longest makes room, as under nginx. Where none is
 * idle, no more are accepted: the kernel queues newcomers, and other workers take them, as they take their part of a burst.
 * Where `limits.handshakes` have not got past their handshake, the one that has been at it for longest makes room: honest
 * clients need a few round trips, those of a flood stay for as long as they can.
 */
export class Admission implements ArrivalObserver {
  readonly counters: ConnectionCounters;
  readonly #log: Log;
  readonly #acceptors = new Set<Acceptor>();
  /** Oldest first. */
  readonly #arriving = new Map<Arrival, { arrived(): void }>();
  /** Open connections by `Arrival.client`. */
  readonly #clients = new Map<string, number>();
  #limits: WorkerLimits;
  readonly #makeRoom: () => void;
  #isFull = false;
  /** Accepted in the millisecond that began with the first of them. */
  #recent = 0;
  #recentSince = Number.NEGATIVE_INFINITY;
  #isAccepting = true;
  /** While it is full. */
  #looking: NodeJS.Timeout | undefined;
  /** For the oldest of all that arrive: a timer for each would cost more than what else is done here. */
  #deadline: NodeJS.Timeout | undefined;
  /** Milliseconds for everything up to the end of the handshake. */
  #timeout = 0;
  #warnedAt = Number.NEGATIVE_INFINITY;

  /** @param options.makeRoom closes the connection that has been idle for longest, if one is */
  constructor(options: { counters: ConnectionCounters; limits: WorkerLimits; log: Log; makeRoom: () => void }) {
    this.counters = options.counters;
    this.#limits = options.limits;
    this.#log = options.log;
    this.#makeRoom = options.makeRoom;
  }

  /** Other limits from now on; nobody is sent away for them. */
  set limits(limits: WorkerLimits) {
    this.#limits = limits;
    this.#review();
  }

  add(acceptor: Acceptor): void {
    this.#acceptors.add(acceptor);
    if (!this.#isAccepting) acceptor.pause();
  }

  /** It accepts for itself from now on, to empty its queue, unless all places are taken. */
  remove(acceptor: Acceptor): void {
    this.#acceptors.delete(acceptor);
    if (!this.#isAccepting && !this.#isFull) acceptor.resume();
  }

  /**
   * Takes on what was just accepted.
   * @param timeout milliseconds for everything up to the end of the handshake, from now on for everybody
   * @param listener told once, when it has got there or has ended before
   */
  enter(socket: Socket, timeout: number, listener: { arrived(): void }): Arrival {
    const { counters } = this;
    counters.accepted += 1;
    counters.now.open += 1;
    const arrival = new Arrival(socket, this);
    this.#arriving.set(arrival, listener);
    counters.now.arriving = this.#arriving.size;
    if (this.#deadline === undefined || timeout !== this.#timeout) {
      this.#timeout = timeout;
      this.#dropLate();
    }
    if (this.#arriving.size > this.#limits.handshakes) this.#crowdOut();
    this.#countRecent(arrival.since);
    this.#review();
    return arrival;
  }

  #countRecent(now: number): void {
    if (now >= this.#recentSince + 1) {
      this.#recent = 0;
      this.#recentSince = now;
    }
    this.#recent += 1;
    if (this.#recent === burst) setTimeout(() => this.#endOfBurst(), 1).unref();
  }

  #endOfBurst(): void {
    this.#recent = 0;
    this.#pauseOrResume();
  }

  #crowdOut(): void {
    for (const oldest of this.#arriving.keys()) {
      if (oldest.socket.destroyed) continue; // for another one that came in this turn of the event loop
      oldest.drop('crowded_out');
      return;
    }
  }

  #dropLate(): void {
    clearTimeout(this.#deadline);
    this.#deadline = undefined;
    const late = performance.now() - this.#timeout;
    for (const arrival of this.#arriving.keys()) {
      if (arrival.since > late) {
        this.#deadline = setTimeout(() => this.#dropLate(), Math.ceil(arrival.since - late)).unref();
        return;
      }
      arrival.drop('handshake_timeout');
    }
  }

  get countsClients(): boolean {
    return this.#limits.connectionsPerAddress !== undefined;
  }

  /** Counts the connection as its client's, now that this is known, and says whether there may be as many. */
  admits(arrival: Arrival): boolean {
    const client = network(arrival.peer.address);
    const open = (this.#clients.get(client) ?? 0) + 1;
    arrival.client = client;
    this.#clients.set(client, open);
    return open <= (this.#limits.connectionsPerAddress ?? Infinity);
  }

  refused(code: string): void {
    count(this.counters.refused, code);
  }

  arrived(arrival: Arrival): void {
    const listener = this.#arriving.get(arrival);
    this.#arriving.delete(arrival);
    this.counters.now.arriving = this.#arriving.size;
    listener?.arrived();
  }

  closed({ client }: Arrival): void {
    this.counters.now.open -= 1;
    if (client !== undefined) {
      const others = (this.#clients.get(client) ?? 1) - 1;
      if (others > 0) this.#clients.set(client, others);
      else this.#clients.delete(client);
    }
    this.#review();
  }

  #review(): void {
    const isFull = this.counters.now.open >= this.#limits.connections;
    const isChange = isFull !== this.#isFull;
    this.#isFull = isFull;
    this.#pauseOrResume();
    if (!isChange) return;
    clearInterval(this.#looking);
    if (!isFull) return;
    this.#makeRoom();
    this.#looking = setInterval(this.#makeRoom, lookEvery).unref();
    this.counters.limitReached += 1;
    const now = performance.now();
    if (now - this.#warnedAt < minute) return;
    this.#warnedAt = now;
    this.#log.warn(`${this.#limits.connections} connections are open in this worker: new ones wait until others end or are idle (limits.connections)`, {
      code: 'connection_limit',
    });
  }

  #pauseOrResume(): void {
    const isAccepting = !this.#isFull && this.#recent < burst;
    if (isAccepting === this.#isAccepting) return;
    this.#isAccepting = isAccepting;
    for (const acceptor of this.#acceptors) {
      if (isAccepting) acceptor.resume();
      else acceptor.pause();
    }
  }
}

/** What counts as one client: an IPv4 address, or an IPv6 network of 64 bits, of which every host has 2^64 addresses. */
export function network(address: string): string {
  if (!address.includes(':')) return address;
  const [head = '', tail] = address.split('::');
  const groups = head === '' ? [] : head.split(':');
  const zeros = tail === undefined ? 0 : 8 - groups.length - (tail === '' ? 0 : tail.split(':').length);
  return [...groups, ...Array.from({ length: zeros }, () => '0'), ...(tail ?? '').split(':')].slice(0, 4).join(':');
}
