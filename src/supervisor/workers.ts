import { addConnections, type ConnectionCounters, noConnections } from '../connection-counters.ts';
import type { createLog } from '../log.ts';
import type { Snapshot, SnapshotUpdate } from '../snapshot.ts';
import type { InheritedSocket } from '../worker/worker.ts';
import { WorkerPool } from './worker-pool.ts';

/** The workers in force and those of earlier generations that are still finishing their exchanges. */
export class Workers {
  readonly #snapshot: () => Snapshot;
  readonly #log: ReturnType<typeof createLog>;
  #current: WorkerPool | undefined;
  #prepared: WorkerPool | undefined;
  /** Every generation that lives, the one being started among them: all get every update. */
  readonly #generations = new Set<WorkerPool>();
  readonly #draining = new Set<Promise<void>>();
  /** Of workers that have ended. */
  readonly #past = noConnections();
  #isClosed = false;

  constructor(snapshot: () => Snapshot, log: ReturnType<typeof createLog>) {
    this.#snapshot = snapshot;
    this.#log = log;
  }

  /** Begins what the first `start`, with the same arguments, will need. */
  prepare(count: number, sockets: readonly InheritedSocket[]): void {
    this.#prepared = this.#newPool(count, sockets);
    this.#prepared.prepare();
  }

  /**
   * Starts `count` workers on these sockets; once they accept, those before them drain. 0 is one in this process, and
   * stays that one.
   * @throws Error when they cannot start; those before them go on
   */
  async start(count: number, sockets: readonly InheritedSocket[], graceMs: number): Promise<void> {
    if (this.#isClosed) throw new Error('the program is ending');
    if (await this.#current?.listen(sockets)) {
      this.send({ type: 'snapshot', snapshot: this.#snapshot() });
      return;
    }
    const pool = this.#prepared ?? this.#newPool(count, sockets);
    this.#prepared = undefined;
    try {
      await pool.start();
    } catch (error) {
      this.#generations.delete(pool);
      throw error;
    }
    const before = this.#current;
    this.#current = pool;
    if (before) this.#drain(before, graceMs, true);
  }

  #newPool(count: number, sockets: readonly InheritedSocket[]): WorkerPool {
    const onEnded = (connections: ConnectionCounters): void => addConnections(this.#past, { ...connections, now: noConnections().now });
    const pool = new WorkerPool({ count, sockets, snapshot: this.#snapshot, onEnded, log: this.#log });
    this.#generations.add(pool);
    return pool;
  }

  send(update: SnapshotUpdate): void {
    for (const pool of this.#generations) pool.send(update);
  }

  /** What has become of all connections, since the start. */
  async connections(): Promise<ConnectionCounters> {
    const total = structuredClone(this.#past);
    const counted = await Promise.all(Array.from(this.#generations, (pool) => pool.connections()));
    for (const connections of counted.flat()) addConnections(total, connections);
    return total;
  }

  /** Ends all workers, those being started among them. */
  async close(graceMs: number): Promise<void> {
    this.#isClosed = true;
    for (const pool of this.#generations) this.#drain(pool, graceMs, false);
    this.#current = undefined;
    await Promise.all(this.#draining);
  }

  #drain(pool: WorkerPool, graceMs: number, hasSuccessor: boolean): void {
    const drained = pool.close(graceMs, hasSuccessor).then(() => {
      this.#generations.delete(pool);
      this.#draining.delete(drained);
    });
    this.#draining.add(drained);
  }
}
