import type { OcspPolicy } from '../config/policies.ts';
import type { ServableStaple } from '../snapshot.ts';
import { GivenResponse, type ResponseFile, ResponseFileError } from './given-response.ts';
import { HeldStaple } from './held-staple.ts';
import { KeptStaple } from './kept-staple.ts';
import { OcspRefusal } from './refusal.ts';
import { Refreshing, type RefreshingOptions } from './refreshing.ts';
import type { CacheKey, StapleCache } from './staple-cache.ts';
import type { CertificateInUse, StapledLeaf, StapleState, StapleStatus, StaplingEntry } from './staple-status.ts';
import { sayNoResponder } from './unstapled-certificate.ts';
import type { Staple } from './verify.ts';

export type Surroundings = Pick<RefreshingOptions, 'clock' | 'log' | 'limiter' | 'counters' | 'warnOnce'> & {
  cache: StapleCache;
  /** The staple of this certificate is another one now, or none. */
  onStaple: (fingerprint: string, staple: ServableStaple | undefined) => void;
};

/**
 * The OCSP life of one certificate. Its response comes from disk, from a file or from a responder, whichever is newest, and
 * what is newer is kept on disk. What clients get of it is HeldStaple's matter; when to ask is Refreshing's.
 */
export class StapledCertificate implements StaplingEntry {
  readonly certificate: StapledLeaf;
  readonly policy: OcspPolicy;
  readonly file: ResponseFile | undefined;
  readonly cacheKey: CacheKey;
  readonly #name: string;
  readonly #around: Surroundings;
  readonly #held: HeldStaple;
  readonly #kept: KeptStaple;
  readonly #given: GivenResponse | undefined;
  readonly #refreshing: Refreshing;
  #stopped = false;
  readonly #loaded = Promise.withResolvers<void>();
  readonly #settled = Promise.withResolvers<void>();
  #isSettled = false;

  /** @param previous held by a predecessor with another policy: it is served without a gap, if the new policy allows */
  constructor({ certificate, policy, file }: CertificateInUse, around: Surroundings, previous?: Staple) {
    const { leaf, issuer, fingerprint, issuerFingerprint, names } = certificate;
    if (issuer === undefined || issuerFingerprint === undefined) throw new TypeError('a certificate without issuer cannot be stapled');
    this.certificate = certificate;
    this.policy = policy;
    this.file = file;
    this.cacheKey = { fingerprint, issuerFingerprint };
    this.#name = names[0] ?? fingerprint;
    this.#around = around;
    const { clock, log, limiter, counters, warnOnce, cache, onStaple } = around;
    const [name, subject] = [this.#name, { leaf, issuer }];
    const held = new HeldStaple({ name, subject, policy, clock, log, onStaple: (staple) => onStaple(fingerprint, staple) }, previous);
    const onAttempt = (): void => {
      if (!this.#stopped) this.#save();
      this.#settle();
    };
    this.#held = held;
    this.#kept = new KeptStaple(cache, this.cacheKey);
    this.#given = file && new GivenResponse(file);
    this.#refreshing = new Refreshing({ name, certificate, subject, policy, held, clock, log, limiter, counters, warnOnce, onAttempt });
  }

  get current(): ServableStaple | undefined {
    return this.#held.current;
  }

  get staple(): Staple | undefined {
    return this.#held.staple;
  }

  get loaded(): Promise<void> {
    return this.#loaded.promise;
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

  #save(): void {
    this.#kept.save(this.staple?.der, this.#refreshing.record);
  }

  async start(): Promise<void> {
    try {
      await this.#load();
    } finally {
      this.#loaded.resolve();
    }
  }

  async #load(): Promise<void> {
    const { log } = this.#around;
    const { responders } = this.#refreshing;
    const take = (der: Buffer): void => {
      if (!this.#stopped) this.#held.take(this.#held.judge(der));
    };
    const record = await this.#kept.restore(this.policy.maxResponseSize, take, log);
    this.#refreshing.record.certIdHash = record?.certIdHash;
    if (this.staple !== undefined) this.#settle();
    await this.#readFile();
    if (this.#stopped) return;
    // A newer response from the file has planned what comes next.
    if (this.#refreshing.record.fetchedAt === undefined) this.#refreshing.resume(record);
    const state = this.#state();
    if (state === 'expired') log.info(`no stapling for ${this.#name}: it has expired`, { certificate: this.#name, code: 'expired' });
    if (state === 'no_responder') sayNoResponder(this.#name, this.policy, log);
    if (state === 'expired' || responders.length === 0) this.#settle();
  }

  offer(der: Buffer, from: string): Staple {
    const staple = this.#held.judge(der);
    if (this.#stopped || this.staple?.der.equals(der)) return staple;
    this.#refreshing.takeGiven(staple, from);
    this.#save();
    this.#settle();
    return staple;
  }

  /** After what is kept on disk: of two responses of the same second the one from the file would lose. */
  async reread(): Promise<void> {
    await this.loaded;
    await this.#readFile();
  }

  async #readFile(): Promise<void> {
    try {
      const der = this.#stopped ? undefined : await this.#given?.read(this.policy.maxResponseSize);
      if (der !== undefined) this.offer(der, this.file?.path ?? '');
    } catch (error) {
      if (!(error instanceof OcspRefusal || error instanceof ResponseFileError)) throw error;
      this.#fileRefused(error);
    }
  }

  #fileRefused(error: OcspRefusal | ResponseFileError): void {
    const { log, clock } = this.#around;
    const { responders, record } = this.#refreshing;
    const { code } = error;
    const message = error instanceof OcspRefusal ? `the response in ${this.file?.path} is not used: ${error.message}` : error.message;
    const facts = { certificate: this.#name, code };
    // One that a newer response has overtaken is as it should be.
    if (code === 'superseded') return log.debug(message, facts);
    log.warn(message, facts);
    // Where a responder is asked, its answers say how things stand.
    if (responders.length === 0) record.error = { code, message, at: clock.now() };
  }

  async refresh(): Promise<void> {
    await this.#refreshing.refresh();
  }

  async idle(): Promise<void> {
    const goingOn = () => this.#refreshing.attempt ?? this.#kept.writing;
    for (let work = goingOn(); work !== undefined; work = goingOn()) await work;
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#refreshing.stop();
    this.#held.close();
    this.#loaded.resolve();
    this.#settle();
    await this.idle();
  }

  status(): StapleStatus {
    const { fingerprint, names, mustStaple } = this.certificate;
    const { responders, record } = this.#refreshing;
    return {
      fingerprint,
      names,
      mustStaple,
      state: this.#state(),
      serving: this.current !== undefined,
      thisUpdate: this.staple?.thisUpdate,
      validUntil: this.staple?.validUntil,
      nextRefresh: record.nextTry,
      responder: record.responder ?? responders[0],
      failures: record.failures,
      lastError: record.error,
    };
  }

  #state(): StapleState {
    const { responders, record } = this.#refreshing;
    if (this.certificate.notAfter <= this.#around.clock.now()) return 'expired';
    if (this.staple?.certStatus === 'revoked') return 'revoked';
    if (record.error !== undefined) return 'failing';
    if (this.current !== undefined) return 'good';
    if (responders.length > 0) return 'pending';
    // A response that was given by hand ran out, and nobody gave another.
    return this.staple === undefined ? 'no_responder' : 'failing';
  }
}
