import * as asn1js from 'asn1js';
import { certIdToAsn1, parseCertId } from './cert-id.ts';
import type { CertId } from './cert-id.ts';
import { malformed, readDer, Tag } from './der.ts';
import { type Extension, extensions, Fields, smallInteger } from './der-fields.ts';

/** id-pkix-ocsp-nonce */
export const NONCE_OID = '1.3.6.1.5.5.7.48.1.2';

/**
 * An unsigned OCSPRequest for one certificate (RFC 6960 4.1.1), DER.
 *
 * @param nonce 1 to 128 octets (RFC 9654 2.1). Left out by default: most responders serve answers made in advance.
 */
export function encodeRequest(id: CertId, { nonce }: { nonce?: Uint8Array } = {}): Buffer {
  const requestList = new asn1js.Sequence({ value: [new asn1js.Sequence({ value: [certIdToAsn1(id)] })] });
  const requestExtensions = nonce === undefined ? [] : [explicit(2, new asn1js.Sequence({ value: [nonceExtension(nonce)] }))];
  const tbsRequest = new asn1js.Sequence({ value: [requestList, ...requestExtensions] });
  return Buffer.from(new asn1js.Sequence({ value: [tbsRequest] }).toBER());
}

/** The nonce as an Extension: an OCTET STRING inside the OCTET STRING (RFC 9654 2.1). */
export function nonceExtension(nonce: Uint8Array): asn1js.Sequence {
  const value = new asn1js.OctetString({ valueHex: new asn1js.OctetString({ valueHex: nonce }).toBER() });
  return new asn1js.Sequence({ value: [new asn1js.ObjectIdentifier({ value: NONCE_OID }), value] });
}

export function explicit(tagNumber: number, inner: asn1js.BaseBlock): asn1js.Constructed {
  return new asn1js.Constructed({ idBlock: { tagClass: 3, tagNumber }, value: [inner] });
}

/** What follows the responder's URL and a slash in a GET (RFC 6960 A.1): base64, in which `+`, `/` and `=` are then percent-encoded. */
export function getPath(request: Buffer): string {
  return encodeURIComponent(request.toString('base64'));
}

export interface OcspRequest {
  certIds: CertId<string>[];
  requestExtensions: Extension[];
  /** What the nonce extension holds; undefined without one. */
  nonce: Buffer | undefined;
}

/**
 * Reads an OCSPRequest; a signature on it is left unread.
 *
 * @throws {OcspRefusal} `malformed`
 */
export function parseRequest(der: Uint8Array): OcspRequest {
  const outer = new Fields(readDer(der), 'OCSPRequest');
  const tbs = new Fields(outer.take(Tag.sequence, 'tbsRequest'), 'tbsRequest');
  outer.explicit(0); // optionalSignature
  outer.end();
  const version = tbs.explicit(0);
  if (version !== undefined && smallInteger(version, 'version') !== 0) throw malformed('the version of the request is not 1');
  tbs.explicit(1); // requestorName
  const certIds = tbs.take(Tag.sequence, 'requestList').children.map((request) => {
    const fields = new Fields(request, 'Request');
    const certId = parseCertId(fields.take(Tag.sequence, 'reqCert'));
    fields.explicit(0); // singleRequestExtensions
    fields.end();
    return certId;
  });
  const requestExtensions = extensions(tbs.explicit(2), 'requestExtensions');
  tbs.end();
  return { certIds, requestExtensions, nonce: nonceOf(requestExtensions) };
}

/**
 * The nonce among the extensions of a request or a response. Older peers put the octets in without the inner OCTET STRING
 * (RFC 2560 did not say); those are returned as they are.
 */
export function nonceOf(list: Extension[]): Buffer | undefined {
  const value = list.find(({ extnId }) => extnId === NONCE_OID)?.extnValue;
  if (value === undefined) return undefined;
  const wrapped = value[0] === Tag.octetString && value.length >= 2 && value[1] === value.length - 2;
  return wrapped ? value.subarray(2) : value;
}
