import { chmod, type FileHandle, lstat, mkdir, open, readdir, rename, rm, stat, unlink } from 'node:fs/promises';
import path from 'node:path';
import type { Log } from '../log.ts';
import { isTemporary, NotReadable, putFile, readSmallFile, TooLarge } from './cache-files.ts';
import { parseFetchRecord, type FetchRecord } from './fetch-record.ts';
import { FolderSync } from './folder-sync.ts';
import { FolderInUse, type Lock, lockFolder } from './lock.ts';

/** Two issuers can sign the same key and name: a response belongs to a pair. SHA-256 fingerprints, lower-case hex. */
export interface CacheKey {
  fingerprint: string;
  issuerFingerprint: string;
}

export interface CacheEntry {
  /** The OCSPResponse as it came, not verified. */
  der: Buffer | undefined;
  record: FetchRecord | undefined;
}

const quarantineSize = 32;
const recordSize = 16_384;

/**
 * OCSP responses on disk: for each certificate the raw DER, which other programs read too, and beside it a small JSON
 * about its fetching. What it hands out has to be verified like something from the network. Apart from `open`, nothing
 * here throws: a disk that is full, read-only or broken costs the memory over a restart, not the staples.
 */
export class StapleCache {
  readonly folder: string;
  readonly #log: Log;
  #handle: FileHandle | undefined;
  #names: FolderSync | undefined;
  #lock: Lock | undefined;
  #failing = false;
  #setAsides = 0;
  /** Writes that failed since the start. */
  writeFailures = 0;

  constructor(folder: string, log: Log) {
    this.folder = folder;
    this.#log = log;
  }

  /**
   * Makes the folder where needed and becomes its only owner. Before that, and where it cannot be written, nothing is kept.
   *
   * @throws FolderInUse when another running instance owns it
   */
  async open(): Promise<void> {
    const { folder } = this;
    try {
      await mkdir(folder, { recursive: true, mode: 0o700 });
      this.#handle = await open(folder);
      this.#names = new FolderSync(this.#handle);
      // What a link leads to is somebody else's to open or to close.
      const own = await lstat(folder);
      if (own.isDirectory() && (own.mode & 0o077) !== 0) await chmod(folder, 0o700);
    } catch (error) {
      this.#writeFailed(error, folder);
    }
    if (this.#handle === undefined) return;
    try {
      this.#lock = await lockFolder(folder, this.#handle);
      for (const name of await readdir(folder)) {
        if (isTemporary(name)) await unlink(path.join(folder, name));
      }
    } catch (error) {
      if (error instanceof FolderInUse) {
        await this.close();
        throw error;
      }
      this.#log.warn(`${folder} cannot be locked and cleaned up: ${(error as Error).message} (state_dir)`, { code: 'cache_not_locked' });
    }
  }

  /**
   * What is kept for a certificate. Something that cannot be a response goes to the quarantine; one that is larger than
   * `limit` bytes, which may have been set lower since, stays where it is.
   */
  async load(key: CacheKey, limit: number): Promise<CacheEntry> {
    const der = await this.#read(key, 'der', limit);
    const record = await this.#read(key, 'json', recordSize);
    return { der, record: record && parseFetchRecord(record.toString()) };
  }

  async #read(key: CacheKey, kind: 'der' | 'json', limit: number): Promise<Buffer | undefined> {
    const file = this.#file(key, kind);
    try {
      return await readSmallFile(file, limit);
    } catch (error) {
      if (error instanceof TooLarge && kind === 'der')
        this.#log.warn(`${file} ${error.message} (ocsp.max_response_size) and is not used`, { code: 'too_large' });
      else if (error instanceof NotReadable) await this.#setAside(file, error.message);
      else this.#log.warn(`${file} cannot be read: ${(error as Error).message}`, { code: 'cache_unreadable' });
      return undefined;
    }
  }

  /** Keeps a response; resolves with whether it is safely on disk. The response kept before is lost only if this one is whole. */
  async storeResponse(key: CacheKey, der: Buffer): Promise<boolean> {
    return this.#write(this.#file(key, 'der'), async (file) => {
      await putFile(file, der, { sync: true });
      await this.#names?.sync();
    });
  }

  /** Not worth waiting for the disk: after a power cut that took it, what comes next is planned from the response itself. */
  async storeRecord(key: CacheKey, record: FetchRecord): Promise<boolean> {
    return this.#write(this.#file(key, 'json'), (file) => putFile(file, `${JSON.stringify(record)}\n`, { sync: false }));
  }

  async #write(file: string, write: (file: string) => Promise<void>): Promise<boolean> {
    if (this.#handle === undefined) return false;
    try {
      await write(file);
      if (this.#failing) this.#log.info(`${this.folder} can be written again`);
      this.#failing = false;
      return true;
    } catch (error) {
      this.#writeFailed(error, file);
      return false;
    }
  }

  /** Once per outage: thousands of certificates would say the same. */
  #writeFailed(error: unknown, file: string): void {
    this.writeFailures += 1;
    if (!this.#failing) {
      this.#log.warn(`${file} cannot be written: ${(error as Error).message}; staples are kept in memory only (state_dir)`, { code: 'cache_not_writable' });
    }
    this.#failing = true;
  }

  /** Takes a response that failed verification out of the way, for someone to look at. */
  async quarantine(key: CacheKey, reason: string): Promise<void> {
    await this.#setAside(this.#file(key, 'der'), reason);
  }

  async #setAside(file: string, reason: string): Promise<void> {
    const folder = path.join(this.folder, 'quarantine');
    // Whoever only looks at another instance's folder leaves it as it is.
    if (this.#handle === undefined) return this.#log.warn(`${file} is damaged or not ours: ${reason}`, { code: 'cache_damaged' });
    this.#log.warn(`${file} is damaged or not ours: ${reason}; moved to ${folder}`, { code: 'cache_damaged' });
    try {
      await mkdir(folder, { recursive: true, mode: 0o700 });
      this.#setAsides += 1;
      const order = `${new Date().toISOString().replaceAll(':', '')}-${String(this.#setAsides).padStart(4, '0')}`;
      await rename(file, path.join(folder, `${order}-${path.basename(file)}`));
      const oldestFirst = (await readdir(folder)).sort();
      for (const name of oldestFirst.slice(0, -quarantineSize)) await rm(path.join(folder, name), { recursive: true });
    } catch (error) {
      this.#writeFailed(error, folder);
    }
  }

  /** Removes what is kept for certificates not in use, `keep` milliseconds after it was last written. */
  async prune(inUse: Iterable<CacheKey>, now: number, keep: number): Promise<void> {
    const used = new Set(Array.from(inUse, stem));
    try {
      for (const name of await readdir(this.folder)) {
        const kept = /^([0-9a-f]{64}-[0-9a-f]{64})\.(?:der|json)$/.exec(name)?.[1];
        if (kept === undefined || used.has(kept)) continue;
        const file = path.join(this.folder, name);
        if ((await stat(file)).mtimeMs + keep < now) await unlink(file);
      }
    } catch (error) {
      this.#log.warn(`${this.folder} cannot be cleaned up: ${(error as Error).message}`, { code: 'cache_not_cleaned' });
    }
  }

  async close(): Promise<void> {
    const [lock, handle] = [this.#lock, this.#handle];
    this.#lock = this.#handle = this.#names = undefined;
    await lock?.release();
    await handle?.close();
  }

  #file(key: CacheKey, kind: 'der' | 'json'): string {
    return path.join(this.folder, `${stem(key)}.${kind}`);
  }
}

function stem({ fingerprint, issuerFingerprint }: CacheKey): string {
  return `${fingerprint}-${issuerFingerprint}`;
}
