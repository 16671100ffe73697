import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { createLog } from '../log.ts';
import type { Snapshot, SnapshotUpdate } from '../snapshot.ts';
import type { FromWorker, ToWorker } from '../worker/messages.ts';
import type { InheritedSocket } from '../worker/worker.ts';

/** Something that serves a snapshot: a process of its own, or a `Worker` in this one. */
interface Serving {
  apply(update: SnapshotUpdate): void;
  close(graceMs: number): Promise<void>;
}

const entryPoint = fileURLToPath(new URL('../worker/process.ts', import.meta.url));
const firstInheritedFd = 4; // after standard input, output, error and the message channel
const crashLoopMs = 5_000;
const maxRestartDelayMs = 30_000;

export interface WorkerPoolOptions {
  /** 0 serves in this process. */
  count: number;
  sockets: readonly InheritedSocket[];
  /** The snapshot in force, for workers started later. */
  snapshot: () => Snapshot;
  log: ReturnType<typeof createLog>;
}

/** One generation of workers, all serving the same sockets. A worker that dies is replaced. */
export class WorkerPool {
  readonly #options: WorkerPoolOptions;
  readonly #serving = new Set<Serving>();
  #closing = false;

  constructor(options: WorkerPoolOptions) {
    this.#options = options;
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

  send(update: SnapshotUpdate): void {
    for (const serving of this.#serving) serving.apply(update);
  }

  /** Accepts nothing new, lets open exchanges finish within `graceMs`, and ends. */
  async close(graceMs: number): Promise<void> {
    this.#closing = true;
    await Promise.all(Array.from(this.#serving, (serving) => serving.close(graceMs)));
  }

  async #startHere(): Promise<void> {
    const { Worker } = await import('../worker/worker.ts');
    const worker = new Worker(this.#options.snapshot(), this.#options.log);
    this.#serving.add(worker);
    await worker.listen(this.#options.sockets);
  }

  async #startProcess(): Promise<void> {
    const { sockets, snapshot, log } = this.#options;
    const startedAt = Date.now();
    const child = fork(entryPoint, [], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc', ...sockets.map(({ fd }) => fd)],
      serialization: 'advanced',
    });
    const worker = new WorkerProcess(child);
    const started = worker.started();
    this.#serving.add(worker);
    worker.send({ type: 'start', snapshot: snapshot(), sockets: sockets.map((socket, i) => ({ ...socket, fd: firstInheritedFd + i })) });
    void worker.ended.then((how) => {
      this.#serving.delete(worker);
      if (!this.#closing && worker.listening) {
        log.warn(`worker ${child.pid} ended (${how}); starting another`, { code: 'worker_ended' });
        void this.#replace(Date.now() - startedAt < crashLoopMs ? 1_000 : 0);
      }
    });
    await started;
    log.debug(`worker ${child.pid} is listening`);
  }

  /** Starts another worker in place of a dead one; one that keeps dying is started ever more slowly. */
  async #replace(delayMs: number): Promise<void> {
    await delay(delayMs, undefined, { ref: false });
    if (this.#closing) return;
    try {
      await this.#startProcess();
    } catch (error) {
      const next = Math.min(Math.max(delayMs * 2, 1_000), maxRestartDelayMs);
      this.#options.log.error(`a worker could not be started: ${error instanceof Error ? error.message : String(error)}; next try in ${next / 1000} s`, {
        code: 'worker_failed',
      });
      await this.#replace(next);
    }
  }
}

class WorkerProcess implements Serving {
  readonly #child: ChildProcess;
  /** How the process ended, in words. */
  readonly ended: Promise<string>;
  listening = false;

  constructor(child: ChildProcess) {
    this.#child = child;
    this.ended = new Promise((resolve) => {
      child.once('exit', (code, signal) => resolve(signal ?? `exit code ${code}`));
      child.on('error', (error) => resolve(error.message));
    });
  }

  /** Resolves once the worker listens; rejects when it says that it cannot, or ends before. */
  async started(): Promise<void> {
    const said = once(this.#child, 'message').then(([message]) => message as FromWorker);
    const answer = await Promise.race([said, this.ended.then((how): FromWorker => ({ type: 'failed', message: `the worker process ended early (${how})` }))]);
    if (answer.type === 'failed') throw new Error(answer.message);
    this.listening = true;
  }

  send(message: ToWorker): void {
    // A worker that has just died is replaced by one that gets the whole snapshot, so nothing is lost with this message.
    if (this.#child.connected) this.#child.send(message, () => {});
  }

  apply(update: SnapshotUpdate): void {
    this.send(update);
  }

  async close(graceMs: number): Promise<void> {
    this.send({ type: 'close', graceMs });
    const patience = setTimeout(() => this.#child.kill('SIGKILL'), graceMs + 2_000);
    await this.ended;
    clearTimeout(patience);
  }
}
