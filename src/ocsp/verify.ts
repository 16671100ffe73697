import { type CertificateFields, issuerFields, leafFields } from './certificate-fields.ts';
import { type CertId, type CertIdHash, certIdOf, type OcspSubject, sameCertId } from './cert-id.ts';
import { nameText } from './distinguished-name.ts';
import { OcspRefusal } from './refusal.ts';
import { NONCE_OID, nonceOf } from './request.ts';
import { type BasicOcspResponse, parseResponse, type Revocation, type SingleResponse } from './response.ts';
import { findSigner } from './signer.ts';

/** A response that passed every check, with what must be known to serve and renew it. Times are milliseconds since the epoch. */
export interface Staple {
  der: Buffer;
  certStatus: 'good' | 'revoked';
  producedAt: number;
  thisUpdate: number;
  nextUpdate: number | undefined;
  /** The earliest of nextUpdate (or what the policy allows without one), `maxAge`, and the ends of the signer's and the certificate's own lives. */
  validUntil: number;
  revocation?: Revocation;
  signer: { name: string; delegated: boolean };
  hashAlgorithm: CertIdHash;
  /** Stable words: `weak_signature` (SHA-1). */
  warnings: string[];
}

/** Whom a response is to be about: this certificate, or, where none is named, any one certificate of the issuer. */
export type ResponseSubject = Omit<OcspSubject, 'leaf'> & { leaf?: OcspSubject['leaf'] | undefined };

/** Durations in milliseconds, `now` in milliseconds since the epoch, sizes in bytes. */
export interface AcceptancePolicy {
  now: number;
  /** Tolerance for times in the future. */
  clockSkew: number;
  /** Largest age since thisUpdate; -1 for no limit. */
  maxAge: number;
  /** How long after thisUpdate a response without nextUpdate is usable; 0 refuses it. */
  noNextUpdate: number;
  maxResponseSize: number;
  /** Default true. */
  allowSha1Signatures?: boolean;
  /** What was sent: an echoed nonce must be this one. A responder may leave it out (RFC 9654 2.1). */
  nonce?: Uint8Array;
}

/** From best to worst. */
const severity = ['good', 'unknown', 'revoked'] as const;

/**
 * The one way in: whether a response, from a responder, from disk or from a file given by hand, may be stapled for this certificate at `now`.
 * Without a certificate, everything is checked except its own end.
 *
 * @throws {OcspRefusal} with the code of the first check that fails, and nothing else, whatever the input.
 */
export function acceptResponse(der: Uint8Array, subject: ResponseSubject, policy: AcceptancePolicy): Staple {
  if (der.length > policy.maxResponseSize) {
    throw new OcspRefusal('too_large', `the response is ${der.length} bytes long (ocsp.max_response_size is ${policy.maxResponseSize})`);
  }
  // A copy of its own: what is served later is what was verified, whatever becomes of the caller's buffer.
  const bytes = Buffer.alloc(der.length);
  bytes.set(der);

  const { responseStatus, basicResponse } = parseResponse(bytes);
  if (basicResponse === undefined) throw new OcspRefusal('response_status', `the responder answered ${responseStatus}`, { responseStatus });
  const leaf = subject.leaf && leafFields(subject.leaf);
  const issuer = issuerFields(subject.issuer);
  const entries = entriesFor(basicResponse, leaf, issuer);
  const signer = findSigner(basicResponse, issuer, policy);
  checkExtensions(basicResponse, entries, policy.nonce);
  checkPast('producedAt', basicResponse.producedAt, policy);
  for (const entry of entries) checkTimes(entry, policy);
  const validUntil = Math.min(...entries.map((entry) => endOf(entry, policy)), signer.certificate.notAfter, leaf?.notAfter ?? Infinity);
  if (policy.now > validUntil) throw new OcspRefusal('expired', `the certificate or the signer of its response ran out at ${timeText(validUntil)}`);

  const { certId, certStatus, revocation, thisUpdate, nextUpdate } = worstOf(entries);
  if (certStatus === 'unknown') throw new OcspRefusal('status_unknown', 'the responder does not know the certificate');
  const staple: Staple = {
    der: bytes,
    certStatus,
    producedAt: basicResponse.producedAt,
    thisUpdate,
    nextUpdate,
    validUntil,
    ...(revocation && { revocation }),
    signer: { name: nameText(signer.certificate.subject), delegated: signer.delegated },
    hashAlgorithm: certId.hashAlgorithm,
    warnings: signer.weak ? ['weak_signature'] : [],
  };
  if (certStatus === 'good') return staple;
  throw new OcspRefusal('status_revoked', `the certificate is revoked ${revocationText(revocation)}`, { revoked: staple });
}

type Entry = SingleResponse & { certId: CertId };

/**
 * The entries about this certificate, among all: a response may speak of many certificates, and of one twice, once for each hash of its
 * CertID (RFC 9919). Taking the first entry is how a good answer about another certificate hid a revoked one (CVE-2026-3832).
 */
function entriesFor({ responses }: BasicOcspResponse, leaf: CertificateFields | undefined, issuer: CertificateFields): Entry[] {
  const isAbout = (response: SingleResponse): response is Entry => {
    const subject = leaf ?? response.certId;
    return sameCertId(certIdOf(subject, issuer, 'sha1'), response.certId) || sameCertId(certIdOf(subject, issuer, 'sha256'), response.certId);
  };
  const entries = responses.filter(isAbout);
  const [first] = entries;
  if (first === undefined) {
    const whom = leaf === undefined ? 'of none that this issuer made' : 'not of this one';
    throw new OcspRefusal('no_matching_entry', `the response speaks of ${responses.length} other certificates and ${whom}`);
  }
  if (entries.some(({ certId }) => !certId.serialNumber.equals(first.certId.serialNumber))) {
    throw new OcspRefusal('several_certificates', 'the response speaks of several certificates of this issuer: which one is meant?');
  }
  return entries;
}

/** RFC 6960 4.4: what is critical and not understood makes the answer unusable. */
function checkExtensions({ responseExtensions }: BasicOcspResponse, entries: Entry[], sentNonce: Uint8Array | undefined): void {
  const unknown = [...responseExtensions.filter(({ extnId }) => extnId !== NONCE_OID), ...entries.flatMap(({ singleExtensions }) => singleExtensions)].find(
    ({ critical }) => critical,
  );
  if (unknown !== undefined) throw new OcspRefusal('critical_extension', `the response has the unknown critical extension ${unknown.extnId}`);
  const nonce = nonceOf(responseExtensions);
  if (sentNonce !== undefined && nonce !== undefined && !nonce.equals(sentNonce)) {
    throw new OcspRefusal('nonce_mismatch', 'the response carries the nonce of another request');
  }
}

function checkPast(name: string, time: number, { now, clockSkew }: AcceptancePolicy): void {
  if (time > now + clockSkew) throw new OcspRefusal('not_yet_valid', `${name} ${timeText(time)} lies in the future (ocsp.clock_skew, or the clock)`);
}

function checkTimes({ thisUpdate, nextUpdate }: Entry, policy: AcceptancePolicy): void {
  const { now, maxAge, noNextUpdate } = policy;
  checkPast('thisUpdate', thisUpdate, policy);
  if (nextUpdate !== undefined && nextUpdate < thisUpdate) throw new OcspRefusal('malformed', 'nextUpdate of the response lies before its thisUpdate');
  if (nextUpdate === undefined && noNextUpdate === 0) throw new OcspRefusal('no_next_update', 'the response has no nextUpdate (ocsp.no_next_update is 0)');
  if (nextUpdate === undefined && now > thisUpdate + noNextUpdate) {
    throw new OcspRefusal('expired', `the response of ${timeText(thisUpdate)} has no nextUpdate and is older than ocsp.no_next_update`);
  }
  if (nextUpdate !== undefined && now > nextUpdate) throw new OcspRefusal('expired', `the response ran out at ${timeText(nextUpdate)}`);
  if (maxAge >= 0 && now - thisUpdate > maxAge) throw new OcspRefusal('too_old', `the response of ${timeText(thisUpdate)} is older than ocsp.max_age`);
}

function endOf({ thisUpdate, nextUpdate }: Entry, { maxAge, noNextUpdate }: AcceptancePolicy): number {
  return Math.min(nextUpdate ?? thisUpdate + noNextUpdate, maxAge >= 0 ? thisUpdate + maxAge : Infinity);
}

/** Of two entries that disagree the worse one counts: a client may pick either. */
function worstOf(entries: Entry[]): Entry {
  return entries.reduce((worst, entry) => (severity.indexOf(entry.certStatus) > severity.indexOf(worst.certStatus) ? entry : worst));
}

function revocationText(revocation: Revocation | undefined): string {
  return revocation === undefined ? '' : `since ${timeText(revocation.time)}, reason ${revocation.reason ?? 'not given'}`;
}

export function timeText(time: number): string {
  return new Date(time).toISOString();
}
