import type { OcspPolicy } from '../config/policies.ts';
import type { Log } from '../log.ts';
import type { FetchError } from './fetch-record.ts';
import type { ResponseFile } from './given-response.ts';
import { type CertificateInUse, respondersFor, type StapledLeaf, type StapleState, type StapleStatus, type StaplingEntry } from './staple-status.ts';

type Reason = 'off' | 'no_responder' | 'issuer_missing';

/** Why nothing can be stapled for a certificate, ever; undefined when something can. */
export function reasonNotToStaple(certificate: StapledLeaf, policy: OcspPolicy, file?: ResponseFile): Reason | undefined {
  const nobody = respondersFor(certificate, policy).length === 0;
  if (!policy.stapling) return 'off';
  if (certificate.selfSigned || (nobody && file === undefined)) return 'no_responder';
  if (certificate.issuer !== undefined) return undefined;
  return nobody ? 'no_responder' : 'issuer_missing';
}

/** The one line about a certificate that there is nobody to ask about. */
export function sayNoResponder(name: string, { responder }: OcspPolicy, log: Log): void {
  const why = responder === 'none' ? 'ocsp.responder is none and no response was given' : 'it names no OCSP responder and ocsp.responder is not set';
  log.info(`no stapling for ${name}: ${why}`, { certificate: name, code: 'no_responder' });
}

/** A certificate without stapling: says why, once, and costs nothing more. */
export class UnstapledCertificate implements StaplingEntry {
  readonly certificate: StapledLeaf;
  readonly policy: OcspPolicy;
  readonly file: ResponseFile | undefined;
  readonly cacheKey = undefined;
  readonly current = undefined;
  readonly staple = undefined;
  readonly loaded = Promise.resolve();
  readonly settled = Promise.resolve();
  readonly isSettled = true;
  readonly #state: StapleState;
  readonly #error: FetchError | undefined;

  constructor({ certificate, policy, file }: CertificateInUse, { reason, now, log }: { reason: Reason; now: number; log: Log }) {
    this.certificate = certificate;
    this.policy = policy;
    this.file = file;
    const name = certificate.names[0] ?? certificate.fingerprint;
    const facts = { certificate: name, code: reason };
    // Without its issuer a certificate should be stapled and is not: that is a failure, not a choice.
    this.#state = reason === 'issuer_missing' ? 'failing' : reason;
    if (reason === 'no_responder') sayNoResponder(name, policy, log);
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

  offer(): undefined {
    return undefined;
  }

  reread(): Promise<void> {
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
