import type { FileHandle } from 'node:fs/promises';
import { setTimeout } from 'node:timers/promises';
import { Pace } from './pace.ts';

/** A sync for each of a few new names, and in a storm one for all of the last 50 ms: it costs the same for one as for a hundred. */
const limits = { burst: 32, perSecond: 20 };

/** Makes names in a folder last. */
export class FolderSync {
  readonly #folder: FileHandle;
  readonly #pace = new Pace({ ...limits, clock: performance });
  #next: Promise<void> | undefined;

  /** @param folder an open handle */
  constructor(folder: FileHandle) {
    this.#folder = folder;
  }

  /** Resolves when what was renamed before is on the disk. @throws the system's error */
  sync(): Promise<void> {
    this.#next ??= this.#sync();
    return this.#next;
  }

  async #sync(): Promise<void> {
    await setTimeout(this.#pace.wait());
    this.#pace.take();
    // Whoever asks from now on may have renamed too late for this one.
    this.#next = undefined;
    await this.#folder.sync();
  }
}
