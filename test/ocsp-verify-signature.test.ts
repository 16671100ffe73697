import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import test from 'node:test';
import { Authority, type AuthorityKeyType, type Issued } from '../src/demo/authority.ts';
import { accept, lifetime, reassembled, refusal, reissued, replaced, respond, scene, tlv } from './support/ocsp-material.ts';

const rsa = await scene('rsa');
const ecdsa = await scene('ecdsa');

const by = async (
  ca: Authority,
  options: Parameters<Authority['issue']>[0],
): Promise<Pick<Issued, 'certificate' | 'key'> & { certs: Issued['certificate'][] }> => {
  const issued = await ca.issue({ commonName: 'Test OCSP', ocspSigning: true, ...lifetime, ...options });
  return { certificate: issued.certificate, key: issued.key, certs: [issued.certificate] };
};

test('rule 4: RSA PKCS#1 with SHA-256, SHA-384 and SHA-512', () => {
  for (const digest of ['sha256', 'sha384', 'sha512'] as const) assert.deepEqual(accept(respond(rsa, { digest }), rsa).warnings, []);
});

test('rule 4: how long an RSA key must be is for those to decide who install the issuer', async () => {
  const key = generateKeyPairSync('rsa', { modulusLength: 1024 });
  const ca = await Authority.root('Short', { key, ...lifetime });
  const leaf = await ca.issue({ names: ['a.test'], ...lifetime });
  const short = { ...rsa, ca, leaf, subject: { leaf: leaf.certificate, issuer: ca.certificate } };
  assert.equal(accept(respond(short), short).certStatus, 'good');
});

test('rule 4: RSASSA-PSS with its parameters: hash and salt length', () => {
  for (const digest of ['sha256', 'sha384', 'sha512'] as const) {
    for (const pssSaltLength of [0, 20, 32, 64, 190]) assert.deepEqual(accept(respond(rsa, { digest, pssSaltLength }), rsa).warnings, []);
  }
});

test('rule 4: RSASSA-PSS with parameters other than those signed with does not verify', () => {
  const der = respond(rsa, { digest: 'sha256', pssSaltLength: 32 });
  refusal(() => accept(replaced(der, 'a203020120', 'a203020121'), rsa), 'bad_signature');
  const sha256 = '300d06096086480165030402010500';
  const sha384 = '300d06096086480165030402020500';
  refusal(() => accept(replaced(der, sha256, sha384), rsa), 'bad_signature');
});

test('rule 4: RSASSA-PSS whose mask hash differs from its hash, or with another trailer or mask, is not supported', () => {
  const der = respond(rsa, { digest: 'sha256', pssSaltLength: 32 });
  const mask = '06092a864886f70d010108300d0609608648016503040201';
  refusal(() => accept(replaced(der, mask, mask.slice(0, -2) + '02'), rsa), 'unsupported_algorithm');
  refusal(() => accept(replaced(der, '2a864886f70d010108', '2a864886f70d010107'), rsa), 'unsupported_algorithm');
  const pss = (parameters: string): Buffer => tlv(0x30, Buffer.from('06092a864886f70d01010a', 'hex'), Buffer.from(parameters, 'hex'));
  refusal(() => accept(reassembled(der, { algorithm: pss('3005a303020102') }), rsa), 'unsupported_algorithm');
  refusal(() => accept(reassembled(der, { algorithm: pss('') }), rsa), 'unsupported_algorithm');
  refusal(() => accept(reassembled(der, { algorithm: pss('0500') }), rsa), 'malformed');
});

test('rule 4: RSASSA-PSS defaults are SHA-1 and 20 octets of salt', () => {
  const der = respond(rsa, { digest: 'sha1', pssSaltLength: 20 });
  const defaults = tlv(0x30, Buffer.from('06092a864886f70d01010a', 'hex'), tlv(0x30));
  assert.deepEqual(accept(reassembled(der, { algorithm: defaults }), rsa).warnings, ['weak_signature']);
});

test('rule 4: ECDSA on P-256, P-384 and P-521 with each SHA-2', async () => {
  for (const keyType of ['ecdsa', 'p384', 'p521'] as const) {
    const signer = await by(ecdsa.ca, { keyType });
    for (const digest of ['sha256', 'sha384', 'sha512'] as const)
      assert.equal(accept(respond(ecdsa, { signer, certs: signer.certs, digest }), ecdsa).certStatus, 'good');
  }
});

test('rule 4: Ed25519 and Ed448', async () => {
  for (const keyType of ['ed25519', 'ed448'] as const) {
    const signer = await by(ecdsa.ca, { keyType });
    assert.equal(accept(respond(ecdsa, { signer, certs: signer.certs }), ecdsa).certStatus, 'good');
  }
});

test('rule 4: an issuer of every key type signs by itself', async () => {
  for (const keyType of ['rsa', 'ecdsa', 'p384', 'p521', 'ed25519', 'ed448'] satisfies AuthorityKeyType[]) {
    const ca = await Authority.root('CA', { keyType, ...lifetime });
    const leaf = await ca.issue({ names: ['www.example.org'], ...lifetime });
    const material = { ca, leaf, delegate: leaf, subject: { leaf: leaf.certificate, issuer: ca.certificate } };
    assert.equal(accept(respond(material), material).certStatus, 'good', keyType);
  }
});

test('rule 4: SHA-1 is accepted with the warning weak_signature, or refused where the policy says so', () => {
  const all = [respond(rsa, { digest: 'sha1' }), respond(rsa, { digest: 'sha1', pssSaltLength: 20 })];
  for (const der of all) {
    assert.deepEqual(accept(der, rsa).warnings, ['weak_signature']);
    refusal(() => accept(der, rsa, { allowSha1Signatures: false }), 'weak_signature');
  }
  const der = respond(ecdsa, { digest: 'sha1' });
  assert.deepEqual(accept(der, ecdsa).warnings, ['weak_signature']);
  refusal(() => accept(der, ecdsa, { allowSha1Signatures: false }), 'weak_signature');
  assert.equal(accept(respond(rsa), rsa, { allowSha1Signatures: false }).certStatus, 'good');
});

test("rule 4: SHA-1 on the delegate's certificate is as weak, the second time too", () => {
  const { certificate, key } = rsa.delegate;
  const weak = reissued(certificate, rsa.ca.key, '2a864886f70d01010b', '2a864886f70d010105', 'sha1');
  const der = respond(rsa, { signer: { certificate: weak, key }, certs: [weak] });
  for (const round of [1, 2]) assert.deepEqual(accept(der, rsa).warnings, ['weak_signature'], String(round));
  refusal(() => accept(der, rsa, { allowSha1Signatures: false }), 'weak_signature');
});

test('rule 4: MD5 is refused, on the response and on the delegate', () => {
  refusal(() => accept(respond(rsa, { digest: 'md5' }), rsa), 'unsupported_algorithm');
  const { certificate, key } = rsa.delegate;
  const broken = reissued(certificate, rsa.ca.key, '2a864886f70d01010b', '2a864886f70d010104', 'md5');
  refusal(() => accept(respond(rsa, { signer: { certificate: broken, key }, certs: [broken] }), rsa), 'unsupported_algorithm');
});

test('rule 4: unknown algorithms, and known ones with the wrong key or stray parameters, are refused', async () => {
  refusal(() => accept(replaced(respond(rsa), '2a864886f70d01010b', '2a864886f70d01017f'), rsa), 'unsupported_algorithm');
  const der = respond(ecdsa);
  const algorithms = {
    'RSA with an EC key': '300d06092a864886f70d01010b0500',
    'Ed25519 with an EC key': '300506032b6570',
    'ECDSA with NULL': '300c06082a8648ce3d0403020500',
  };
  for (const algorithm of Object.values(algorithms)) {
    refusal(() => accept(reassembled(der, { algorithm: Buffer.from(algorithm, 'hex') }), ecdsa), 'unsupported_algorithm');
  }
  const signer = await by(ecdsa.ca, { key: generateKeyPairSync('ec', { namedCurve: 'secp256k1' }) });
  refusal(() => accept(respond(ecdsa, { signer, certs: signer.certs }), ecdsa), 'unsupported_algorithm');
});

test('rule 4: RSA parameters may be absent (RFC 4055 5)', () => {
  const der = respond(rsa);
  const algorithm = Buffer.from('300b06092a864886f70d01010b', 'hex');
  assert.equal(accept(reassembled(der, { algorithm: algorithm }), rsa).certStatus, 'good');
});

test('rule 4: what is no signature at all is a bad signature', () => {
  for (const material of [rsa, ecdsa]) {
    for (const bits of ['', '00', '3000', 'ff'.repeat(256), '00'.repeat(2000)]) {
      refusal(() => accept(reassembled(respond(material), { signature: Buffer.from(bits, 'hex') }), material), 'bad_signature');
    }
  }
});

test('rule 4: a key of a kind that the runtime does not know is not supported', () => {
  const ecPublicKey = '06072a8648ce3d0201';
  const { certificate, key } = ecdsa.delegate;
  const strange = reissued(certificate, ecdsa.ca.key, ecPublicKey, '06072a8648ce3d0209');
  refusal(() => accept(respond(ecdsa, { signer: { certificate: strange, key }, certs: [strange] }), ecdsa), 'unsupported_algorithm');
});
