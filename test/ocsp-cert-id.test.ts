import assert from 'node:assert/strict';
import { createHash, X509Certificate } from 'node:crypto';
import test from 'node:test';
import { type CertId, certIdFor, sameCertId } from '../src/ocsp/cert-id.ts';
import { lifetime, refusal, scene, tlv } from './support/ocsp-material.ts';
import { readDer } from '../src/ocsp/der.ts';

const { ca, subject, leaf } = await scene();

test('a CertID hashes the issuer name and the bits of the issuer key, without their headers (RFC 6960 4.1.1)', () => {
  const [tbs] = readDer(ca.certificate.raw).children;
  const [, , , , , name, spki] = tbs?.children ?? [];
  const keyBits = spki?.children[1]?.content.subarray(1);
  for (const hash of ['sha1', 'sha256'] as const) {
    assert.deepEqual(certIdFor(subject, hash), {
      hashAlgorithm: hash,
      issuerNameHash: createHash(hash)
        .update(name?.der ?? '')
        .digest(),
      issuerKeyHash: createHash(hash)
        .update(keyBits ?? '')
        .digest(),
      serialNumber: Buffer.from(leaf.certificate.serialNumber, 'hex'),
    });
  }
  assert.equal(certIdFor(subject).hashAlgorithm, 'sha1');
});

test('serial numbers are taken as they are encoded: negative, longer than 20 octets, with a leading zero octet', async () => {
  for (const serial of ['80', 'ff01'.padEnd(60, '0'), '7f'.repeat(30), '00ff', '00']) {
    const serialNumber = Buffer.from(serial, 'hex');
    const odd = await ca.issue({ names: ['odd.example.org'], serialNumber, ...lifetime });
    assert.equal(certIdFor({ leaf: odd.certificate, issuer: ca.certificate }).serialNumber.toString('hex'), serial);
  }
});

test('two CertIDs are the same only in all four fields', () => {
  const id = certIdFor(subject);
  const otherByte = (bytes: Buffer): Buffer => Buffer.concat([bytes.subarray(0, -1), Buffer.of((bytes.at(-1) ?? 0) ^ 1)]);
  const changes: Partial<CertId<string>>[] = [
    { hashAlgorithm: 'sha256' },
    { issuerNameHash: otherByte(id.issuerNameHash) },
    { issuerKeyHash: otherByte(id.issuerKeyHash) },
    { serialNumber: otherByte(id.serialNumber) },
    { serialNumber: Buffer.concat([Buffer.of(0), id.serialNumber]) },
  ];
  assert.ok(sameCertId(id, { ...id, serialNumber: Buffer.from(id.serialNumber) }));
  for (const change of changes) assert.ok(!sameCertId(id, { ...id, ...change }), JSON.stringify(change));
});

test('an installed certificate that is not DER is refused by name, as bad_certificate', () => {
  const [tbs, algorithm, signature] = readDer(leaf.certificate.raw).children.map((node) => node.der);
  assert.ok(tbs && algorithm && signature);
  // BOOLEAN TRUE as 01: BER, which OpenSSL reads.
  const ber = Buffer.from(tbs.toString('hex').replace('0101ff', '010101'), 'hex');
  const certificate = new X509Certificate(tlv(0x30, ber, algorithm, signature));
  const { message } = refusal(() => certIdFor({ leaf: certificate, issuer: ca.certificate }), 'bad_certificate');
  assert.match(message, new RegExp(certificate.serialNumber));
});
