import assert from 'node:assert/strict';
import { generateKeyPairSync, type X509Certificate } from 'node:crypto';
import test from 'node:test';
import { Authority, type Issued } from '../src/demo/authority.ts';
import { readDer } from '../src/ocsp/der.ts';
import { accept, at, DAY, lifetime, NOW, reassembled, refusal, reissued, replaced, resigned, respond, scene, SECOND, tlv } from './support/ocsp-material.ts';

const material = await scene();
const { ca, delegate, leaf } = material;
const sign = (options: Parameters<Authority['issue']>[0]): Promise<Issued> => ca.issue({ commonName: 'Test OCSP', ocspSigning: true, ...lifetime, ...options });
const by = (signer: { certificate: X509Certificate; key: Issued['key'] }, changes: Parameters<typeof respond>[1] = {}): Buffer =>
  respond(material, { signer, certs: [signer.certificate], ...changes });

const OCSP_SIGNING = '06082b06010505070309';

test('rule 3: the issuer signs, named byName or byKey, its certificate sent along or not', () => {
  for (const responderId of ['byName', 'byKey'] as const) {
    for (const certs of [[], [ca.certificate]]) {
      assert.deepEqual(accept(respond(material, { responderId, certs }), material).signer, { name: 'CN=Test CA', delegated: false });
    }
  }
});

test('rule 3: a delegate signs, named byName or byKey, anywhere among the certificates', () => {
  for (const responderId of ['byName', 'byKey'] as const) {
    for (const certs of [[delegate.certificate], [leaf.certificate, ca.certificate, delegate.certificate]]) {
      assert.deepEqual(accept(by(delegate, { responderId, certs }), material).signer, { name: 'CN=Test OCSP', delegated: true });
    }
  }
});

test('rule 3: a delegate whose certificate is not sent cannot be known', () => {
  refusal(() => accept(by(delegate, { certs: [] }), material), 'signer_not_authorized');
  refusal(() => accept(by(delegate, { certs: [leaf.certificate] }), material), 'signer_not_authorized');
});

test('rule 3: a delegate without keyUsage is fine; one with keyUsage needs digitalSignature', async () => {
  assert.equal(accept(by(await sign({ keyUsage: 'none' })), material).certStatus, 'good');
  const signer = await sign({ keyUsage: 'keyEncipherment' });
  refusal(() => accept(by(signer), material), 'signer_not_authorized');
});

test('rule 3: id-kp-OCSPSigning counts only as that exact OID', () => {
  const changed = (to: string): ReturnType<typeof by> => by({ certificate: reissued(delegate.certificate, ca.key, OCSP_SIGNING, to), key: delegate.key });
  const timeStamping = '06082b06010505070308';
  const beginsAlike = '06082b0601050507035a'; // 1.3.6.1.5.5.7.3.90
  const anyExtendedKeyUsage = '0604551d250006022a03';
  for (const other of [timeStamping, beginsAlike, anyExtendedKeyUsage]) refusal(() => accept(changed(other), material), 'signer_not_authorized');
});

test('rule 3: a server certificate of the same issuer, and one without extended key usage, have no say', () => {
  refusal(() => accept(by(leaf), material), 'signer_not_authorized');
  const without = reissued(delegate.certificate, ca.key, '0603551d25', '0603551d7f');
  refusal(() => accept(by({ certificate: without, key: delegate.key }), material), 'signer_not_authorized');
});

test('rule 3: a delegate outside its own validity is refused, at its edges it is not', async () => {
  const edges = await sign({ notBefore: at(0), notAfter: at(0) });
  assert.equal(accept(by(edges), material).validUntil, NOW);
  const [expired, early] = [await sign({ notBefore: at(-DAY), notAfter: at(-SECOND) }), await sign({ notBefore: at(SECOND), notAfter: at(DAY) })];
  refusal(() => accept(by(expired), material), 'expired');
  refusal(() => accept(by(early), material), 'not_yet_valid');
});

test('rule 3: a delegate that was valid once is checked again later', async () => {
  const short = await sign({ notBefore: at(-DAY), notAfter: at(DAY) });
  assert.equal(accept(by(short), material).certStatus, 'good');
  refusal(() => accept(by(short), material, { now: NOW + DAY + SECOND }), 'expired');
});

test('rule 3: sub-CAs, their delegates, sibling CAs and their delegates have no say', async () => {
  const sub = await ca.subordinate('Sub CA', lifetime);
  const sibling = await Authority.root('Sibling CA', lifetime);
  const delegates = await Promise.all([sub, sibling].map((authority) => authority.issue({ commonName: 'OCSP', ocspSigning: true, ...lifetime })));
  for (const signer of [sub, sibling, ...delegates]) refusal(() => accept(by(signer), material), 'signer_not_authorized');
  for (const signer of delegates) {
    refusal(() => accept(by(signer, { certs: [signer.certificate, sub.certificate, sibling.certificate, ca.certificate] }), material), 'signer_not_authorized');
  }
});

test('rule 3: a delegate of the root does not speak for an intermediate', async () => {
  const sub = await ca.subordinate('Sub CA', lifetime);
  const { certificate } = await sub.issue({ names: ['www.example.org'], ...lifetime });
  const subject = { leaf: certificate, issuer: sub.certificate };
  const under = { ...material, ca: sub, subject };
  for (const signer of [ca, delegate]) refusal(() => accept(respond(under, { signer, certs: [signer.certificate] }), under), 'signer_not_authorized');
  assert.equal(accept(respond(under), under).certStatus, 'good');
});

test('rule 3: a CA of the same name with another key, and its delegates, have no say', async () => {
  const impostor = await Authority.root('Test CA', lifetime);
  const accomplice = await impostor.issue({ commonName: 'Test OCSP', ocspSigning: true, ...lifetime });
  refusal(() => accept(by(impostor, { responderId: 'byKey' }), material), 'signer_not_authorized');
  refusal(() => accept(by(impostor, { responderId: 'byName' }), material), 'bad_signature');
  for (const responderId of ['byKey', 'byName'] as const) {
    refusal(() => accept(by(accomplice, { responderId }), material), 'signer_not_authorized');
    const certs = [accomplice.certificate, delegate.certificate];
    refusal(() => accept(by(accomplice, { responderId, certs }), material), 'signer_not_authorized');
  }
});

test('rule 3: a delegate issued with the same key under another name is not one of the issuer', async () => {
  const key = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const [named, renamed] = [await Authority.root('Test CA', { key, ...lifetime }), await Authority.root('Renamed CA', { key, ...lifetime })];
  const subject = { leaf: leaf.certificate, issuer: named.certificate };
  const signer = await renamed.issue({ commonName: 'Test OCSP', ocspSigning: true, ...lifetime });
  refusal(() => accept(respond({ ...material, subject }, { signer, certs: [signer.certificate] }), { subject }), 'signer_not_authorized');
});

test('rule 3: responderID must name the certificate whose key verifies', () => {
  const { certificate } = delegate;
  refusal(() => accept(respond(material, { signer: { certificate, key: ca.key }, certs: [certificate] }), material), 'bad_signature');
  refusal(() => accept(respond(material, { signer: { certificate: ca.certificate, key: delegate.key }, certs: [certificate] }), material), 'bad_signature');
});

test('rule 3: two delegates of one name: the one that signed is found, whatever the order', async () => {
  const twin = await sign({});
  for (const certs of [
    [twin.certificate, delegate.certificate],
    [delegate.certificate, twin.certificate],
  ]) {
    assert.equal(accept(by(delegate, { responderId: 'byName', certs }), material).certStatus, 'good');
  }
});

test("rule 3: a delegate's certificate that was changed after it was issued is refused", () => {
  const changed = replaced(delegate.certificate.raw, Buffer.from('Test OCSP').toString('hex'), Buffer.from('Best OCSP').toString('hex'));
  refusal(() => accept(reassembled(by(delegate), { certs: [changed] }), material), 'signer_not_authorized');
});

test('rule 1: garbage among the certificates, which nobody signs, is refused whoever signed: clients cannot read it', () => {
  const garbage = tlv(0x30, Buffer.from('020101', 'hex'));
  refusal(() => accept(reassembled(respond(material), { certs: [garbage] }), material), 'malformed');
  refusal(() => accept(reassembled(by(delegate), { certs: [delegate.certificate.raw, garbage] }), material), 'malformed');
});

test('rule 3: a delegate that names two signature algorithms is malformed', () => {
  const [tbsCertificate, , signature] = readDer(delegate.certificate.raw).children.map(({ der }) => der);
  assert.ok(tbsCertificate && signature);
  const sha384 = Buffer.from('300a06082a8648ce3d040303', 'hex');
  refusal(() => accept(reassembled(by(delegate), { certs: [tlv(0x30, tbsCertificate, sha384, signature)] }), material), 'malformed');
});

test('rule 5: a critical extension of the delegate that is not understood is refused; nocheck may be critical', async () => {
  const extension = (oid: string, critical: boolean): { oid: string; critical: boolean; value: Buffer }[] => [
    { oid, critical, value: Buffer.from('0500', 'hex') },
  ];
  const [unknown, harmless] = [await sign({ extensions: extension('1.2.3.4', true) }), await sign({ extensions: extension('1.2.3.4', false) })];
  refusal(() => accept(by(unknown), material), 'critical_extension');
  assert.equal(accept(by(harmless), material).certStatus, 'good');
  const standIn = await sign({ extensions: extension('1.3.6.1.5.5.7.48.1.77', true) });
  const without = reissued(standIn.certificate, ca.key, '2b0601050507300105', '2b060105050730017f');
  const nocheck = reissued(without, ca.key, '2b060105050730014d', '2b0601050507300105');
  assert.equal(accept(by({ certificate: nocheck, key: standIn.key }), material).certStatus, 'good');
});

test('rule 4: a signature over other bytes does not verify, whoever signed', () => {
  const tampered = resigned(respond(material), generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey, ({ der }) => der);
  refusal(() => accept(tampered, material), 'bad_signature');
});
