import assert from 'node:assert/strict';
import { sign, type KeyObject, X509Certificate } from 'node:crypto';
import { Authority, type Issued } from '../../src/demo/authority.ts';
import { type EntryToSign, type ResponseToSign, signResponse } from '../../src/demo/ocsp-signer.ts';
import type { OcspSubject } from '../../src/ocsp/cert-id.ts';
import { type DerNode, readDer } from '../../src/ocsp/der.ts';
import { OcspRefusal, type RefusalCode } from '../../src/ocsp/refusal.ts';
import { type AcceptancePolicy, acceptResponse, type Staple } from '../../src/ocsp/verify.ts';

/** The moment at which all of these tests take place. */
export const NOW = Date.UTC(2026, 10, 22, 12);
export const SECOND = 1000;
export const MINUTE = 60 * SECOND;
export const HOUR = 60 * MINUTE;
export const DAY = 24 * HOUR;

export const at = (offset: number): Date => new Date(NOW + offset);

/** Around NOW, for every certificate that does not say otherwise. */
export const lifetime = { notBefore: at(-30 * DAY), notAfter: at(60 * DAY) };

export const policy: AcceptancePolicy = { now: NOW, clockSkew: 5 * MINUTE, maxAge: -1, noNextUpdate: DAY, maxResponseSize: 65_536 };

export interface Scene {
  ca: Authority;
  leaf: Issued;
  delegate: Issued;
  subject: OcspSubject;
}

export async function scene(keyType: 'ecdsa' | 'rsa' = 'ecdsa'): Promise<Scene> {
  const ca = await Authority.root('Test CA', { keyType, ...lifetime });
  const leaf = await ca.issue({ names: ['www.example.org'], keyType, ...lifetime });
  const delegate = await ca.issue({ commonName: 'Test OCSP', ocspSigning: true, keyType, ...lifetime });
  return { ca, leaf, delegate, subject: { leaf: leaf.certificate, issuer: ca.certificate } };
}

/** A good entry made an hour ago, for seven days. */
export function entryFor(certId: EntryToSign['certId'], changes: Partial<EntryToSign> = {}): EntryToSign {
  return { certId, thisUpdate: at(-HOUR), nextUpdate: at(7 * DAY - HOUR), ...changes };
}

/** A response by the issuer itself with one good entry, except for the changes. */
export function respond({ ca, subject }: Scene, { entry = {}, ...changes }: Partial<ResponseToSign> & { entry?: Partial<EntryToSign> } = {}): Buffer {
  return signResponse({ signer: ca, producedAt: at(-HOUR), entries: [entryFor(subject, entry)], ...changes });
}

export function accept(der: Uint8Array, { subject }: Pick<Scene, 'subject'>, changes: Partial<AcceptancePolicy> = {}): Staple {
  return acceptResponse(der, subject, { ...policy, ...changes });
}

export function refusal(attempt: () => unknown, code: RefusalCode): OcspRefusal {
  try {
    attempt();
  } catch (error) {
    assert.ok(error instanceof OcspRefusal, `threw ${String(error)}`);
    assert.equal(error.code, code, error.message);
    return error;
  }
  return assert.fail(`accepted, instead of refused as ${code}`);
}

/** One DER value. */
export function tlv(tag: number, ...contents: Uint8Array[]): Buffer {
  const content = Buffer.concat(contents);
  if (content.length < 0x80) return Buffer.concat([Buffer.of(tag, content.length), content]);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(content.length);
  const minimal = length.subarray(length.findIndex((octet) => octet !== 0));
  return Buffer.concat([Buffer.of(tag, 0x80 | minimal.length), minimal, content]);
}

/** With every occurrence of `from` become `to`: hexadecimal, of one length. */
export function replaced(bytes: Buffer, from: string, to: string): Buffer {
  assert.equal(from.length, to.length);
  return Buffer.from(bytes.toString('hex').replaceAll(from, to), 'hex');
}

/** The same certificate with `from` replaced by `to`, signed again by `key`. */
export function reissued(certificate: X509Certificate, key: KeyObject, from: string, to: string, digest = 'sha256'): X509Certificate {
  const [tbs, algorithm] = readDer(certificate.raw).children as [DerNode, DerNode];
  const edited = replaced(tbs.der, from, to);
  assert.notDeepEqual(edited, tbs.der, `${from} does not occur`);
  return new X509Certificate(tlv(0x30, edited, replaced(algorithm.der, from, to), tlv(0x03, Buffer.of(0), sign(digest, edited, key))));
}

/** The BasicOCSPResponse inside a response. */
export function basicResponseOf(der: Buffer): DerNode {
  const octets = readDer(der).children[1]?.children[0]?.children[1];
  assert.ok(octets);
  return readDer(octets.content);
}

/** A successful OCSPResponse around these bytes. */
export function wrapped(basicResponse: Buffer): Buffer {
  const type = Buffer.from('06092b0601050507300101', 'hex');
  return tlv(0x30, Buffer.from('0a0100', 'hex'), tlv(0xa0, tlv(0x30, type, tlv(0x04, basicResponse))));
}

interface Parts {
  tbsResponseData?: Buffer;
  algorithm?: Buffer;
  /** The octets inside the BIT STRING. */
  signature?: Buffer;
  /** DER of certificates. */
  certs?: Buffer[];
}

/** The same response with some of its parts exchanged, not signed again. */
export function reassembled(der: Buffer, { tbsResponseData, algorithm, signature, certs }: Parts): Buffer {
  const [oldTbs, oldAlgorithm, oldSignature, ...oldCerts] = basicResponseOf(der).children.map((node) => node.der) as [Buffer, Buffer, Buffer, ...Buffer[]];
  return wrapped(
    tlv(
      0x30,
      tbsResponseData ?? oldTbs,
      algorithm ?? oldAlgorithm,
      signature === undefined ? oldSignature : tlv(0x03, Buffer.of(0), signature),
      ...(certs === undefined ? oldCerts : [tlv(0xa0, tlv(0x30, ...certs))]),
    ),
  );
}

/** The same response with other signed contents, signed again. */
export function resigned(der: Buffer, key: KeyObject, edit: (tbsResponseData: DerNode) => Buffer): Buffer {
  const tbsResponseData = edit(basicResponseOf(der).children[0] as DerNode);
  return reassembled(der, { tbsResponseData, signature: sign('sha256', tbsResponseData, key) });
}
