import path from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import type { Log } from '../log.ts';
import type { ServableStaple } from '../snapshot.ts';
import { type Clock, systemClock } from './clock.ts';
import type { StaplingCounters } from './counters.ts';
import { firstStaple, settled } from './first-staple.ts';
import { isSameStaple } from './held-staple.ts';
import { Limiter } from './limiter.ts';
import { OcspRefusal } from './refusal.ts';
import { isOutage } from './responder-error.ts';
import { StapleCache } from './staple-cache.ts';
import type { CertificateInUse, StapleStatus, StaplingEntry } from './staple-status.ts';
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

const day = 86_400_000;
/**
 * A question with its answer takes a good millisecond of CPU time, which handshakes may need more: a tenth of a core, then. A responder
 * that answers in 20 ms could not be asked more often, two at a time.
 */
const limits = { perResponder: 2, overall: 16, perSecond: 100, burst: 32, sickAfter: 3 };
/** More than this many certificates waiting for their turn are a storm. */
const storm = 32;
/** Files read at the same time. */
const readsAtOnce = 16;
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
  /** Entries that have not read the disk yet. */
  #toLoad = 0;
  #closed = false;
  readonly #closing = Promise.withResolvers<void>();
  #cancelPrune: (() => void) | undefined;

  constructor({ directory, log, onStaple, clock = systemClock }: StaplerOptions) {
    const said = new Set<string>();
    const warnOnce = (key: string, message: string): void => {
      if (said.has(key)) return;
      said.add(key);
      log.warn(message, { code: 'responder_content_type' });
    };
    const cache = new StapleCache(path.join(directory, 'ocsp'), log);
    const limiter = new Limiter({ ...limits, isOutage, clock });
    const counters = { updates: 0, cacheWriteFailures: 0, responders: {} };
    this.#around = { clock, log, limiter, cache, counters, onStaple, warnOnce };
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
   * rest goes on undisturbed.
   */
  setCertificates(list: readonly CertificateInUse[]): void {
    if (this.#closed) return;
    const wanted = oneForEach(list);
    for (const [fingerprint, entry] of this.#entries) {
      if (wanted.has(fingerprint)) continue;
      this.#entries.delete(fingerprint);
      // Whoever keeps staples forgets this one; a certificate that is replaced every day leaves nothing behind.
      if (entry.current !== undefined) this.#around.onStaple(fingerprint, undefined);
      this.#retire(entry);
    }
    const starts: (() => Promise<void>)[] = [];
    for (const [fingerprint, own] of wanted) {
      const old = this.#entries.get(fingerprint);
      if (old !== undefined && isSame(old, own)) continue;
      const entry = this.#entry(own, old?.staple);
      this.#entries.set(fingerprint, entry);
      if (old !== undefined) this.#retire(old);
      this.#toLoad += 1;
      starts.push(async () => {
        await entry.start();
        this.#toLoad -= 1;
        // A new entry has said itself what it found; one that takes another's place may have found less.
        const isInUse = this.#entries.get(fingerprint) === entry;
        if (old !== undefined && isInUse && !isSameStaple(old.current, entry.current)) this.#around.onStaple(fingerprint, entry.current);
      });
    }
    this.#loading = Promise.all([this.#loading, inTurn(starts)]).then(() => undefined);
    this.#cancelPrune ??= this.#around.clock.setTimeout(() => this.#prune(), pruneDelay);
  }

  #entry(own: CertificateInUse, previous: Staple | undefined): StaplingEntry {
    const { clock, log } = this.#around;
    const reason = reasonNotToStaple(own.certificate, own.policy, own.file);
    if (reason === undefined) return new StapledCertificate(own, this.#around, previous);
    return new UnstapledCertificate(own, { reason, now: clock.now(), log });
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

  /** Resolves when the certificate has its staple, or had its first chance of one; see {@link settled}. */
  settled(fingerprint: string, timeout: number): Promise<void> {
    return settled(this.#entries.get(fingerprint), timeout, this.#around.clock);
  }

  /** The same for one that must be stapled; see {@link firstStaple}. */
  firstStaple(fingerprint: string, timeout: number): Promise<void> {
    return firstStaple(() => this.#entries.get(fingerprint), timeout, this.#around.clock, this.#closing.promise);
  }

  /** Whether {@link settled} would resolve at once. */
  isSettled(fingerprint: string): boolean {
    return this.#entries.get(fingerprint)?.isSettled ?? true;
  }

  /** The files in which responses may be given by hand, there or not. */
  files(): string[] {
    return Array.from(this.#entries.values(), ({ file }) => file?.path).filter((path) => path !== undefined);
  }

  /** Looks again at those of its files that are among `paths`. */
  async reread(paths: readonly string[]): Promise<void> {
    const changed = new Set(paths);
    const entries = [...this.#entries.values()].filter(({ file }) => file !== undefined && changed.has(file.path));
    await inTurn(entries.map((entry) => () => entry.reread()));
  }

  /**
   * Takes a response that was given by hand, for every certificate that it speaks of, when it stands up to verification and
   * is not older than the one that is held.
   *
   * @param from for people: the file, or whoever gave it
   * @returns the certificates that it was taken for
   * @throws OcspRefusal when there is none
   */
  offer(der: Buffer, from: string): StapleStatus[] {
    const taken: StapleStatus[] = [];
    let refusal = new OcspRefusal('no_matching_entry', 'no certificate in use can be stapled');
    for (const entry of this.#entries.values()) {
      try {
        if (entry.offer(der, from) !== undefined) taken.push(entry.status());
      } catch (error) {
        if (!(error instanceof OcspRefusal)) throw error;
        // What is wrong for a certificate that the response speaks of tells more than that it does not speak of another.
        if (refusal.code === 'no_matching_entry') refusal = error;
      }
    }
    if (taken.length === 0) throw refusal;
    return taken;
  }

  /** What has happened since the start. */
  get counters(): StaplingCounters {
    return { ...this.#around.counters, cacheWriteFailures: this.#around.cache.writeFailures };
  }

  status(): StapleStatus[] {
    return Array.from(this.#entries.values(), (entry) => entry.status());
  }

  /** Whether so much is to be read or asked that what comes of it should be passed on in batches. */
  get isStorming(): boolean {
    return this.#toLoad + this.#around.limiter.waiting > storm;
  }

  /** Asks for a newer response now; resolves when that attempt has ended, well or not. Undefined when the certificate is not in use. */
  async refresh(fingerprint: string): Promise<StapleStatus | undefined> {
    const entry = this.#entries.get(fingerprint);
    await entry?.refresh();
    return entry?.status();
  }

  /** Resolves when everything that is going on now has ended: loads, attempts, writes. */
  async idle(): Promise<void> {
    await this.#loading;
    await Promise.all([...this.#stopping, ...Array.from(this.#entries.values(), (entry) => entry.idle())]);
  }

  /** Ends timers and requests, waits for writes, and gives the folder back. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#closing.resolve();
    this.#cancelPrune?.();
    for (const entry of this.#entries.values()) this.#retire(entry);
    this.#entries.clear();
    await this.idle();
    this.#around.limiter.close();
    await this.#around.cache.close();
  }
}

async function inTurn(tasks: readonly (() => Promise<void>)[]): Promise<void> {
  const queue = tasks.values();
  const worker = async (): Promise<void> => {
    for (const task of queue) await task();
  };
  await Promise.all(Array.from({ length: readsAtOnce }, worker));
}

/** A certificate that several virtual hosts use is one entry, with the first policy that staples and the first file that is named for it. */
function oneForEach(list: readonly CertificateInUse[]): Map<string, CertificateInUse> {
  const distinct = new Map<string, CertificateInUse>();
  for (const entry of list) {
    const { fingerprint } = entry.certificate;
    const known = distinct.get(fingerprint);
    const first = known === undefined || (!known.policy.stapling && entry.policy.stapling) ? entry : known;
    distinct.set(fingerprint, { ...first, file: known?.file?.configured ? known.file : entry.file });
  }
  return distinct;
}

/** Whether an entry can go on as it is. */
function isSame(entry: StaplingEntry, wanted: CertificateInUse): boolean {
  const essence = ({ certificate: { issuerFingerprint, ocspResponders }, policy, file }: CertificateInUse) => ({
    issuerFingerprint,
    ocspResponders,
    policy,
    file,
  });
  return isDeepStrictEqual(essence(entry), essence(wanted));
}
