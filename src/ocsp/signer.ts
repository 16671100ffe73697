import { type CertificateFields, sharedFields } from './certificate-fields.ts';
import { malformed, readDer, Tag } from './der.ts';
import { oid } from './der-fields.ts';
import { nameText } from './distinguished-name.ts';
import { OcspRefusal } from './refusal.ts';
import type { BasicOcspResponse, ResponderId } from './response.ts';
import { verifySignature } from './signature.ts';

export interface Signer {
  certificate: CertificateFields;
  /** Not the issuer itself but a certificate made by it for this purpose. */
  delegated: boolean;
  /** The signature of the response, or of the delegate's certificate, uses SHA-1. */
  weak: boolean;
}

interface SignerPolicy {
  now: number;
  allowSha1Signatures?: boolean;
}

const KEY_USAGE = '2.5.29.15';
const BASIC_CONSTRAINTS = '2.5.29.19';
const EXTENDED_KEY_USAGE = '2.5.29.37';
/** id-pkix-ocsp-nocheck: "do not ask about me", which nobody does here. */
const NO_CHECK = '1.3.6.1.5.5.7.48.1.5';
const processed = new Set([KEY_USAGE, BASIC_CONSTRAINTS, EXTENDED_KEY_USAGE, NO_CHECK]);

/** id-kp-OCSPSigning; anyExtendedKeyUsage and longer OIDs that begin like it do not count (RFC 6960 4.2.2.2). */
const OCSP_SIGNING = '1.3.6.1.5.5.7.3.9';
const DIGITAL_SIGNATURE = 0x80;

/**
 * Who signed the response: the issuer, or a certificate that the issuer itself issued for signing OCSP responses (RFC 6960 4.2.2.2).
 * The key that verifies belongs to the very certificate that responderID names; being in `certs`, having a known name or chaining
 * to a trusted root gives no authority.
 *
 * @throws {OcspRefusal} `signer_not_authorized`, `bad_signature`, `unsupported_algorithm`, `weak_signature`, `critical_extension`, `not_yet_valid`, `expired`, `malformed`
 */
export function findSigner(response: BasicOcspResponse, issuer: CertificateFields, policy: SignerPolicy): Signer {
  let refusal: OcspRefusal | undefined;
  for (const certificate of candidates(response, issuer)) {
    try {
      const weakDelegation = certificate !== issuer && checkDelegate(certificate, issuer, policy.now);
      const { tbsResponseData: data, signatureAlgorithm, signature } = response;
      const weak = verifySignature({ data, signatureAlgorithm, signature }, certificate.publicKey, 'the signature of the response') || weakDelegation;
      if (weak && policy.allowSha1Signatures === false) throw new OcspRefusal('weak_signature', 'the response or its signer is signed with SHA-1');
      return { certificate, delegated: certificate !== issuer, weak };
    } catch (error) {
      if (!(error instanceof OcspRefusal)) throw error;
      refusal ??= error;
    }
  }
  throw refusal ?? notAuthorized(`the response is signed by ${responderText(response.responderId)}: neither the issuer nor a certificate in the response`);
}

/** The issuer first, so that a certificate of the same name cannot stand before it. */
function candidates({ responderId, certs }: BasicOcspResponse, issuer: CertificateFields): CertificateFields[] {
  // All are read, needed or not: nobody signs this part, and clients refuse a staple that has garbage in it.
  return [issuer, ...certs.map(({ der }) => sharedFields(der))].filter((certificate) => isNamedBy(responderId, certificate));
}

function isNamedBy(id: ResponderId, certificate: CertificateFields): boolean {
  return 'byName' in id ? id.byName.equals(certificate.subject) : id.byKey.equals(certificate.keyHash);
}

/** @returns whether the delegate's certificate is signed with SHA-1 */
function checkDelegate(delegate: CertificateFields, issuer: CertificateFields, now: number): boolean {
  const name = nameText(delegate.subject);
  const weak = checkIssuedBy(delegate, issuer, name);
  if (!extendedKeyUsage(delegate).includes(OCSP_SIGNING)) throw notAuthorized(`${name} signed the response but is not made for OCSP (no id-kp-OCSPSigning)`);
  const keyUsage = extensionOf(delegate, KEY_USAGE);
  if (keyUsage !== undefined && !allowsSigning(keyUsage)) throw notAuthorized(`${name} signed the response but its keyUsage lacks digitalSignature`);
  // Not as `signer_not_authorized`: with a wrong clock this becomes true of a good response, which must not be taken for a foreign one.
  if (now < delegate.notBefore) throw new OcspRefusal('not_yet_valid', `${name}, which signed the response, is not yet valid (the clock?)`);
  if (now > delegate.notAfter) throw new OcspRefusal('expired', `${name}, which signed the response, has run out`);
  const unknown = delegate.extensions.find(({ extnId, critical }) => critical && !processed.has(extnId));
  if (unknown !== undefined)
    throw new OcspRefusal('critical_extension', `${name}, which signed the response, has the unknown critical extension ${unknown.extnId}`);
  return weak;
}

/** Delegates whose signature was verified before: one delegate signs for thousands of certificates. */
const verifiedUnder = new WeakMap<CertificateFields, { issuer: CertificateFields; weak: boolean }>();

function checkIssuedBy(delegate: CertificateFields, issuer: CertificateFields, name: string): boolean {
  const before = verifiedUnder.get(delegate);
  if (before?.issuer === issuer) return before.weak;
  const { tbsCertificate: data, signatureAlgorithm, signature } = delegate;
  const message = `${name} signed the response but was not issued by ${nameText(issuer.subject)} itself`;
  if (!delegate.issuer.equals(issuer.subject)) throw notAuthorized(message);
  try {
    const weak = verifySignature({ data, signatureAlgorithm, signature }, issuer.publicKey, `the signature of ${name}`);
    verifiedUnder.set(delegate, { issuer, weak });
    return weak;
  } catch (cause) {
    if (cause instanceof OcspRefusal && cause.code !== 'bad_signature') throw cause;
    throw notAuthorized(message, cause);
  }
}

function extendedKeyUsage(certificate: CertificateFields): string[] {
  const value = extensionOf(certificate, EXTENDED_KEY_USAGE);
  if (value === undefined) return [];
  const list = readDer(value);
  if (list.tag !== Tag.sequence) throw malformed('extKeyUsage is not a SEQUENCE');
  return list.children.map(oid);
}

function allowsSigning(keyUsage: Buffer): boolean {
  const bits = readDer(keyUsage);
  if (bits.tag !== Tag.bitString) throw malformed('keyUsage is not a BIT STRING');
  return ((bits.content[1] ?? 0) & DIGITAL_SIGNATURE) !== 0;
}

function extensionOf(certificate: CertificateFields, extnId: string): Buffer | undefined {
  return certificate.extensions.find((extension) => extension.extnId === extnId)?.extnValue;
}

function notAuthorized(message: string, cause?: unknown): OcspRefusal {
  return new OcspRefusal('signer_not_authorized', message, { cause });
}

function responderText(id: ResponderId): string {
  return 'byName' in id ? nameText(id.byName) : `the key ${id.byKey.toString('hex')}`;
}
