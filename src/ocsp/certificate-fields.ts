import { createHash, createPublicKey, X509Certificate } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import type { EncodedCertificate } from '../certificates/certificate.ts';
import { readDer, Tag } from './der.ts';
import type { DerNode } from './der.ts';
import { algorithmIdentifier, certificateTime, extensions, Fields, octetsOfBits } from './der-fields.ts';
import type { AlgorithmIdentifier, Extension } from './der-fields.ts';
import { OcspRefusal } from './refusal.ts';

/**
 * What OCSP needs of a certificate (RFC 5280 4.1) and node:crypto does not give: the exact bytes of names, key and serial number, and the
 * extensions with their critical bits. Names are compared byte for byte: a CA writes its name in the certificates it issues as it
 * stands in its own (RFC 5280 4.1.2.6).
 */
export class CertificateFields {
  readonly tbsCertificate: Buffer;
  /** Content octets of the INTEGER, sign octet and all. */
  readonly serialNumber: Buffer;
  /** DER of the Name. */
  readonly issuer: Buffer;
  readonly subject: Buffer;
  /** Milliseconds since the epoch. */
  readonly notBefore: number;
  readonly notAfter: number;
  /** The key without tag, length and unused bits: what key hashes cover (RFC 6960 4.1.1, 4.2.1). */
  readonly subjectPublicKey: Buffer;
  readonly extensions: Extension[];
  readonly signatureAlgorithm: AlgorithmIdentifier;
  readonly signature: Buffer;
  readonly #subjectPublicKeyInfo: Buffer;
  #publicKey: KeyObject | undefined;
  #keyHash: Buffer | undefined;

  /** @throws {OcspRefusal} `malformed` */
  constructor(certificate: DerNode) {
    const outer = new Fields(certificate, 'certificate');
    const tbs = outer.take(Tag.sequence, 'tbsCertificate');
    this.signatureAlgorithm = algorithmIdentifier(outer.take(Tag.sequence, 'signatureAlgorithm'), 'signatureAlgorithm');
    this.signature = octetsOfBits(outer.take(Tag.bitString, 'signature'), 'the signature of a certificate');
    outer.end();

    const fields = new Fields(tbs, 'certificate');
    fields.explicit(0); // version
    this.tbsCertificate = tbs.der;
    this.serialNumber = fields.take(Tag.integer, 'serialNumber').content;
    const signature = fields.take(Tag.sequence, 'signature');
    if (!signature.der.equals(this.signatureAlgorithm.der)) throw new OcspRefusal('malformed', 'a certificate names two signature algorithms');
    this.issuer = fields.take(Tag.sequence, 'issuer').der;
    const validity = new Fields(fields.take(Tag.sequence, 'validity'), 'validity');
    this.notBefore = certificateTime(validity.any(), 'notBefore');
    this.notAfter = certificateTime(validity.any(), 'notAfter');
    validity.end();
    this.subject = fields.take(Tag.sequence, 'subject').der;
    const key = fields.take(Tag.sequence, 'subjectPublicKeyInfo');
    this.#subjectPublicKeyInfo = key.der;
    const keyFields = new Fields(key, 'subjectPublicKeyInfo');
    keyFields.take(Tag.sequence, 'algorithm');
    this.subjectPublicKey = octetsOfBits(keyFields.take(Tag.bitString, 'subjectPublicKey'), 'the key of a certificate');
    keyFields.end();
    fields.optional(0x81); // issuerUniqueID
    fields.optional(0x82); // subjectUniqueID
    this.extensions = extensions(fields.explicit(3), 'the extensions of a certificate');
    fields.end();
  }

  /** @throws {OcspRefusal} `unsupported_algorithm` when the runtime cannot use the key. */
  get publicKey(): KeyObject {
    try {
      this.#publicKey ??= createPublicKey({ key: this.#subjectPublicKeyInfo, format: 'der', type: 'spki' });
      return this.#publicKey;
    } catch (cause) {
      throw new OcspRefusal('unsupported_algorithm', 'a certificate holds a key of an unsupported kind', { cause });
    }
  }

  /** KeyHash of RFC 6960 4.2.1: always SHA-1, whatever hash the CertID uses. */
  get keyHash(): Buffer {
    this.#keyHash ??= createHash('sha1').update(this.subjectPublicKey).digest();
    return this.#keyHash;
  }
}

/** Certificates that are met again and again: issuers and their delegates. By DER, the least recently used go. */
const recent = new Map<string, CertificateFields>();
const MOST_RECENT = 256;

/**
 * Reads a certificate that many others share.
 *
 * @throws {OcspRefusal} `malformed`
 */
export function sharedFields(der: Buffer): CertificateFields {
  const key = der.toString('latin1');
  const fields = recent.get(key) ?? new CertificateFields(readDer(der));
  recent.delete(key);
  recent.set(key, fields);
  const [oldest] = recent.keys();
  if (recent.size > MOST_RECENT && oldest !== undefined) recent.delete(oldest);
  return fields;
}

/** The fields of an installed certificate. @throws {OcspRefusal} `bad_certificate` */
export function leafFields(leaf: EncodedCertificate): CertificateFields {
  return installed(leaf, (der) => new CertificateFields(readDer(der)));
}

/** The fields of an installed issuer. @throws {OcspRefusal} `bad_certificate` */
export function issuerFields(issuer: EncodedCertificate): CertificateFields {
  return installed(issuer, sharedFields);
}

/** A certificate that node:crypto reads and that is still not DER is the administrator's to replace, and no fault of the responder's. */
function installed(certificate: EncodedCertificate, read: (der: Buffer) => CertificateFields): CertificateFields {
  try {
    return read(certificate.raw);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    const { serialNumber } = new X509Certificate(certificate.raw);
    throw new OcspRefusal('bad_certificate', `the certificate with serial number ${serialNumber} cannot be used for OCSP: ${reason}`, { cause });
  }
}
