import { createHash } from 'node:crypto';
import * as asn1js from 'asn1js';
import { Tag } from './der.ts';
import type { DerNode } from './der.ts';
import { algorithmIdentifier, Fields } from './der-fields.ts';
import type { EncodedCertificate } from '../certificates/certificate.ts';
import { type CertificateFields, issuerFields, leafFields } from './certificate-fields.ts';

export type CertIdHash = 'sha1' | 'sha256';

/** How OCSP names a certificate (RFC 6960 4.1.1). One that was read may use any hash; unknown ones are dotted OIDs. */
export interface CertId<Hash extends string = CertIdHash> {
  hashAlgorithm: Hash;
  issuerNameHash: Buffer;
  issuerKeyHash: Buffer;
  /** Content octets of the INTEGER, as in the certificate: negative and over-long serial numbers exist and are compared as they are. */
  serialNumber: Buffer;
}

/** The certificate asked about, and the certificate whose key signed it. */
export interface OcspSubject {
  leaf: EncodedCertificate;
  issuer: EncodedCertificate;
}

const hashOids: Record<CertIdHash, string> = { sha1: '1.3.14.3.2.26', sha256: '2.16.840.1.101.3.4.2.1' };
const hashNames = new Map<string, string>(Object.entries(hashOids).map(([name, oid]) => [oid, name]));

type IssuerHashes = Pick<CertId, 'issuerNameHash' | 'issuerKeyHash'>;

/** The issuer's half of a CertID is the same for all its certificates. */
const issuerHashes: Record<CertIdHash, WeakMap<CertificateFields, IssuerHashes>> = { sha1: new WeakMap(), sha256: new WeakMap() };

function hashesOf(issuer: CertificateFields, hash: CertIdHash): IssuerHashes {
  const digest = (bytes: Buffer): Buffer => createHash(hash).update(bytes).digest();
  const hashes = issuerHashes[hash].get(issuer) ?? { issuerNameHash: digest(issuer.subject), issuerKeyHash: digest(issuer.subjectPublicKey) };
  issuerHashes[hash].set(issuer, hashes);
  return hashes;
}

/**
 * The CertID of a certificate. SHA-1 is what every responder knows; it only names the certificate, nothing is secured by it.
 *
 * @throws {OcspRefusal} `bad_certificate`
 */
export function certIdFor({ leaf, issuer }: OcspSubject, hash: CertIdHash = 'sha1'): CertId {
  return certIdOf(leafFields(leaf), issuerFields(issuer), hash);
}

export function certIdOf({ serialNumber }: Pick<CertificateFields, 'serialNumber'>, issuer: CertificateFields, hash: CertIdHash): CertId {
  return { hashAlgorithm: hash, ...hashesOf(issuer, hash), serialNumber };
}

/** All four fields: a serial number alone names a certificate of every CA. */
export function sameCertId(a: CertId<string>, b: CertId<string>): boolean {
  return (
    a.hashAlgorithm === b.hashAlgorithm &&
    a.serialNumber.equals(b.serialNumber) &&
    a.issuerKeyHash.equals(b.issuerKeyHash) &&
    a.issuerNameHash.equals(b.issuerNameHash)
  );
}

/** @throws {OcspRefusal} `malformed` */
export function parseCertId(node: DerNode): CertId<string> {
  const fields = new Fields(node, 'CertID');
  const { algorithm } = algorithmIdentifier(fields.take(Tag.sequence, 'hashAlgorithm'), 'hashAlgorithm');
  const certId = {
    hashAlgorithm: hashNames.get(algorithm) ?? algorithm,
    issuerNameHash: fields.take(Tag.octetString, 'issuerNameHash').content,
    issuerKeyHash: fields.take(Tag.octetString, 'issuerKeyHash').content,
    serialNumber: fields.take(Tag.integer, 'serialNumber').content,
  };
  fields.end();
  return certId;
}

/** For encoding: with NULL parameters, as the other responders and clients write them. */
export function certIdToAsn1(id: CertId): asn1js.Sequence {
  const algorithm = new asn1js.Sequence({ value: [new asn1js.ObjectIdentifier({ value: hashOids[id.hashAlgorithm] }), new asn1js.Null()] });
  return new asn1js.Sequence({
    value: [
      algorithm,
      new asn1js.OctetString({ valueHex: id.issuerNameHash }),
      new asn1js.OctetString({ valueHex: id.issuerKeyHash }),
      new asn1js.Integer({ valueHex: id.serialNumber }),
    ],
  });
}
