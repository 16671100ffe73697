import { hash, X509Certificate } from 'node:crypto';
import { createSecureContext } from 'node:tls';
import type { KeyType } from '../snapshot.ts';
import { CertificateError, type CertificateWarning } from './certificate-error.ts';
import { buildChain, type Chain } from './chain.ts';
import { type Extensions, readExtensions } from './extensions.ts';
import { describeBlocks, encodePem, pemBlocks } from './pem.ts';
import { type PrivateKey, readPrivateKey } from './private-key.ts';

/** Where a certificate and its key come from: absolute paths. */
export interface CertificateSource {
  certificate: string;
  key: string;
  /** The file beside the certificate in which its issuer was found. */
  issuer?: string;
  /** The file named for OCSP responses given by hand; only passed on. */
  ocspResponse?: string | undefined;
}

/** A certificate as its DER. Ten thousand of node:crypto's own objects would hold several times their size outside the heap. */
export type EncodedCertificate = Pick<X509Certificate, 'raw'>;

/** An end-entity certificate ready to serve: with its chain, its key and what its extensions say (RFC 5280, RFC 7633). */
export interface Certificate {
  leaf: EncodedCertificate;
  /** Who signed the leaf, needed for OCSP; undefined when the leaf is self-signed or the issuer was not found. */
  issuer: EncodedCertificate | undefined;
  /** PEM of what is sent after the leaf, in order, without a self-signed root. One list for all certificates of an authority. */
  intermediates: readonly string[];
  keyPem: string;
  keyType: KeyType;
  /** subjectAltName dNSName, lower-case. */
  names: string[];
  /** subjectAltName iPAddress. */
  addresses: string[];
  /** http and https URLs of authorityInfoAccess id-ad-ocsp, in order. */
  ocspResponders: string[];
  /** TLS feature status_request (RFC 7633). */
  mustStaple: boolean;
  selfSigned: boolean;
  /** SHA-256 of the leaf's DER, lower-case hex. */
  fingerprint: string;
  issuerFingerprint?: string | undefined;
  /** Milliseconds since the epoch. */
  notBefore: number;
  notAfter: number;
  source: CertificateSource;
  warnings: CertificateWarning[];
}

export interface CertificateTexts {
  certificatePem: string;
  keyPem: string;
  /** Further certificates in which issuers are looked for, such as the text of `source.issuer`; what is not needed there is ignored. */
  extraPem?: string;
  source: CertificateSource;
}

/**
 * Builds a Certificate from PEM texts. The leaf is the certificate that belongs to the private key, wherever it stands;
 * the chain is ordered by signature. Throws CertificateError with a code of certificateCodes. Whether the certificate is
 * valid at some time is validityWarning's matter.
 */
export function readCertificate({ certificatePem, keyPem, extraPem, source }: CertificateTexts): Certificate {
  const privateKey = readPrivateKey(keyPem, source.key);
  const certificates = readCertificates(certificatePem, source.certificate);
  const leaf = certificates.find((certificate) => certificate.checkPrivateKey(privateKey.key));
  if (leaf === undefined) throw mismatch(certificates, source);
  const extras = extraPem === undefined ? [] : readCertificates(extraPem, source.issuer ?? source.certificate);
  const chain = buildChain(leaf, [...certificates, ...extras]);
  const extensions = readLeafExtensions(leaf, source.certificate);
  const { intermediates, issuerFingerprint } = issuing(chain);
  checkWithTlsLibrary(leaf, intermediates, privateKey, source);

  // A certificate that is there twice, as in cert.pem appended to fullchain.pem, is no mistake worth a warning.
  const known = new Set([leaf, ...chain.used].map((certificate) => certificate.fingerprint256));
  const unrelated = certificates.filter((certificate) => !known.has(certificate.fingerprint256));
  const warnings: CertificateWarning[] = [];
  const warn = (code: CertificateWarning['code'], text: string) => warnings.push({ code, message: `${source.certificate}: ${text}` });
  if (certificates[0] !== leaf) warn('leaf_not_first', `the certificate for ${source.key} is not the first one; it is sent first nevertheless`);
  for (const { subject } of unrelated) warn('unrelated_certificate', `${oneLine(subject)} is not part of the chain and is not sent`);
  for (const name of extensions.ignoredNames) warn('name_ignored', `the subjectAltName ${name} is not a host name and is ignored`);
  return {
    leaf: { raw: leaf.raw },
    issuer: chain.issuer,
    intermediates,
    keyPem: privateKey.pem,
    keyType: privateKey.type,
    names: extensions.names,
    addresses: extensions.addresses,
    ocspResponders: extensions.ocspResponders,
    mustStaple: extensions.mustStaple,
    selfSigned: chain.selfSigned,
    fingerprint: sha256(leaf),
    issuerFingerprint,
    notBefore: leaf.validFromDate.getTime(),
    notAfter: leaf.validToDate.getTime(),
    source,
    warnings,
  };
}

/** What a TLS server sends: the leaf first, then its intermediates. */
export function chainPem({ leaf, intermediates }: Pick<Certificate, 'leaf' | 'intermediates'>): string {
  return encodePem('CERTIFICATE', leaf.raw) + intermediates.join('');
}

/** Whether clients would get the same from both. */
export function areServedAlike(a: Certificate, b: Certificate): boolean {
  return a.fingerprint === b.fingerprint && a.keyPem === b.keyPem && a.intermediates.join('') === b.intermediates.join('');
}

/** Says that a certificate is outside its validity at `now` (ms since the epoch). nginx and Apache serve such ones too. */
export function validityWarning({ notBefore, notAfter, source }: Certificate, now: number): CertificateWarning | undefined {
  if (now > notAfter) return { code: 'certificate_expired', message: `${source.certificate} expired at ${new Date(notAfter).toISOString()}` };
  if (now >= notBefore) return undefined;
  return { code: 'certificate_not_yet_valid', message: `${source.certificate} is not valid before ${new Date(notBefore).toISOString()}` };
}

/** Every certificate of a PEM text. Throws CertificateError. */
export function readCertificates(pem: string, file: string): X509Certificate[] {
  const blocks = pemBlocks(pem, file);
  const found = blocks.filter(({ label }) => label === 'CERTIFICATE');
  if (found.length === 0) throw new CertificateError('certificate_not_found', file, `${file} holds no certificate: ${describeBlocks(blocks)}`);
  return found.map(({ text }, i) => {
    try {
      // The first is most often the leaf.
      return i === 0 ? new X509Certificate(text) : parsed(text);
    } catch {
      throw new CertificateError('certificate_malformed', file, `${file}: certificate ${i + 1} of ${found.length} cannot be parsed: the file is damaged`);
    }
  });
}

/**
 * Issuers by their PEM block, the least recently read first: the files of one authority all hold the same. Leaves have no place
 * here: what node:crypto keeps outside the heap for one is given back soon only when the object dies young.
 */
const recent = new Map<string, X509Certificate>();
const mostRecent = 64;

/** @throws the error of node:crypto when it is none */
function parsed(text: string): X509Certificate {
  const certificate = recent.get(text) ?? new X509Certificate(text);
  recent.delete(text);
  recent.set(text, certificate);
  const [oldest] = recent.keys();
  if (recent.size > mostRecent && oldest !== undefined) recent.delete(oldest);
  return certificate;
}

type Issuing = Pick<Certificate, 'intermediates' | 'issuerFingerprint'>;

/** Of chains by their certificates, the least recently seen first. */
const seen = new Map<string, Issuing>();

/** What certificates with the same chain have in common, as one object for all. */
function issuing({ issuer, intermediates }: Chain): Issuing {
  const key = [issuer, ...intermediates].map((certificate) => certificate?.fingerprint256).join(' ');
  const found = seen.get(key) ?? { intermediates: intermediates.map(String), issuerFingerprint: issuer && sha256(issuer) };
  seen.delete(key);
  seen.set(key, found);
  const [oldest] = seen.keys();
  if (seen.size > mostRecent && oldest !== undefined) seen.delete(oldest);
  return found;
}

/** RFC 9110, section 4.3.4 and RFC 9525: host names are looked up in subjectAltName only. */
function readLeafExtensions(leaf: X509Certificate, file: string): Extensions {
  let extensions: Extensions;
  try {
    extensions = readExtensions(leaf.raw);
  } catch (error) {
    throw new CertificateError('certificate_malformed', file, `${file}: ${(error as Error).message}`);
  }
  if (extensions.names.length === 0 && extensions.addresses.length === 0) {
    throw new CertificateError(
      'certificate_without_names',
      file,
      `${file} (${oneLine(leaf.subject)}) has no host name in subjectAltName; clients ignore the common name (RFC 9525): request a certificate with subjectAltName`,
    );
  }
  return extensions;
}

/** Kinds of certificate that the TLS library has taken; as many as there are authorities, algorithms and key sizes. */
const accepted = new Set<string>();

/**
 * What OpenSSL refuses here it would refuse in every worker, where one bad certificate must not hurt another. It judges
 * algorithms and key sizes, of the leaf and of its chain (that the key fits is known by now): one try stands for all
 * certificates that are alike in these. A try takes 0.5 ms, a third of what it takes to read a pair.
 */
function checkWithTlsLibrary(leaf: X509Certificate, intermediates: readonly string[], key: PrivateKey, source: CertificateSource): void {
  const { signatureAlgorithm } = leaf;
  const kind = JSON.stringify([signatureAlgorithm, key.key.asymmetricKeyType, key.key.asymmetricKeyDetails, intermediates], (_, value: unknown) =>
    typeof value === 'bigint' ? String(value) : value,
  );
  if (accepted.has(kind)) return;
  try {
    createSecureContext({ cert: [String(leaf), ...intermediates].join(''), key: key.pem });
  } catch (error) {
    const { reason = 'unknown reason' } = error as { reason?: string };
    throw new CertificateError('certificate_refused', source.certificate, `${source.certificate} is refused by the TLS library: ${reason}`);
  }
  // The name of RSASSA-PSS says nothing about its hash.
  if (signatureAlgorithm !== undefined && signatureAlgorithm !== 'rsassaPss') accepted.add(kind);
}

function mismatch([first]: X509Certificate[], source: CertificateSource): CertificateError {
  const subject = first === undefined ? '' : ` (${oneLine(first.subject)})`;
  return new CertificateError('key_mismatch', source.key, `the private key ${source.key} does not belong to the certificate ${source.certificate}${subject}`);
}

function sha256(certificate: X509Certificate): string {
  return hash('sha256', certificate.raw);
}

/** Node separates the parts of a name by line feeds. For messages only. */
function oneLine(name: string | undefined): string {
  return (name ?? '').replaceAll('\n', ', ') || 'without a subject';
}
