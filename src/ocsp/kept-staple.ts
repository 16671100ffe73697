import type { FetchRecord } from './fetch-record.ts';
import type { CacheEntry, CacheKey, StapleCache } from './staple-cache.ts';

/**
 * One certificate's place on disk. Writes happen in the background, one at a time, so that a disk that hangs holds up
 * no refresh; of what changes meanwhile only the last is written.
 */
export class KeptStaple {
  readonly #cache: StapleCache;
  readonly #key: CacheKey;
  #saved: Buffer | undefined;
  #next: { der: Buffer | undefined; record: FetchRecord } | undefined;
  #writing: Promise<void> | undefined;

  constructor(cache: StapleCache, key: CacheKey) {
    this.#cache = cache;
    this.#key = key;
  }

  load(limit: number): Promise<CacheEntry> {
    return this.#cache.load(this.#key, limit);
  }

  /** What was loaded is not what was written. */
  async quarantine(reason: string): Promise<void> {
    await this.#cache.quarantine(this.#key, reason);
  }

  /** @param der the response that is held, new or not: one that could not be written is tried again with the next update */
  save(der: Buffer | undefined, record: FetchRecord): void {
    this.#next = { der, record };
    this.#writing ??= this.#write().finally(() => {
      this.#writing = undefined;
    });
  }

  async #write(): Promise<void> {
    for (let now = this.#next; now !== undefined; now = this.#next) {
      this.#next = undefined;
      const { der, record } = now;
      if (der !== undefined && this.#saved?.equals(der) !== true && (await this.#cache.storeResponse(this.#key, der))) this.#saved = der;
      await this.#cache.storeRecord(this.#key, record);
    }
  }

  /** Undefined when nothing is being written. */
  get writing(): Promise<void> | undefined {
    return this.#writing;
  }
}
