import type { OcspPolicy } from '../config/policies.ts';
import type { Log } from '../log.ts';
import { askResponders, type RespondersAnswer, RespondersFailed } from './ask-responders.ts';
import type { OcspSubject } from './cert-id.ts';
import type { Clock } from './clock.ts';
import { countQuestion, type StaplingCounters } from './counters.ts';
import type { FetchRecord } from './fetch-record.ts';
import type { HeldStaple } from './held-staple.ts';
import type { Limiter } from './limiter.ts';
import { OcspRefusal } from './refusal.ts';
import { nextRefresh, retryDelay } from './schedule.ts';
import { respondersFor, type StapledLeaf } from './staple-status.ts';
import type { Staple } from './verify.ts';

export interface RefreshingOptions {
  /** Of the certificate, in log lines. */
  name: string;
  certificate: StapledLeaf;
  subject: OcspSubject;
  policy: OcspPolicy;
  held: HeldStaple;
  clock: Clock;
  log: Log;
  limiter: Limiter;
  counters: StaplingCounters;
  /** A warning that concerns all certificates of a responder, said once. */
  warnOnce: (responder: string, message: string) => void;
  /** An attempt has ended, well or not; the record says how. */
  onAttempt: () => void;
}

const minute = 60_000;
const hour = 60 * minute;

/** When the responders are asked about one certificate, and what is remembered of it. */
export class Refreshing {
  /** In order; empty when there is nobody to ask. */
  readonly responders: readonly string[];
  record: FetchRecord;
  readonly #options: RefreshingOptions;
  #stopped = false;
  #attempt: Promise<void> | undefined;
  /** One for each attempt: listeners on a signal that lives as long as the certificate would pile up. */
  #abort: AbortController | undefined;
  #cancel = (): void => {};

  constructor(options: RefreshingOptions) {
    this.#options = options;
    this.responders = respondersFor(options.certificate, options.policy);
    this.record = { name: options.name, failures: 0 };
  }

  /** What was planned before a restart stands, within what the response itself asks for: restarts do not storm responders. */
  resume(record: FetchRecord | undefined): void {
    const { held, clock, name } = this.#options;
    if (held.staple === undefined) return this.#plan(0);
    // Where nobody is asked any more, what came of it is history.
    const attempts = this.responders.length === 0 ? { failures: 0, error: this.record.error } : {};
    this.record = { failures: 0, ...record, ...attempts, name };
    const latest = this.#nextRefresh(held.staple);
    this.#plan(Math.min(record?.nextTry ?? latest, latest) - clock.now());
  }

  #nextRefresh(staple: Staple, httpMaxAge?: number): number {
    const { clock, policy } = this.#options;
    return nextRefresh(staple, { now: clock.now(), httpMaxAge, minDelay: policy.minDelay, random: () => clock.random() });
  }

  #plan(delay: number): void {
    const { clock } = this.#options;
    const wait = Math.max(0, delay);
    this.unplan();
    if (this.#stopped || this.responders.length === 0) return;
    this.record.nextTry = clock.now() + wait;
    this.#cancel = clock.setTimeout(() => void this.refresh(), wait);
  }

  unplan(): void {
    this.#cancel();
    this.record.nextTry = undefined;
  }

  /** Asks now; joins an attempt that is going on. */
  refresh(): Promise<void> {
    const { certificate, clock } = this.#options;
    const isExpired = certificate.notAfter <= clock.now();
    if (this.#stopped || this.responders.length === 0 || isExpired) {
      this.unplan();
      // Nobody is asked any more, unless it was the clock that was wrong.
      if (isExpired && !this.#stopped) this.#cancel = clock.setTimeout(() => void this.refresh(), hour);
      return Promise.resolve();
    }
    this.#attempt ??= this.#fetch().finally(() => {
      this.#attempt = this.#abort = undefined;
      this.#options.onAttempt();
    });
    return this.#attempt;
  }

  /** Undefined when nobody is being asked. */
  get attempt(): Promise<void> | undefined {
    return this.#attempt;
  }

  async #fetch(): Promise<void> {
    const { certificate, subject, policy, held, limiter, clock } = this.#options;
    const { signal } = (this.#abort = new AbortController());
    try {
      const answer = await askResponders({
        subject,
        urls: this.responders,
        configured: policy.responder !== undefined,
        policy,
        knownBy: this.record.certIdHash,
        accept: (der, nonce) => held.judge(der, nonce),
        onAsked: (url, outcome, milliseconds) => this.#count(url, outcome, milliseconds),
        limiter,
        urgent: certificate.mustStaple && held.current === undefined,
        clock,
        signal,
      });
      if (!this.#stopped) this.#succeeded(answer);
    } catch (error) {
      if (this.#stopped) return;
      if (!(error instanceof RespondersFailed)) throw error;
      this.#failed(error);
    }
  }

  #count(url: string, outcome: { accepted: Staple; size: number } | string, milliseconds: number): void {
    const { result, bytes } = typeof outcome === 'string' ? { result: outcome, bytes: 0 } : { result: outcome.accepted.certStatus, bytes: outcome.size };
    countQuestion(this.#options.counters, { url, result, bytes, milliseconds });
  }

  #succeeded({ accepted: staple, responder, method, certIdHash, maxAge, duration, warnings }: RespondersAnswer<Staple>): void {
    const { policy, warnOnce } = this.#options;
    for (const warning of warnings) warnOnce(new URL(responder).host, warning);
    this.record.certIdHash = policy.certIdHash === 'auto' ? certIdHash : undefined;
    this.take(staple, responder, maxAge);
    this.#log('info', { responder, method, result: staple.certStatus, duration_ms: duration });
  }

  /** Makes a judged response the one that is held, and plans the next from it. */
  take(staple: Staple, from: string, httpMaxAge?: number): void {
    const { name, held, clock, counters } = this.#options;
    const { certIdHash } = this.record;
    counters.updates += 1;
    this.record = { name, fetchedAt: clock.now(), responder: from, certIdHash, failures: 0 };
    held.take(staple);
    this.#plan(this.#nextRefresh(staple, httpMaxAge) - clock.now());
  }

  /** As {@link take}, for a response that nobody was asked for. */
  takeGiven(staple: Staple, from: string): void {
    this.take(staple, from);
    this.#log('info', { responder: from, method: 'file', result: staple.certStatus });
  }

  #failed(failure: RespondersFailed): void {
    const { held, clock } = this.#options;
    const { code, message, responder, method, duration, retryAfter } = failure;
    const now = clock.now();
    const failures = this.record.failures + 1;
    this.record = { ...this.record, failures, error: { code, message, at: now } };
    const remainingLife = held.current === undefined ? 0 : held.current.validUntil - now;
    const delay = retryDelay(failures, remainingLife, retryAfter, () => clock.random());
    const early = this.#isTooEarly(failure);
    this.#plan(early ? Math.min(delay, 5 * minute) : delay);
    this.#log(early ? 'info' : 'warn', { responder, method, result: 'failed', code, duration_ms: duration, error: message });
  }

  /** A CA has a quarter of an hour until its responder must know a new certificate (CA/B baseline requirements 4.9.9). */
  #isTooEarly({ code, cause }: RespondersFailed): boolean {
    const { clock, certificate } = this.#options;
    if (clock.now() - certificate.notBefore > hour) return false;
    return code === 'status_unknown' || (cause instanceof OcspRefusal && cause.responseStatus === 'unauthorized');
  }

  /** The one line for every update, good or bad. */
  #log(level: 'info' | 'warn', { responder, ...facts }: Record<string, string | number | undefined>): void {
    const { nextTry } = this.record;
    const next = nextTry === undefined ? undefined : new Date(nextTry).toISOString();
    this.#options.log[level]('OCSP update', { certificate: this.#options.name, responder, ...facts, next });
  }

  /** Gives up what is going on, and asks nobody any more. */
  stop(): void {
    this.#stopped = true;
    this.#abort?.abort(new Error('stopped'));
    this.unplan();
  }
}
