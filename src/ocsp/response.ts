import { parseCertId } from './cert-id.ts';
import type { CertId } from './cert-id.ts';
import { type DerNode, explicit, implicit, malformed, readDer, Tag } from './der.ts';
import {
  type AlgorithmIdentifier,
  algorithmIdentifier,
  expect,
  type Extension,
  extensions,
  Fields,
  generalizedTime,
  octetsOfBits,
  oid,
  smallInteger,
} from './der-fields.ts';

/** Field names are those of RFC 6960 4.2.1; times are milliseconds since the epoch; buffers are views of the bytes given. */
export interface OcspResponse {
  responseStatus: ResponseStatus;
  /** Present exactly when `responseStatus` is successful. */
  basicResponse: BasicOcspResponse | undefined;
}

export type ResponseStatus = keyof typeof responseStatuses;

export interface BasicOcspResponse {
  /** The very bytes that are signed. */
  tbsResponseData: Buffer;
  responderId: ResponderId;
  producedAt: number;
  responses: SingleResponse[];
  responseExtensions: Extension[];
  signatureAlgorithm: AlgorithmIdentifier;
  signature: Buffer;
  /** Whole certificates, unread. */
  certs: DerNode[];
}

/** DER of the responder's Name, or SHA-1 of its key. */
export type ResponderId = { byName: Buffer } | { byKey: Buffer };

export interface SingleResponse {
  certId: CertId<string>;
  certStatus: 'good' | 'revoked' | 'unknown';
  /** With `revoked`. `reason` is a CRLReason of RFC 5280 5.3.1, or its number where that names none. */
  revocation: Revocation | undefined;
  thisUpdate: number;
  nextUpdate: number | undefined;
  singleExtensions: Extension[];
}

export interface Revocation {
  time: number;
  reason: string | undefined;
}

/** OCSPResponseStatus; 4 is not used. */
export const responseStatuses = {
  successful: 0,
  malformedRequest: 1,
  internalError: 2,
  tryLater: 3,
  sigRequired: 5,
  unauthorized: 6,
} as const;

const statusNames = new Map<number, ResponseStatus>(Object.entries(responseStatuses).map(([name, number]) => [number, name as ResponseStatus]));

/** CRLReason, RFC 5280 5.3.1, by number. */
export const revocationReasons = [
  'unspecified',
  'keyCompromise',
  'cACompromise',
  'affiliationChanged',
  'superseded',
  'cessationOfOperation',
  'certificateHold',
  undefined,
  'removeFromCRL',
  'privilegeWithdrawn',
  'aACompromise',
] as const;

/** id-pkix-ocsp-basic */
export const BASIC_RESPONSE_OID = '1.3.6.1.5.5.7.48.1.1';

/**
 * Reads an OCSPResponse. Nothing is verified yet.
 *
 * @throws {OcspRefusal} `malformed`: not strict DER, not this structure, an error status with a body or success without.
 */
export function parseResponse(der: Uint8Array): OcspResponse {
  const root = readDer(der);
  if (root.children[0]?.tag === Tag.sequence) throw malformed('this is no OCSPResponse; it begins like an OCSPRequest');
  const fields = new Fields(root, 'OCSPResponse');
  const responseStatus = statusNames.get(smallInteger(fields.take(Tag.enumerated, 'responseStatus'), 'responseStatus'));
  if (responseStatus === undefined) throw malformed('responseStatus has an undefined value');
  const responseBytes = fields.explicit(0);
  fields.end();
  if (responseStatus === 'successful' && responseBytes === undefined) throw malformed('the response claims success and holds nothing');
  if (responseStatus !== 'successful' && responseBytes !== undefined) throw malformed(`the response holds an answer despite its status ${responseStatus}`);
  return { responseStatus, basicResponse: responseBytes && parseResponseBytes(responseBytes) };
}

function parseResponseBytes(node: DerNode): BasicOcspResponse {
  const fields = new Fields(node, 'responseBytes');
  const responseType = oid(fields.take(Tag.oid, 'responseType'));
  const response = fields.take(Tag.octetString, 'response').content;
  fields.end();
  if (responseType !== BASIC_RESPONSE_OID) throw malformed(`the type of the response is ${responseType}, not id-pkix-ocsp-basic`);
  return parseBasicResponse(readDer(response));
}

function parseBasicResponse(node: DerNode): BasicOcspResponse {
  const outer = new Fields(node, 'BasicOCSPResponse');
  const tbsResponseData = outer.take(Tag.sequence, 'tbsResponseData');
  const signatureAlgorithm = algorithmIdentifier(outer.take(Tag.sequence, 'signatureAlgorithm'), 'signatureAlgorithm');
  const signature = octetsOfBits(outer.take(Tag.bitString, 'signature'), 'the signature of the response');
  const certs = outer.explicit(0);
  outer.end();

  const data = new Fields(tbsResponseData, 'tbsResponseData');
  const version = data.explicit(0);
  if (version !== undefined && smallInteger(expect(version, Tag.integer, 'version'), 'version') !== 0) throw malformed('the version of the response is not 1');
  const responderId = parseResponderId(data);
  const producedAt = generalizedTime(data.take(Tag.generalizedTime, 'producedAt'), 'producedAt');
  const responses = data.take(Tag.sequence, 'responses').children.map(parseSingleResponse);
  const responseExtensions = extensions(data.explicit(1), 'responseExtensions');
  data.end();
  return {
    tbsResponseData: tbsResponseData.der,
    responderId,
    producedAt,
    responses,
    responseExtensions,
    signatureAlgorithm,
    signature,
    certs: certs === undefined ? [] : expect(certs, Tag.sequence, 'certs').children,
  };
}

function parseResponderId(data: Fields): ResponderId {
  const byName = data.explicit(1);
  if (byName !== undefined) return { byName: expect(byName, Tag.sequence, 'responderID byName').der };
  const byKey = data.explicit(2);
  if (byKey !== undefined) return { byKey: expect(byKey, Tag.octetString, 'responderID byKey').content };
  throw malformed('tbsResponseData lacks its responderID');
}

function parseSingleResponse(node: DerNode): SingleResponse {
  const fields = new Fields(node, 'SingleResponse');
  const certId = parseCertId(fields.take(Tag.sequence, 'certID'));
  const status = parseCertStatus(fields.any());
  const thisUpdate = generalizedTime(fields.take(Tag.generalizedTime, 'thisUpdate'), 'thisUpdate');
  const nextUpdate = fields.explicit(0);
  const singleExtensions = extensions(fields.explicit(1), 'singleExtensions');
  fields.end();
  return { certId, ...status, thisUpdate, nextUpdate: nextUpdate && generalizedTime(nextUpdate, 'nextUpdate'), singleExtensions };
}

function parseCertStatus(node: DerNode | undefined): Pick<SingleResponse, 'certStatus' | 'revocation'> {
  if (node?.tag === explicit(1)) return { certStatus: 'revoked', revocation: parseRevokedInfo(node) };
  if (node?.tag !== implicit(0) && node?.tag !== implicit(2)) throw malformed('SingleResponse lacks its certStatus');
  if (node.content.length > 0) throw malformed('certStatus holds more than its NULL');
  return { certStatus: node.tag === implicit(0) ? 'good' : 'unknown', revocation: undefined };
}

function parseRevokedInfo(node: DerNode): Revocation {
  const fields = new Fields(node, 'RevokedInfo', explicit(1));
  const time = generalizedTime(fields.take(Tag.generalizedTime, 'revocationTime'), 'revocationTime');
  const code = fields.explicit(0);
  fields.end();
  if (code === undefined) return { time, reason: undefined };
  const number = smallInteger(expect(code, Tag.enumerated, 'revocationReason'), 'revocationReason');
  return { time, reason: revocationReasons[number] ?? String(number) };
}
