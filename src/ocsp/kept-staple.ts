import type { Log } from '../log.ts';
import type { FetchRecord } from './fetch-record.ts';
import { OcspRefusal } from './refusal.ts';
import type { CacheKey, StapleCache } from './staple-cache.ts';

/** Refusals that are a matter of time, of policy or of the certificate: the file is as it was written. */
const notDamage = new Set<string>([
  'expired',
  'too_old',
  'not_yet_valid',
  'no_next_update',
  'weak_signature',
  'bad_certificate',
  'superseded',
  'status_unknown',
]);

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

  /**
   * Hands the response that is kept to `take`, whose refusal says whether it is damaged (then it goes to the quarantine)
   * or merely of no use now.
   *
   * @param limit bytes
   * @returns what was remembered about its fetching
   */
  async restore(limit: number, take: (der: Buffer) => void, log: Log): Promise<FetchRecord | undefined> {
    const { der, record } = await this.#cache.load(this.#key, limit);
    try {
      if (der !== undefined) take(der);
    } catch (error) {
      const { message } = error as Error;
      if (!(error instanceof OcspRefusal) || !notDamage.has(error.code)) await this.#cache.quarantine(this.#key, message);
      else log.debug(`the kept response for ${record?.name ?? 'a certificate'} is not used: ${message}`, { certificate: record?.name, code: error.code });
    }
    return record;
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
