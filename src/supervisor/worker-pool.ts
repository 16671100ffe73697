import { setTimeout as delay } from 'node:timers/promises';
import type { ConnectionCounters } from '../connection-counters.ts';
import type { createLog } from '../log.ts';
import type { Snapshot, SnapshotUpdate } from '../snapshot.ts';
import type { InheritedSocket, Worker } from '../worker/worker.ts';
import { WorkerProcess } from './worker-process.ts';

/** Something that serves a snapshot: a process of its own, or a `Worker` in this one. */
interface Serving {
  /** What has become of its connections so far. */
  readonly connections: ConnectionCounters | Promise<ConnectionCounters>;
  apply(update: SnapshotUpdate): void;
  /** @param tunnelMs how long, if there is a successor */
  close(graceMs: number, hasSuccessor: boolean, tunnelMs: number): Promise<void>;
}

const crashLoopMs = 5_000;
const maxRestartDelayMs = 30_000;

export interface WorkerPoolOptions {
  /** 0 serves in this process. */
  count: number;
  sockets: readonly InheritedSocket[];
  /** The snapshot in force, for workers started later. */
  snapshot: () => Snapshot;
  /** A worker has ended, and this is what it has counted. */
  onEnded: (connections: ConnectionCounters) => void;
  log: ReturnType<typeof createLog>;
}

/** One generation of workers, all serving the same sockets. A worker that dies is replaced. */
export class WorkerPool {
  readonly #options: WorkerPoolOptions;
  readonly #serving = new Set<Serving>();
  /** Started, and waiting for what to serve. */
  #prepared: WorkerProcess[] = [];
  #here: Worker | undefined;
  #closing = false;

  constructor(options: WorkerPoolOptions) {
    this.#options = options;
  }

  /** Starts the processes, so that they load their code while the supervisor still reads certificates; `start` then uses them. */
  prepare(): void {
    this.#prepared = Array.from({ length: this.#options.count }, () => new WorkerProcess(this.#options.sockets));
  }

  /**
   * Resolves when every worker accepts connections.
   * @throws Error when one cannot; those already started are closed
   */
  async start(): Promise<void> {
    const { count } = this.#options;
    try {
      if (count === 0) await this.#startHere();
      else await Promise.all(Array.from({ length: count }, () => this.#startProcess()));
    } catch (error) {
      await this.close(0);
      throw error;
    }
  }

  /**
   * Changes the sockets of the worker in this process, which two could not share: each would close the other's descriptor.
   * @returns false when the workers are processes of their own
   * @throws the system's error when one cannot listen; those before are served further
   */
  async listen(sockets: readonly InheritedSocket[]): Promise<boolean> {
    await this.#here?.listen(sockets);
    return this.#here !== undefined;
  }

  send(update: SnapshotUpdate): void {
    for (const serving of this.#serving) serving.apply(update);
  }

  /** What each worker has counted. */
  connections(): Promise<ConnectionCounters[]> {
    return Promise.all(Array.from(this.#serving, async ({ connections }) => connections));
  }

  /** Accepts nothing new, lets open exchanges finish within `graceMs`, and ends. `hasSuccessor`: another generation has taken over. */
  async close(graceMs: number, hasSuccessor = false): Promise<void> {
    this.#closing = true;
    const prepared = this.#prepared.splice(0).map((worker) => worker.close(0, false, 0));
    await Promise.all([
      ...prepared,
      ...Array.from(this.#serving, (serving) => serving.close(graceMs, hasSuccessor, this.#options.snapshot().config.tunnelGrace)),
    ]);
  }

  async #startHere(): Promise<void> {
    const { Worker } = await import('../worker/worker.ts');
    this.#here = new Worker(this.#options.snapshot(), this.#options.log);
    this.#serving.add(this.#here);
    await this.#here.listen(this.#options.sockets);
  }

  async #startProcess(): Promise<void> {
    const { sockets, snapshot, log, onEnded } = this.#options;
    const startedAt = Date.now();
    const worker = this.#prepared.pop() ?? new WorkerProcess(sockets);
    this.#serving.add(worker);
    const started = worker.start(snapshot());
    void worker.gone.then((connections) => {
      this.#serving.delete(worker);
      onEnded(connections);
    });
    void worker.lost.then((how) => {
      if (this.#closing || !worker.listening) return;
      log.warn(`worker ${worker.pid} ${how}; starting another`, { code: 'worker_ended' });
      void this.#replace(Date.now() - startedAt < crashLoopMs ? 1_000 : 0);
    });
    await started;
    log.debug(`worker ${worker.pid} is listening`);
  }

  /** Starts another worker in place of a dead one; one that keeps dying is started ever more slowly. */
  async #replace(delayMs: number): Promise<void> {
    await delay(delayMs, undefined, { ref: false });
    if (this.#closing) return;
    try {
      await this.#startProcess();
    } catch (error) {
      if (this.#closing) return;
      const next = Math.min(Math.max(delayMs * 2, 1_000), maxRestartDelayMs);
      this.#options.log.error(`a worker could not be started: ${error instanceof Error ? error.message : String(error)}; next try in ${next / 1000} s`, {
        code: 'worker_failed',
      });
      await this.#replace(next);
    }
  }
}
