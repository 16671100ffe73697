interface Queue {
  running: number;
  /** Whether its last answer came; a responder never heard of has to prove itself first. */
  proven: boolean;
  failuresInRow: number;
  waiting: Waiting[];
}

interface Waiting {
  start: () => Promise<void>;
  reject: (reason: unknown) => void;
}

export interface Limits {
  perResponder: number;
  overall: number;
  /** Failures in a row after which those who wait for the same responder share the verdict instead of finding out one by one. */
  sickAfter: number;
  /** Whether an error says that the responder does not work, rather than that it dislikes one request. */
  isOutage: (error: unknown) => boolean;
}

/**
 * Decides who may ask now, so that thousands of certificates do not storm one responder and one hanging responder
 * does not hold up the others (mod_ssl bug 61818, HAProxy #3498): every responder has a queue of its own, queues take
 * turns, and responders that do not answer get one place each and never the last quarter of all places.
 */
export class Limiter {
  readonly #limits: Limits;
  readonly #queues = new Map<string, Queue>();
  #running = 0;
  #runningUnproven = 0;

  constructor(limits: Limits) {
    this.#limits = limits;
  }

  /**
   * Runs `task` when the responder `name` has a free place; its result and its error are passed on. Rejects with
   * the signal's reason when that aborts first, or with the error of another task that found the responder down.
   */
  run<T>(name: string, task: () => Promise<T>, signal: AbortSignal): Promise<T> {
    const queue = this.#queues.get(name) ?? { running: 0, proven: false, failuresInRow: 0, waiting: [] };
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
          queue.waiting = queue.waiting.filter((other) => other !== waiting);
          reject(signal.reason);
        },
        { once: true },
      );
      if (signal.aborted) return reject(signal.reason);
      queue.waiting.push(waiting);
      this.#admit();
    });
  }

  #outage(queue: Queue, error: unknown): void {
    queue.proven = false;
    queue.failuresInRow += 1;
    if (queue.failuresInRow < this.#limits.sickAfter) return;
    for (const { reject } of queue.waiting.splice(0)) reject(error);
  }

  #mayStart(queue: Queue): boolean {
    if (queue.waiting.length === 0 || this.#running >= this.#limits.overall) return false;
    if (queue.proven) return queue.running < this.#limits.perResponder;
    return queue.running === 0 && this.#runningUnproven < Math.ceil(this.#limits.overall * 0.75);
  }

  #admit(): void {
    for (const [name, queue] of this.#queues) {
      if (!this.#mayStart(queue)) continue;
      // To the end of the line: queues take turns.
      this.#queues.delete(name);
      this.#queues.set(name, queue);
      void this.#start(queue);
    }
  }

  async #start(queue: Queue): Promise<void> {
    const next = queue.waiting.shift();
    if (next === undefined) return;
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
