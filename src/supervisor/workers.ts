import type { createLog } from '../log.ts';
import type { Snapshot, SnapshotUpdate } from '../snapshot.ts';
import type { InheritedSocket } from '../worker/worker.ts';
import { WorkerPool } from './worker-pool.ts';

/** The workers in force and those of earlier generations that are still finishing their exchanges. */
export class Workers {
  readonly #snapshot: () => Snapshot;
  readonly #log: ReturnType<typeof createLog>;
  #current: WorkerPool | undefined;
  /** Every generation that lives, the one being started among them: all get every update. */
  readonly #generations = new Set<WorkerPool>();
  readonly #draining = new Set<Promise<void>>();

  constructor(snapshot: () => Snapshot, log: ReturnType<typeof createLog>) {
    this.#snapshot = snapshot;
    this.#log = log;
  }

  /**
   * Starts `count` workers on these sockets (0: in this process); once they accept, those before them drain.
   * @throws Error when they cannot start; those before them go on
   */
  async start(count: number, sockets: readonly InheritedSocket[], graceMs: number): Promise<void> {
    const pool = new WorkerPool({ count, sockets, snapshot: this.#snapshot, log: this.#log });
    this.#generations.add(pool);
    try {
      await pool.start();
    } catch (error) {
      this.#generations.delete(pool);
      throw error;
    }
    const before = this.#current;
    this.#current = pool;
    if (before) this.#drain(before, graceMs);
  }

  send(update: SnapshotUpdate): void {
    for (const pool of this.#generations) pool.send(update);
  }

  async close(graceMs: number): Promise<void> {
    if (this.#current) this.#drain(this.#current, graceMs);
    this.#current = undefined;
    await Promise.all(this.#draining);
  }

  #drain(pool: WorkerPool, graceMs: number): void {
    const drained = pool.close(graceMs).then(() => {
      this.#generations.delete(pool);
      this.#draining.delete(drained);
    });
    this.#draining.add(drained);
  }
}
