import { createHash } from 'node:crypto';
import { CertificateFields } from '../../ocsp/certificate-fields.ts';
import type { CertId } from '../../ocsp/cert-id.ts';
import { type DerNode, malformed, readDer, Tag } from '../../ocsp/der.ts';
import { type AlgorithmIdentifier, type Extension, generalizedTime, oid, smallInteger } from '../../ocsp/der-fields.ts';
import { nameText } from '../../ocsp/distinguished-name.ts';
import { OcspRefusal } from '../../ocsp/refusal.ts';
import { nonceOf, parseRequest } from '../../ocsp/request.ts';
import { type BasicOcspResponse, parseResponse, revocationReasons, type SingleResponse } from '../../ocsp/response.ts';
import { readOcspMessage } from './input.ts';
import { extensionNames, keyText, purposeNames, signatureNames } from './names.ts';
import { isoTime, type Labelled, outline, type Outcome } from './outcome.ts';

/**
 * Everything that an OCSP response or request says, verified or not.
 *
 * @throws CertificateError `file_*`; OcspRefusal `malformed`, `too_large`
 */
export async function inspect(file: string): Promise<Outcome> {
  const der = await readOcspMessage(file);
  const isRequest = readDer(der).children[0]?.tag === Tag.sequence;
  const description = isRequest ? describeRequest(der) : describeResponse(der);
  const what = isRequest ? 'OCSP request' : 'OCSP response';
  return { ok: true, lines: [`${what}, ${der.length} bytes`, ...outline(description)], json: { type: what, size: der.length, ...description } };
}

/** Labels are the names of RFC 6960 4.1.1. @throws {OcspRefusal} `malformed` */
function describeRequest(der: Buffer): Labelled {
  const { certIds, requestExtensions } = parseRequest(der);
  const [tbsRequest, signature] = readDer(der).children;
  const requestorName = tbsRequest?.children.find(({ tag }) => tag === 0xa1);
  return {
    requestorName: requestorName?.content.toString('hex'),
    signed: signature !== undefined,
    requestList: certIds.map((certId) => ({ reqCert: certIdText(certId) })),
    requestExtensions: requestExtensions.map(extensionText),
  };
}

/** Labels are the names of RFC 6960 4.2.1. @throws {OcspRefusal} `malformed` */
export function describeResponse(der: Buffer): Labelled {
  const { responseStatus, basicResponse } = parseResponse(der);
  return { responseStatus, ...(basicResponse && describeBasicResponse(basicResponse)) };
}

function describeBasicResponse({ responderId, ...response }: BasicOcspResponse): Labelled {
  return {
    responderID: 'byName' in responderId ? { byName: nameText(responderId.byName) } : { byKey: responderId.byKey.toString('hex') },
    producedAt: isoTime(response.producedAt),
    responses: response.responses.map(singleResponseText),
    responseExtensions: response.responseExtensions.map(extensionText),
    signatureAlgorithm: algorithmText(response.signatureAlgorithm),
    signature: response.signature.toString('hex'),
    certs: response.certs.map(certificateText),
  };
}

function singleResponseText({ certId, certStatus, revocation, thisUpdate, nextUpdate, singleExtensions }: SingleResponse): Labelled {
  return {
    certID: certIdText(certId),
    certStatus,
    ...(revocation && { revocationTime: isoTime(revocation.time), revocationReason: revocation.reason ?? 'not given' }),
    thisUpdate: isoTime(thisUpdate),
    nextUpdate: nextUpdate === undefined ? 'not given' : isoTime(nextUpdate),
    singleExtensions: singleExtensions.map(extensionText),
  };
}

function certIdText({ hashAlgorithm, issuerNameHash, issuerKeyHash, serialNumber }: CertId<string>): Labelled {
  return {
    hashAlgorithm,
    issuerNameHash: issuerNameHash.toString('hex'),
    issuerKeyHash: issuerKeyHash.toString('hex'),
    serialNumber: serialText(serialNumber),
  };
}

/** As certificates show it: hexadecimal, without the octet that only carries the sign. */
function serialText(content: Buffer): string {
  const value = BigInt.asIntN(content.length * 8, BigInt(`0x${content.toString('hex')}`));
  const digits = (value < 0n ? -value : value).toString(16).toUpperCase();
  return `${value < 0n ? '-' : ''}${digits.length % 2 === 0 ? '' : '0'}${digits}`;
}

function algorithmText({ algorithm }: AlgorithmIdentifier): string {
  return signatureNames[algorithm] ?? algorithm;
}

/** A certificate that the response brings along; it may be anything. */
function certificateText(node: DerNode): Labelled {
  try {
    const certificate = new CertificateFields(readDer(node.der));
    const purposes = certificate.extensions.find(({ extnId }) => extnId === '2.5.29.37');
    return {
      subject: nameText(certificate.subject),
      issuer: nameText(certificate.issuer),
      serialNumber: serialText(certificate.serialNumber),
      notBefore: isoTime(certificate.notBefore),
      notAfter: isoTime(certificate.notAfter),
      publicKey: keyText(certificate.publicKey),
      signatureAlgorithm: algorithmText(certificate.signatureAlgorithm),
      extendedKeyUsage: purposes && readDer(purposes.extnValue).children.map((node) => purposeNames[oid(node)] ?? oid(node)),
      ocspNoCheck: certificate.extensions.some(({ extnId }) => extnId === '1.3.6.1.5.5.7.48.1.5'),
      sha256: createHash('sha256').update(node.der).digest('hex'),
    };
  } catch (error) {
    if (error instanceof OcspRefusal) return { unreadable: error.message };
    throw error;
  }
}

function extensionText(extension: Extension): Labelled {
  const { extnId, critical, extnValue } = extension;
  const name = extensionNames[extnId];
  return { extension: name === undefined ? extnId : `${name} (${extnId})`, critical, value: knownValue(extension) ?? extnValue.toString('hex') };
}

/** What an extension says, where that can be told and it is well-formed. */
function knownValue(extension: Extension): string | undefined {
  try {
    return readers[extension.extnId]?.(extension);
  } catch (error) {
    if (error instanceof OcspRefusal) return undefined;
    throw error;
  }
}

const timeIn = ({ extnValue }: Extension): string => isoTime(generalizedTime(readDer(extnValue), 'the time'));

/** RFC 6960 4.4 and RFC 5280 5.3 */
const readers: Record<string, (extension: Extension) => string | undefined> = {
  '1.3.6.1.5.5.7.48.1.2': (extension) => nonceOf([extension])?.toString('hex'),
  '1.3.6.1.5.5.7.48.1.3': ({ extnValue }) => readDer(extnValue).children.map(crlField).join(', '),
  '1.3.6.1.5.5.7.48.1.4': ({ extnValue }) => readDer(extnValue).children.map(oid).join(', '),
  '1.3.6.1.5.5.7.48.1.6': timeIn,
  '1.3.6.1.5.5.7.48.1.7': ({ extnValue }) => nameText(readDer(extnValue).children[0]?.der ?? extnValue),
  '2.5.29.21': ({ extnValue }) => revocationReasons[smallInteger(readDer(extnValue), 'the reason')],
  '2.5.29.24': timeIn,
};

/** A component of CrlID: [0] crlUrl, [1] crlNum, [2] crlTime. */
function crlField({ tag, children: [inner] }: DerNode): string {
  if (inner === undefined) throw malformed('an empty component');
  if (tag === 0xa0) return inner.content.toString('latin1');
  return tag === 0xa1 ? `number ${serialText(inner.content)}` : isoTime(generalizedTime(inner, 'crlTime'));
}
