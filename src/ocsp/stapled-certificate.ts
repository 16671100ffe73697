import type { OcspPolicy } from '../config/schema.ts';
import type { Log } from '../log.ts';
import type { ServableStaple } from '../snapshot.ts';
import { askResponders, type RespondersAnswer, RespondersFailed } from './ask-responders.ts';
import type { OcspSubject } from './cert-id.ts';
import type { Clock } from './clock.ts';
import type { FetchRecord } from './fetch-record.ts';
import { HeldStaple } from './held-staple.ts';
import { KeptStaple } from './kept-staple.ts';
import type { Limiter } from './limiter.ts';
import { OcspRefusal } from './refusal.ts';
import { nextRefresh, retryDelay } from './schedule.ts';
import type { CacheKey, StapleCache } from './staple-cache.ts';
import type { StapledLeaf, StapleState, StapleStatus, StaplingEntry } from './staple-status.ts';
import type { Staple } from './verify.ts';

export interface Surroundings {
  clock: Clock;
  log: Log;
  limiter: Limiter;
  cache: StapleCache;
  /** The staple of this certificate is another one now, or none. */
  onStaple: (fingerprint: string, staple: ServableStaple | undefined) => void;
  /** A warning that concerns all certificates of a responder, said once. */
  warnOnce: (responder: string, message: string) => void;
}

const minute = 60_000;
const hour = 60 * minute;

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

/** The OCSP life of one certificate: its response is loaded, fetched, refreshed and kept on disk. What clients get of it is HeldStaple's matter. */
export class StapledCertificate implements StaplingEntry {
  readonly certificate: StapledLeaf;
  readonly policy: OcspPolicy;
  readonly cacheKey: CacheKey;
  readonly #name: string;
  readonly #subject: OcspSubject;
  readonly #responders: string[];
  readonly #around: Surroundings;
  readonly #held: HeldStaple;
  readonly #kept: KeptStaple;
  #stopped = false;
  readonly #settled = Promise.withResolvers<void>();
  #isSettled = false;
  #record: FetchRecord;
  #attempt: Promise<void> | undefined;
  /** One for each attempt: listeners on a signal that lives as long as the certificate would pile up. */
  #abort: AbortController | undefined;
  #cancelRefresh = (): void => {};

  /** @param previous held by a predecessor with another policy: it is served without a gap, if the new policy allows */
  constructor(certificate: StapledLeaf, policy: OcspPolicy, around: Surroundings, previous?: Staple) {
    const { leaf, issuer, fingerprint, issuerFingerprint, names } = certificate;
    if (issuer === undefined || issuerFingerprint === undefined) throw new TypeError('a certificate without issuer cannot be stapled');
    this.certificate = certificate;
    this.policy = policy;
    this.cacheKey = { fingerprint, issuerFingerprint };
    this.#name = names[0] ?? fingerprint;
    this.#subject = { leaf, issuer };
    this.#responders = policy.responder === undefined ? certificate.ocspResponders : [policy.responder];
    this.#around = around;
    this.#record = { name: this.#name, failures: 0 };
    const { clock, log, cache, onStaple } = around;
    this.#kept = new KeptStaple(cache, this.cacheKey);
    this.#held = new HeldStaple(
      { name: this.#name, subject: this.#subject, policy, clock, log, onStaple: (staple) => onStaple(fingerprint, staple) },
      previous,
    );
  }

  get current(): ServableStaple | undefined {
    return this.#held.current;
  }

  get staple(): Staple | undefined {
    return this.#held.staple;
  }

  get settled(): Promise<void> {
    return this.#settled.promise;
  }

  get isSettled(): boolean {
    return this.#isSettled;
  }

  #settle(): void {
    this.#isSettled = true;
    this.#settled.resolve();
  }

  async start(): Promise<void> {
    const kept = await this.#kept.load(this.policy.maxResponseSize);
    if (this.#stopped) return;
    const damage = kept.der && this.#takeKept(kept.der);
    if (damage !== undefined) await this.#kept.quarantine(damage);
    if (!this.#stopped) this.#planFirst(kept.record);
  }

  /** Offers a response that was kept, if it still stands up to verification. Returns what is damaged about it, if that is why it does not. */
  #takeKept(der: Buffer): string | undefined {
    try {
      this.#held.take(this.#held.judge(der));
      return undefined;
    } catch (error) {
      if (!(error instanceof OcspRefusal) || !notDamage.has(error.code)) return (error as Error).message;
      this.#around.log.debug(`the kept response for ${this.#name} is not used: ${error.message}`, { certificate: this.#name, code: error.code });
      return undefined;
    }
  }

  /** What was planned before a restart stands, within what the response itself asks for: restarts do not storm responders. */
  #planFirst(record: FetchRecord | undefined): void {
    const { clock } = this.#around;
    if (this.staple === undefined) return this.#plan(0);
    this.#settle();
    this.#record = { ...this.#record, ...record, name: this.#name };
    const latest = nextRefresh(this.staple, { now: clock.now(), random: () => clock.random() });
    this.#plan(Math.min(record?.nextTry ?? latest, latest) - clock.now());
  }

  #plan(delay: number): void {
    const { clock } = this.#around;
    const wait = Math.max(0, delay);
    this.#cancelRefresh();
    if (this.#stopped) return;
    this.#record.nextTry = clock.now() + wait;
    this.#cancelRefresh = clock.setTimeout(() => void this.refresh(), wait);
  }

  refresh(): Promise<void> {
    if (this.#stopped || this.#hasExpired()) {
      this.#cancelRefresh();
      this.#record.nextTry = undefined;
      return Promise.resolve();
    }
    this.#attempt ??= this.#fetch().finally(() => {
      this.#attempt = undefined;
      this.#settle();
    });
    return this.#attempt;
  }

  async #fetch(): Promise<void> {
    const { clock, limiter } = this.#around;
    const { signal } = (this.#abort = new AbortController());
    try {
      const answer = await askResponders({
        subject: this.#subject,
        urls: this.#responders,
        configured: this.policy.responder !== undefined,
        policy: this.policy,
        accept: (der) => this.#held.judge(der),
        limiter,
        clock,
        signal,
      });
      if (!this.#stopped) this.#succeeded(answer);
    } catch (error) {
      if (this.#stopped) return;
      if (!(error instanceof RespondersFailed)) throw error;
      this.#failed(error);
    }
    this.#kept.save(this.staple?.der, this.#record);
  }

  #succeeded({ accepted: staple, responder, method, maxAge, duration, warnings }: RespondersAnswer<Staple>): void {
    const { clock, warnOnce } = this.#around;
    const now = clock.now();
    for (const warning of warnings) warnOnce(new URL(responder).host, warning);
    this.#record = { name: this.#name, fetchedAt: now, responder, failures: 0 };
    this.#held.take(staple);
    this.#plan(nextRefresh(staple, { now, httpMaxAge: maxAge, random: () => clock.random() }) - now);
    this.#logUpdate('info', { responder, method, result: staple.certStatus, duration_ms: duration });
  }

  #failed(failure: RespondersFailed): void {
    const { clock } = this.#around;
    const { code, message, responder, method, duration, retryAfter } = failure;
    const now = clock.now();
    const failures = this.#record.failures + 1;
    this.#record = { ...this.#record, failures, error: { code, message, at: now } };
    const remainingLife = this.current === undefined ? 0 : this.current.validUntil - now;
    const delay = retryDelay(failures, remainingLife, retryAfter, () => clock.random());
    const early = this.#isTooEarly(failure);
    this.#plan(early ? Math.min(delay, 5 * minute) : delay);
    this.#logUpdate(early ? 'info' : 'warn', { responder, method, result: 'failed', code, duration_ms: duration, error: message });
  }

  /** A CA has a quarter of an hour until its responder must know a new certificate (CA/B baseline requirements 4.9.9). */
  #isTooEarly({ code, cause }: RespondersFailed): boolean {
    if (this.#around.clock.now() - this.certificate.notBefore > hour) return false;
    return code === 'status_unknown' || (cause instanceof OcspRefusal && cause.responseStatus === 'unauthorized');
  }

  /** The one line for every update, good or bad. */
  #logUpdate(level: 'info' | 'warn', { responder, ...facts }: Record<string, string | number | undefined>): void {
    const { nextTry } = this.#record;
    const next = nextTry === undefined ? undefined : new Date(nextTry).toISOString();
    this.#around.log[level]('OCSP update', { certificate: this.#name, responder, ...facts, next });
  }

  async idle(): Promise<void> {
    while (this.#attempt ?? this.#kept.writing) await (this.#attempt ?? this.#kept.writing);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#abort?.abort(new Error('stopped'));
    this.#cancelRefresh();
    this.#held.close();
    this.#settle();
    await this.idle();
  }

  status(): StapleStatus {
    const { fingerprint, names, mustStaple } = this.certificate;
    const { nextTry, failures, error, responder } = this.#record;
    return {
      fingerprint,
      names,
      mustStaple,
      state: this.#state(),
      serving: this.current !== undefined,
      thisUpdate: this.staple?.thisUpdate,
      validUntil: this.staple?.validUntil,
      nextRefresh: nextTry,
      responder: responder ?? this.#responders[0],
      failures,
      lastError: error,
    };
  }

  #state(): StapleState {
    if (this.#hasExpired()) return 'expired';
    if (this.staple?.certStatus === 'revoked') return 'revoked';
    if (this.#record.error !== undefined) return 'failing';
    return this.current === undefined ? 'pending' : 'good';
  }

  #hasExpired(): boolean {
    return this.certificate.notAfter <= this.#around.clock.now();
  }
}
