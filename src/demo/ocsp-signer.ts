import { constants, sign } from 'node:crypto';
import type { KeyObject, X509Certificate } from 'node:crypto';
import * as asn1js from 'asn1js';
import { issuerFields } from '../ocsp/certificate-fields.ts';
import { type CertId, certIdFor, certIdToAsn1, type OcspSubject } from '../ocsp/cert-id.ts';
import { explicit, nonceExtension } from '../ocsp/request.ts';
import { BASIC_RESPONSE_OID, type ResponseStatus, revocationReasons, responseStatuses } from '../ocsp/response.ts';

/** Makes OCSP responses: the other side of src/ocsp, for the demo's responder and for tests. */

export interface ExtensionToSign {
  oid: string;
  critical?: boolean;
  value: Uint8Array;
}

export interface EntryToSign {
  /** Whose status: a CertID, or the certificate itself (then with the SHA-1 CertID). */
  certId: CertId | OcspSubject;
  /** Default good. */
  certStatus?: 'good' | 'unknown' | { revokedAt: Date; reason?: (typeof revocationReasons)[number] };
  thisUpdate?: Date;
  /** Default seven days after thisUpdate; null leaves it out. */
  nextUpdate?: Date | null;
  extensions?: ExtensionToSign[];
}

export interface ResponseToSign {
  /** Whose key signs: the issuer itself or its delegate. */
  signer: { certificate: X509Certificate; key: KeyObject };
  entries: EntryToSign[];
  /** Default byKey. */
  responderId?: 'byName' | 'byKey';
  /** Default now. */
  producedAt?: Date;
  /** Sent along; needed for a delegate. */
  certs?: X509Certificate[];
  nonce?: Uint8Array | undefined;
  extensions?: ExtensionToSign[];
  /** Default sha256; EdDSA keys ignore it. */
  digest?: 'sha1' | 'sha256' | 'sha384' | 'sha512' | 'md5';
  /** RSASSA-PSS with this salt length, for RSA keys. */
  pssSaltLength?: number;
}

const DAY = 86_400_000;

/** A signed, successful OCSPResponse, DER. */
export function signResponse(response: ResponseToSign): Buffer {
  const { signer, entries, certs = [], nonce, digest = 'sha256', pssSaltLength } = response;
  const extensions = [...(nonce === undefined ? [] : [nonceExtension(nonce)]), ...(response.extensions ?? []).map(extension)];
  const tbsResponseData = sequence(
    responderId(signer.certificate, response.responderId ?? 'byKey'),
    time(response.producedAt ?? new Date()),
    sequence(...entries.map(singleResponse)),
    ...(extensions.length === 0 ? [] : [explicit(1, sequence(...extensions))]),
  );
  const data = Buffer.from(tbsResponseData.toBER());
  const pss = pssSaltLength === undefined ? {} : { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: pssSaltLength };
  const edwards = signer.key.asymmetricKeyType === 'ed25519' || signer.key.asymmetricKeyType === 'ed448';
  const signature = sign(edwards ? null : digest, data, { key: signer.key, ...pss });
  const basicResponse = sequence(
    tbsResponseData,
    signatureAlgorithm(signer.key, digest, pssSaltLength),
    new asn1js.BitString({ valueHex: signature }),
    ...(certs.length === 0 ? [] : [explicit(0, sequence(...certs.map((certificate) => encoded(certificate.raw))))]),
  );
  const responseBytes = sequence(objectId(BASIC_RESPONSE_OID), new asn1js.OctetString({ valueHex: basicResponse.toBER() }));
  return Buffer.from(sequence(new asn1js.Enumerated({ value: 0 }), explicit(0, responseBytes)).toBER());
}

/** An OCSPResponse that only says why there is no answer, DER. */
export function errorResponse(status: Exclude<ResponseStatus, 'successful'>): Buffer {
  return Buffer.from(sequence(new asn1js.Enumerated({ value: responseStatuses[status] })).toBER());
}

function singleResponse({ certId, certStatus = 'good', thisUpdate = new Date(), nextUpdate, extensions = [] }: EntryToSign): asn1js.Sequence {
  const end = nextUpdate === undefined ? new Date(thisUpdate.getTime() + 7 * DAY) : nextUpdate;
  return sequence(
    certIdToAsn1('leaf' in certId ? certIdFor(certId) : certId),
    status(certStatus),
    time(thisUpdate),
    ...(end === null ? [] : [explicit(0, time(end))]),
    ...(extensions.length === 0 ? [] : [explicit(1, sequence(...extensions.map(extension)))]),
  );
}

function status(certStatus: NonNullable<EntryToSign['certStatus']>): asn1js.BaseBlock {
  if (certStatus === 'good' || certStatus === 'unknown') {
    return new asn1js.Primitive({ idBlock: { tagClass: 3, tagNumber: certStatus === 'good' ? 0 : 2 } });
  }
  const reason = certStatus.reason === undefined ? [] : [explicit(0, new asn1js.Enumerated({ value: revocationReasons.indexOf(certStatus.reason) }))];
  return new asn1js.Constructed({ idBlock: { tagClass: 3, tagNumber: 1 }, value: [time(certStatus.revokedAt), ...reason] });
}

function responderId(certificate: X509Certificate, form: 'byName' | 'byKey'): asn1js.Constructed {
  const { subject, keyHash } = issuerFields(certificate);
  if (form === 'byName') return explicit(1, encoded(subject));
  return explicit(2, new asn1js.OctetString({ valueHex: keyHash }));
}

type Digest = NonNullable<ResponseToSign['digest']>;

const rsaOids = {
  md5: '1.2.840.113549.1.1.4',
  sha1: '1.2.840.113549.1.1.5',
  sha256: '1.2.840.113549.1.1.11',
  sha384: '1.2.840.113549.1.1.12',
  sha512: '1.2.840.113549.1.1.13',
};
const ecdsaOids = { sha1: '1.2.840.10045.4.1', sha256: '1.2.840.10045.4.3.2', sha384: '1.2.840.10045.4.3.3', sha512: '1.2.840.10045.4.3.4' };
const hashOids = {
  sha1: '1.3.14.3.2.26',
  sha256: '2.16.840.1.101.3.4.2.1',
  sha384: '2.16.840.1.101.3.4.2.2',
  sha512: '2.16.840.1.101.3.4.2.3',
};

function signatureAlgorithm(key: KeyObject, digest: Digest, pssSaltLength: number | undefined): asn1js.Sequence {
  const type = key.asymmetricKeyType;
  if (type === 'ed25519') return sequence(objectId('1.3.101.112'));
  if (type === 'ed448') return sequence(objectId('1.3.101.113'));
  if (digest === 'md5') return sequence(objectId(rsaOids.md5), new asn1js.Null());
  if (type === 'ec') return sequence(objectId(ecdsaOids[digest]));
  if (pssSaltLength === undefined) return sequence(objectId(rsaOids[digest]), new asn1js.Null());
  return sequence(objectId('1.2.840.113549.1.1.10'), pssParameters(hashOids[digest], pssSaltLength));
}

/** RSASSA-PSS-params, RFC 4055 3.1. */
function pssParameters(hashOid: string, saltLength: number): asn1js.Sequence {
  const hash = sequence(objectId(hashOid), new asn1js.Null());
  const maskGeneration = sequence(objectId('1.2.840.113549.1.1.8'), hash);
  return sequence(explicit(0, hash), explicit(1, maskGeneration), explicit(2, new asn1js.Integer({ value: saltLength })));
}

function extension({ oid, critical = false, value }: ExtensionToSign): asn1js.Sequence {
  return sequence(objectId(oid), ...(critical ? [new asn1js.Boolean({ value: true })] : []), new asn1js.OctetString({ valueHex: value }));
}

function sequence(...value: asn1js.BaseBlock[]): asn1js.Sequence {
  return new asn1js.Sequence({ value });
}

function objectId(value: string): asn1js.ObjectIdentifier {
  return new asn1js.ObjectIdentifier({ value });
}

/** GeneralizedTime without fractions, as RFC 6960 4.2.2.1 wants it. */
function time(value: Date): asn1js.GeneralizedTime {
  return new asn1js.GeneralizedTime({ valueDate: new Date(Math.floor(value.getTime() / 1000) * 1000) });
}

function encoded(der: Uint8Array): asn1js.BaseBlock {
  return asn1js.fromBER(der).result;
}
