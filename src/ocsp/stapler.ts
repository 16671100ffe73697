import path from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import type { OcspPolicy } from '../config/schema.ts';
import type { Log } from '../log.ts';
import type { ServableStaple } from '../snapshot.ts';
import { type Clock, systemClock } from './clock.ts';
import { isSameStaple } from './held-staple.ts';
import { Limiter } from './limiter.ts';
import { isOutage } from './responder-error.ts';
import { StapleCache } from './staple-cache.ts';
import type { StapledLeaf, StapleStatus, StaplingEntry } from './staple-status.ts';
import { StapledCertificate, type Surroundings } from './stapled-certificate.ts';
import type { Staple } from './verify.ts';
import { reasonNotToStaple, UnstapledCertificate } from './unstapled-certificate.ts';

export interface StaplerOptions {
  /** `state_dir`; responses are kept in its folder `ocsp`. */
  directory: string;
  log: Log;
  /** The staple of a certificate is another one now, or none. */
  onStaple: (fingerprint: string, staple: ServableStaple | undefined) => void;
  clock?: Clock;
}

export interface StaplerEntry {
  certificate: StapledLeaf;
  policy: OcspPolicy;
}

const day = 86_400_000;
/** Files read at the same time at start-up. */
const loadsAtOnce = 16;
/** Not while everything is being loaded. */
const pruneDelay = 600_000;

/**
 * Keeps a verified OCSP response ready for every certificate in use. Owns the timers, the requests and the files;
 * what it knows is read with `current` or arrives through `onStaple`, so that no handshake waits for anything.
 */
export class Stapler {
  /** How long files of certificates that are not in use stay, in milliseconds. */
  keep = 7 * day;
  readonly #around: Surroundings;
  readonly #entries = new Map<string, StaplingEntry>();
  /** Entries that were replaced or removed and have not come to rest yet. */
  readonly #stopping = new Set<Promise<void>>();
  #loading: Promise<void> = Promise.resolve();
  #closed = false;
  #cancelPrune: (() => void) | undefined;

  constructor({ directory, log, onStaple, clock = systemClock }: StaplerOptions) {
    const said = new Set<string>();
    const warnOnce = (key: string, message: string): void => {
      if (said.has(key)) return;
      said.add(key);
      log.warn(message, { code: 'responder_content_type' });
    };
    const cache = new StapleCache(path.join(directory, 'ocsp'), log);
    const limiter = new Limiter({ perResponder: 2, overall: 16, sickAfter: 3, isOutage });
    this.#around = { clock, log, limiter, cache, onStaple, warnOnce };
  }

  /**
   * Takes possession of the folder. A folder that cannot be written is only a warning.
   *
   * @throws FolderInUse when another running instance has it
   */
  async open(): Promise<void> {
    await this.#around.cache.open();
  }

  /**
   * The certificates in use from now on. What is new is loaded from disk, offered and fetched; what is gone stops; the
   * rest goes on undisturbed. A certificate that several virtual hosts use is one entry, with the first policy that staples.
   */
  setCertificates(list: readonly StaplerEntry[]): void {
    if (this.#closed) return;
    const wanted = new Map<string, StaplerEntry>();
    for (const entry of list) {
      const { fingerprint } = entry.certificate;
      const known = wanted.get(fingerprint);
      if (known === undefined || (!known.policy.stapling && entry.policy.stapling)) wanted.set(fingerprint, entry);
    }
    for (const [fingerprint, entry] of this.#entries) {
      if (wanted.has(fingerprint)) continue;
      this.#entries.delete(fingerprint);
      this.#retire(entry);
    }
    const starts: (() => Promise<void>)[] = [];
    for (const [fingerprint, { certificate, policy }] of wanted) {
      const old = this.#entries.get(fingerprint);
      if (old !== undefined && isSame(old, { certificate, policy })) continue;
      const entry = this.#entry(certificate, policy, old?.staple);
      this.#entries.set(fingerprint, entry);
      if (old !== undefined) this.#retire(old);
      starts.push(async () => {
        await entry.start();
        const isInUse = this.#entries.get(fingerprint) === entry;
        if (isInUse && !isSameStaple(old?.current, entry.current)) this.#around.onStaple(fingerprint, entry.current);
      });
    }
    const queue = starts.values();
    const worker = async (): Promise<void> => {
      for (const start of queue) await start();
    };
    this.#loading = Promise.all([this.#loading, ...Array.from({ length: loadsAtOnce }, worker)]).then(() => undefined);
    this.#cancelPrune ??= this.#around.clock.setTimeout(() => this.#prune(), pruneDelay);
  }

  #entry(certificate: StapledLeaf, policy: OcspPolicy, previous: Staple | undefined): StaplingEntry {
    const { clock, log } = this.#around;
    const now = clock.now();
    const reason = reasonNotToStaple(certificate, policy, now);
    return reason === undefined
      ? new StapledCertificate(certificate, policy, this.#around, previous)
      : new UnstapledCertificate(certificate, policy, { reason, now, log });
  }

  #retire(entry: StaplingEntry): void {
    const stopped = entry.stop().finally(() => this.#stopping.delete(stopped));
    this.#stopping.add(stopped);
  }

  #prune(): void {
    const { cache, clock } = this.#around;
    const inUse = Array.from(this.#entries.values(), ({ cacheKey }) => cacheKey).filter((key) => key !== undefined);
    void cache.prune(inUse, clock.now(), this.keep);
    this.#cancelPrune = clock.setTimeout(() => this.#prune(), day);
  }

  /** What a handshake with this certificate may staple now. */
  current(fingerprint: string): ServableStaple | undefined {
    return this.#entries.get(fingerprint)?.current;
  }

  /** Resolves when the certificate has its staple, when its first attempt has ended without one, or after `timeout` milliseconds. */
  async settled(fingerprint: string, timeout: number): Promise<void> {
    const entry = this.#entries.get(fingerprint);
    if (entry === undefined) return;
    const { promise: timedOut, resolve } = Promise.withResolvers<void>();
    const cancel = this.#around.clock.setTimeout(resolve, timeout);
    await Promise.race([entry.settled, timedOut]);
    cancel();
  }

  /** Whether {@link settled} would resolve at once. */
  isSettled(fingerprint: string): boolean {
    return this.#entries.get(fingerprint)?.isSettled ?? true;
  }

  status(): StapleStatus[] {
    return Array.from(this.#entries.values(), (entry) => entry.status());
  }

  /** Asks for a newer response now; resolves when that attempt has ended, well or not. */
  async refresh(fingerprint: string): Promise<void> {
    await this.#entries.get(fingerprint)?.refresh();
  }

  /** Resolves when everything that is going on now has ended: loads, attempts, writes. */
  async idle(): Promise<void> {
    await this.#loading;
    await Promise.all([...this.#stopping, ...Array.from(this.#entries.values(), (entry) => entry.idle())]);
  }

  /** Ends timers and requests, waits for writes, and gives the folder back. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#cancelPrune?.();
    for (const entry of this.#entries.values()) this.#retire(entry);
    this.#entries.clear();
    await this.idle();
    await this.#around.cache.close();
  }
}

/** Whether an entry can go on as it is. */
function isSame(entry: StaplingEntry, wanted: StaplerEntry): boolean {
  const essence = ({ certificate: { issuerFingerprint, ocspResponders }, policy }: StaplerEntry) => ({ issuerFingerprint, ocspResponders, policy });
  return isDeepStrictEqual(essence(entry), essence(wanted));
}
