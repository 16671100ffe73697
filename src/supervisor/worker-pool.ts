import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { type ConnectionCounters, noConnections } from '../connection-counters.ts';
import type { createLog } from '../log.ts';
import type { Snapshot, SnapshotUpdate } from '../snapshot.ts';
import type { FromWorker, ToWorker } from '../worker/messages.ts';
import type { InheritedSocket, Worker } from '../worker/worker.ts';

/** Something that serves a snapshot: a process of its own, or a `Worker` in this one. */
interface Serving {
  /** What has become of its connections so far. */
  readonly connections: ConnectionCounters | Promise<ConnectionCounters>;
  apply(update: SnapshotUpdate): void;
  /** @param tunnelMs how long, if there is a successor */
  close(graceMs: number, hasSuccessor: boolean, tunnelMs: number): Promise<void>;
}

const entryPoint = fileURLToPath(new URL('../worker/process.ts', import.meta.url));
const firstInheritedFd = 4; // after standard input, output, error and the message channel
/**
 * A small request leaves 4 KB of garbage, a body none: 4 MB for what is young, less than Node's default, cost no CPU time that could be measured,
 * and save some 30 MB for a worker and 7 KB for each idle connection (bench/README.md).
 */
const workerOptions = ['--max-semi-space-size=4'];
const crashLoopMs = 5_000;
const maxRestartDelayMs = 30_000;
/** How long a busy worker may take to say what it has counted. */
const countingMs = 1_000;

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
    this.#prepared = Array.from({ length: this.#options.count }, () => this.#fork());
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

  #fork(): WorkerProcess {
    const descriptors = this.#options.sockets.map(({ fd }) => fd);
    const stdio = ['ignore', 'inherit', 'inherit', 'ipc', ...descriptors] as const;
    // Node's options for the supervisor (scripts/staplegate) are not for workers.
    return new WorkerProcess(fork(entryPoint, [], { stdio: [...stdio], serialization: 'advanced', execArgv: workerOptions }));
  }

  async #startProcess(): Promise<void> {
    const { sockets, snapshot, log, onEnded } = this.#options;
    const startedAt = Date.now();
    const worker = this.#prepared.pop() ?? this.#fork();
    const started = worker.started();
    this.#serving.add(worker);
    worker.send({ type: 'start', snapshot: snapshot(), sockets: sockets.map((socket, i) => ({ ...socket, fd: firstInheritedFd + i })) });
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

class WorkerProcess implements Serving {
  readonly #child: ChildProcess;
  /** How the process ended, in words. */
  readonly ended: Promise<string>;
  /** Why it accepts nothing more, in words: it has ended, or somebody told it to. */
  readonly lost: Promise<string>;
  listening = false;
  #counted = noConnections();
  #counting: PromiseWithResolvers<void> | undefined;

  constructor(child: ChildProcess) {
    this.#child = child;
    this.ended = new Promise((resolve) => {
      child.once('exit', (code, signal) => resolve(signal ?? `exit code ${code}`));
      child.on('error', (error) => resolve(error.message));
    });
    child.on('message', (message: FromWorker) => {
      if (message.type !== 'counted') return;
      this.#counted = message.connections;
      this.#counting?.resolve();
      this.#counting = undefined;
    });
    const leaving = new Promise<string>((resolve) => {
      child.on('message', ({ type }: FromWorker) => type === 'leaving' && resolve('was told to end'));
    });
    this.lost = Promise.race([leaving, this.ended.then((how) => `ended (${how})`)]);
  }

  /** Resolves after its last message, with what it had counted. */
  get gone(): Promise<ConnectionCounters> {
    return this.ended.then(async () => {
      if (this.#child.connected) await once(this.#child, 'disconnect');
      return this.#counted;
    });
  }

  /** As of now, or as of the last time when it does not answer. */
  get connections(): Promise<ConnectionCounters> {
    if (!this.listening) return Promise.resolve(this.#counted);
    this.send({ type: 'count' });
    this.#counting ??= Promise.withResolvers();
    return Promise.race([this.#counting.promise, this.ended, delay(countingMs, undefined, { ref: false })]).then(() => this.#counted);
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  /** Resolves once the worker listens; rejects when it says that it cannot, or ends before. */
  async started(): Promise<void> {
    const said = once(this.#child, 'message').then(([message]) => message as FromWorker);
    const answer = await Promise.race([said, this.ended.then((how): FromWorker => ({ type: 'failed', message: `the worker process ended early (${how})` }))]);
    if (answer.type !== 'listening') throw new Error(answer.type === 'failed' ? answer.message : 'the worker process was told to end');
    this.listening = true;
  }

  send(message: ToWorker): void {
    // A worker that has just died is replaced by one that gets the whole snapshot, so nothing is lost with this message.
    if (this.#child.connected) this.#child.send(message, () => {});
  }

  apply(update: SnapshotUpdate): void {
    this.send(update);
  }

  async close(graceMs: number, hasSuccessor: boolean, tunnelMs: number): Promise<void> {
    this.send({ type: 'close', graceMs, hasSuccessor });
    const patience = setTimeout(() => this.#child.kill('SIGKILL'), (hasSuccessor ? Math.max(graceMs, tunnelMs) : graceMs) + 2_000);
    await this.ended;
    clearTimeout(patience);
  }
}
