import type { Clock } from './clock.ts';
import { Pace } from './pace.ts';

interface Queue {
  running: number;
  /** Whether its last answer came; a responder never heard of has to prove itself first. */
  proven: boolean;
  failuresInRow: number;
  /** In the order in which they came, the urgent ones before the others. */
  urgent: Set<Waiting>;
  others: Set<Waiting>;
}

interface Waiting {
  start: () => Promise<void>;
  reject: (reason: unknown) => void;
}

export interface Limits {
  perResponder: number;
  overall: number;
  /** How many may begin in one second, once `burst` have. */
  perSecond: number;
  burst: number;
  /** Failures in a row after which those who wait for the same responder share the verdict instead of finding out one by one. */
  sickAfter: number;
  /** Whether an error says that the responder does not work, rather than that it dislikes one request. */
  isOutage: (error: unknown) => boolean;
  clock: Clock;
}

/** Who asks, and how much it matters when. */
interface Asker {
  signal: AbortSignal;
  /** Before those that are not. */
  urgent?: boolean;
}

/**
 * Decides who may ask now, so that thousands of certificates do not storm one responder and one hanging responder
 * does not hold up the others (mod_ssl bug 61818, HAProxy #3498): every responder has a queue of its own, queues take
 * turns, and responders that do not answer get one place each and never the last quarter of all places. All together keep
 * a pace, so that ten thousand first questions take no CPU time that handshakes need.
 */
export class Limiter {
  readonly #limits: Limits;
  readonly #queues = new Map<string, Queue>();
  readonly #pace: Pace;
  #running = 0;
  #runningUnproven = 0;
  /** How many wait for their turn. */
  waiting = 0;
  #cancelAdmission: (() => void) | undefined;

  constructor(limits: Limits) {
    this.#limits = limits;
    this.#pace = new Pace(limits);
  }

  /**
   * Runs `task` when the responder `name` has a free place; its result and its error are passed on. Rejects with
   * the signal's reason when that aborts first, or with the error of another task that found the responder down.
   */
  run<T>(name: string, task: () => Promise<T>, { signal, urgent = false }: Asker): Promise<T> {
    const queue = this.#queues.get(name) ?? { running: 0, proven: false, failuresInRow: 0, urgent: new Set(), others: new Set() };
    const line = urgent ? queue.urgent : queue.others;
    this.#queues.set(name, queue);
    return new Promise<T>((resolve, reject) => {
      const waiting: Waiting = {
        reject,
        start: () =>
          task().then(
            (result) => {
              queue.proven = true;
              queue.failuresInRow = 0;
              resolve(result);
            },
            (error: unknown) => {
              if (this.#limits.isOutage(error)) this.#outage(queue, error);
              reject(error);
            },
          ),
      };
      signal.addEventListener(
        'abort',
        () => {
          if (line.delete(waiting)) this.waiting -= 1;
          reject(signal.reason);
        },
        { once: true },
      );
      if (signal.aborted) return reject(signal.reason);
      line.add(waiting);
      this.waiting += 1;
      this.#admit();
    });
  }

  #outage(queue: Queue, error: unknown): void {
    queue.proven = false;
    queue.failuresInRow += 1;
    if (queue.failuresInRow < this.#limits.sickAfter) return;
    for (let waiting = this.#next(queue); waiting !== undefined; waiting = this.#next(queue)) waiting.reject(error);
  }

  /** Who is next in a queue; waits no longer. */
  #next({ urgent, others }: Queue): Waiting | undefined {
    const line = urgent.size > 0 ? urgent : others;
    const [next] = line;
    if (next === undefined) return undefined;
    line.delete(next);
    this.waiting -= 1;
    return next;
  }

  #mayStart(queue: Queue): boolean {
    if (queue.urgent.size + queue.others.size === 0 || this.#running >= this.#limits.overall) return false;
    if (queue.proven) return queue.running < this.#limits.perResponder;
    return queue.running === 0 && this.#runningUnproven < Math.ceil(this.#limits.overall * 0.75);
  }

  #admit(): void {
    for (const [name, queue] of this.#queues) {
      if (!this.#mayStart(queue)) continue;
      const wait = this.#pace.wait();
      if (wait > 0) return this.#admitLater(wait);
      // To the end of the line: queues take turns.
      this.#queues.delete(name);
      this.#queues.set(name, queue);
      void this.#start(queue);
    }
  }

  #admitLater(wait: number): void {
    this.#cancelAdmission ??= this.#limits.clock.setTimeout(() => {
      this.#cancelAdmission = undefined;
      this.#admit();
    }, wait);
  }

  /** Admits nobody any more. */
  close(): void {
    this.#cancelAdmission?.();
  }

  async #start(queue: Queue): Promise<void> {
    const next = this.#next(queue);
    if (next === undefined) return;
    this.#pace.take();
    const unproven = queue.proven ? 0 : 1;
    queue.running += 1;
    this.#running += 1;
    this.#runningUnproven += unproven;
    await next.start();
    queue.running -= 1;
    this.#running -= 1;
    this.#runningUnproven -= unproven;
    this.#admit();
  }
}
