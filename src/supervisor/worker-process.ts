import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { type ConnectionCounters, noConnections } from '../connection-counters.ts';
import type { Snapshot, SnapshotUpdate } from '../snapshot.ts';
import type { FromWorker, ToWorker } from '../worker/messages.ts';
import type { InheritedSocket } from '../worker/worker.ts';

const entryPoint = fileURLToPath(new URL('../worker/process.ts', import.meta.url));
const firstInheritedFd = 4; // after standard input, output, error and the message channel
/**
 * A small request leaves 4 KB of garbage, a body none: 4 MB for what is young, less than Node's default, cost no CPU time that could be measured,
 * and save some 30 MB for a worker and 7 KB for each idle connection (bench/README.md).
 */
const workerOptions = ['--max-semi-space-size=4'];
/** How long a busy worker may take to say what it has counted. */
const countingMs = 1_000;

/** A worker in a process of its own, seen from the supervisor. */
export class WorkerProcess {
  readonly #sockets: readonly InheritedSocket[];
  readonly #child: ChildProcess;
  /** How the process ended, in words. */
  readonly #ended: Promise<string>;
  /** Why it accepts nothing more, in words: it has ended, or somebody told it to. */
  readonly lost: Promise<string>;
  listening = false;
  #counted = noConnections();
  #counting: PromiseWithResolvers<void> | undefined;

  /** Begins the process, with the descriptors of these sockets; it loads its code, and waits for `start`. */
  constructor(sockets: readonly InheritedSocket[]) {
    this.#sockets = sockets;
    const stdio = ['ignore', 'inherit', 'inherit', 'ipc', ...sockets.map(({ fd }) => fd)] as const;
    // Node's options for the supervisor (scripts/staplegate) are not for workers.
    const child = fork(entryPoint, [], { stdio: [...stdio], serialization: 'advanced', execArgv: workerOptions });
    this.#child = child;
    this.#ended = new Promise((resolve) => {
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
    this.lost = Promise.race([leaving, this.#ended.then((how) => `ended (${how})`)]);
  }

  /** Resolves after its last message, with what it had counted. */
  get gone(): Promise<ConnectionCounters> {
    return this.#ended.then(async () => {
      if (this.#child.connected) await once(this.#child, 'disconnect');
      return this.#counted;
    });
  }

  /** As of now, or as of the last time when it does not answer. */
  get connections(): Promise<ConnectionCounters> {
    if (!this.listening) return Promise.resolve(this.#counted);
    this.#send({ type: 'count' });
    this.#counting ??= Promise.withResolvers();
    return Promise.race([this.#counting.promise, this.#ended, delay(countingMs, undefined, { ref: false })]).then(() => this.#counted);
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  /** Resolves once the worker listens; rejects when it says that it cannot, or ends before. */
  async start(snapshot: Snapshot): Promise<void> {
    this.#send({ type: 'start', snapshot, sockets: this.#sockets.map((socket, i) => ({ ...socket, fd: firstInheritedFd + i })) });
    const said = once(this.#child, 'message').then(([message]) => message as FromWorker);
    const answer = await Promise.race([said, this.#ended.then((how): FromWorker => ({ type: 'failed', message: `the worker process ended early (${how})` }))]);
    if (answer.type !== 'listening') throw new Error(answer.type === 'failed' ? answer.message : 'the worker process was told to end');
    this.listening = true;
  }

  #send(message: ToWorker): void {
    // A worker that has just died is replaced by one that gets the whole snapshot, so nothing is lost with this message.
    if (this.#child.connected) this.#child.send(message, () => {});
  }

  apply(update: SnapshotUpdate): void {
    this.#send(update);
  }

  async close(graceMs: number, hasSuccessor: boolean, tunnelMs: number): Promise<void> {
    this.#send({ type: 'close', graceMs, hasSuccessor });
    const patience = setTimeout(() => this.#child.kill('SIGKILL'), (hasSuccessor ? Math.max(graceMs, tunnelMs) : graceMs) + 2_000);
    await this.#ended;
    clearTimeout(patience);
  }
}
