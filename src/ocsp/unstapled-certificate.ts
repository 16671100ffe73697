import type { OcspPolicy } from '../config/schema.ts';
import type { Log } from '../log.ts';
import type { FetchError } from './fetch-record.ts';
import type { StapledLeaf, StapleState, StapleStatus, StaplingEntry } from './staple-status.ts';

type Reason = 'off' | 'no_responder' | 'expired' | 'issuer_missing';

/** Why nothing is to be asked for a certificate; undefined when it can be stapled. Responders are not asked about certificates that have expired. */
export function reasonNotToStaple({ ocspResponders, selfSigned, notAfter, issuer }: StapledLeaf, policy: OcspPolicy, now: number): Reason | undefined {
  if (!policy.stapling) return 'off';
  if (selfSigned || (ocspResponders.length === 0 && policy.responder === undefined)) return 'no_responder';
  if (notAfter <= now) return 'expired';
  return issuer === undefined ? 'issuer_missing' : undefined;
}

/** A certificate without stapling: says why, once, and costs nothing more. */
export class UnstapledCertificate implements StaplingEntry {
  readonly certificate: StapledLeaf;
  readonly policy: OcspPolicy;
  readonly cacheKey = undefined;
  readonly current = undefined;
  readonly staple = undefined;
  readonly settled = Promise.resolve();
  readonly isSettled = true;
  readonly #state: StapleState;
  readonly #error: FetchError | undefined;

  constructor(certificate: StapledLeaf, policy: OcspPolicy, { reason, now, log }: { reason: Reason; now: number; log: Log }) {
    this.certificate = certificate;
    this.policy = policy;
    const name = certificate.names[0] ?? certificate.fingerprint;
    const facts = { certificate: name, code: reason };
    // Without its issuer a certificate should be stapled and is not: that is a failure, not a choice.
    this.#state = reason === 'issuer_missing' ? 'failing' : reason;
    if (reason === 'no_responder') log.info(`no stapling for ${name}: it names no OCSP responder and ocsp.responder is not set`, facts);
    if (reason === 'expired') log.info(`no stapling for ${name}: it has expired`, facts);
    if (reason !== 'issuer_missing') return;
    const message = `no stapling for ${name}: its issuer's certificate is missing; append it to the certificate file or put it beside it as chain.pem`;
    log.warn(message, facts);
    this.#error = { code: reason, message, at: now };
  }

  start(): Promise<void> {
    return Promise.resolve();
  }

  refresh(): Promise<void> {
    return Promise.resolve();
  }

  idle(): Promise<void> {
    return Promise.resolve();
  }

  stop(): Promise<void> {
    return Promise.resolve();
  }

  status(): StapleStatus {
    const { fingerprint, names, mustStaple } = this.certificate;
    return { fingerprint, names, mustStaple, state: this.#state, serving: false, failures: 0, lastError: this.#error };
  }
}
