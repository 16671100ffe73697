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

/**
 * How many connections a worker takes on, over all its listeners.
 *
 * Where `limits.connections` are open, it accepts no more: the kernel queues newcomers, as under nginx and HAProxy, and other
 * workers take them. Where `limits.handshakes` have not got past their handshake, the one that has been at it for longest
 * makes room: honest clients need a few round trips, those of a flood stay for as long as they can.
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
  #isFull = false;
  #warnedAt = Number.NEGATIVE_INFINITY;

  constructor({ counters, limits, log }: { counters: ConnectionCounters; limits: WorkerLimits; log: Log }) {
    this.counters = counters;
    this.#limits = limits;
    this.#log = log;
  }

  /** Other limits from now on; nobody is sent away for them. */
  set limits(limits: WorkerLimits) {
    this.#limits = limits;
    this.#review();
  }

  add(acceptor: Acceptor): void {
    this.#acceptors.add(acceptor);
    if (this.#isFull) acceptor.pause();
  }

  remove(acceptor: Acceptor): void {
    this.#acceptors.delete(acceptor);
  }

  /**
   * Takes on what was just accepted.
   * @param timeout milliseconds for everything up to the end of the handshake
   * @param listener told once, when it has got there or has ended before
   */
  enter(socket: Socket, timeout: number, listener: { arrived(): void }): Arrival {
    const { counters } = this;
    counters.accepted += 1;
    counters.now.open += 1;
    const arrival = new Arrival(socket, timeout, this);
    this.#arriving.set(arrival, listener);
    counters.now.arriving = this.#arriving.size;
    if (this.#arriving.size > this.#limits.handshakes) this.#crowdOut();
    this.#review();
    return arrival;
  }

  #crowdOut(): void {
    for (const oldest of this.#arriving.keys()) {
      if (oldest.socket.destroyed) continue; // for another one that came in this turn of the event loop
      oldest.drop('crowded_out');
      return;
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
    if (isFull === this.#isFull) return;
    this.#isFull = isFull;
    for (const acceptor of this.#acceptors) {
      if (isFull) acceptor.pause();
      else acceptor.resume();
    }
    if (!isFull) return;
    this.counters.limitReached += 1;
    const now = performance.now();
    if (now - this.#warnedAt < minute) return;
    this.#warnedAt = now;
    this.#log.warn(`${this.#limits.connections} connections are open in this worker: new ones wait until others end (limits.connections)`, {
      code: 'connection_limit',
    });
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
