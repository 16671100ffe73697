import assert from 'node:assert/strict';
import test from 'node:test';
import { errorResponse } from '../src/demo/ocsp-signer.ts';
import { certIdFor } from '../src/ocsp/cert-id.ts';
import { accept, at, DAY, entryFor, HOUR, lifetime, MINUTE, NOW, policy, refusal, respond, scene, SECOND } from './support/ocsp-material.ts';

const material = await scene();
const { ca, delegate, subject } = material;
const other = { leaf: (await ca.issue({ names: ['other.example.org'], ...lifetime })).certificate, issuer: ca.certificate };
const shortLived = {
  ...material,
  subject: { leaf: (await ca.issue({ names: ['short.example.org'], notBefore: at(-DAY), notAfter: at(DAY) })).certificate, issuer: ca.certificate },
};
const revoked = { revokedAt: at(-DAY), reason: 'keyCompromise' } as const;

test('a good, current, authorised response becomes a staple', () => {
  const der = respond(material);
  assert.deepEqual(accept(der, material), {
    der,
    certStatus: 'good',
    producedAt: NOW - HOUR,
    thisUpdate: NOW - HOUR,
    nextUpdate: NOW + 7 * DAY - HOUR,
    validUntil: NOW + 7 * DAY - HOUR,
    signer: { name: 'CN=Test CA', delegated: false },
    hashAlgorithm: 'sha1',
    warnings: [],
  });
});

test('a staple keeps the bytes that were verified, whatever happens to the buffer they came in', () => {
  const der = respond(material);
  const copy = Buffer.from(der);
  const staple = accept(der, material);
  der.fill(0);
  assert.deepEqual(staple.der, copy);
});

test('rule 1: a response larger than the limit is refused before it is read', () => {
  const der = respond(material);
  assert.equal(accept(der, material, { maxResponseSize: der.length }).certStatus, 'good');
  refusal(() => accept(der, material, { maxResponseSize: der.length - 1 }), 'too_large');
  refusal(() => accept(Buffer.alloc(65_537), material), 'too_large');
});

test('rule 1: an error status is refused and named', () => {
  const { responseStatus, message } = refusal(() => accept(errorResponse('tryLater'), material), 'response_status');
  assert.equal(responseStatus, 'tryLater');
  assert.match(message, /tryLater/);
});

test('rule 2: the entry is found by its whole CertID, wherever it stands', () => {
  const others = [entryFor(other, { certStatus: revoked }), entryFor(other)];
  assert.equal(accept(respond(material, { entries: [...others, entryFor(subject)] }), material).certStatus, 'good');
  refusal(() => accept(respond(material, { entries: others }), material), 'no_matching_entry');
  refusal(() => accept(respond(material, { entries: [] }), material), 'no_matching_entry');
});

test('rule 2: a good entry about another certificate does not hide a revoked one (CVE-2026-3832)', () => {
  refusal(() => accept(respond(material, { entries: [entryFor(other), entryFor(subject, { certStatus: revoked })] }), material), 'status_revoked');
});

test('rule 2: the same serial number of another issuer is not a match', async () => {
  const id = certIdFor(subject);
  for (const field of ['issuerNameHash', 'issuerKeyHash'] as const) {
    const foreign = { ...id, [field]: Buffer.alloc(20, 1) };
    refusal(() => accept(respond(material, { entries: [entryFor(foreign)] }), material), 'no_matching_entry');
  }
  refusal(() => accept(respond(material, { entries: [entryFor({ ...id, hashAlgorithm: 'sha256' })] }), material), 'no_matching_entry');
});

test('rule 2: SHA-1 and SHA-256 CertIDs are both known, alone and together (RFC 9919)', () => {
  const [sha1, sha256] = [certIdFor(subject, 'sha1'), certIdFor(subject, 'sha256')].map((id) => entryFor(id)) as [
    ReturnType<typeof entryFor>,
    ReturnType<typeof entryFor>,
  ];
  assert.equal(accept(respond(material, { entries: [sha1] }), material).hashAlgorithm, 'sha1');
  assert.equal(accept(respond(material, { entries: [sha256] }), material).hashAlgorithm, 'sha256');
  assert.equal(accept(respond(material, { entries: [sha1, sha256] }), material).certStatus, 'good');
  assert.equal(accept(respond(material, { entries: [sha256, sha1] }), material).certStatus, 'good');
});

test('rule 2: of two matching entries that disagree the worse counts, in either order', () => {
  const ids = [certIdFor(subject, 'sha1'), certIdFor(subject, 'sha256')];
  const worse = [
    ['good', revoked, 'status_revoked'],
    ['good', 'unknown', 'status_unknown'],
    ['unknown', revoked, 'status_revoked'],
  ] as const;
  for (const [a, b, code] of worse) {
    for (const statuses of [
      [a, b],
      [b, a],
    ]) {
      const entries = ids.map((id, index) => entryFor(id, { certStatus: statuses[index] ?? 'good' }));
      refusal(() => accept(respond(material, { entries }), material), code);
    }
  }
});

test('rule 2: of two matching entries both must be current, and the earlier end counts', () => {
  const entries = (nextUpdate: Date): ReturnType<typeof entryFor>[] => [entryFor(subject), entryFor(certIdFor(subject, 'sha256'), { nextUpdate })];
  assert.equal(accept(respond(material, { entries: entries(at(HOUR)) }), material).validUntil, NOW + HOUR);
  refusal(() => accept(respond(material, { entries: entries(at(-MINUTE)) }), material), 'expired');
});

test('rule 2: negative and over-long serial numbers', async () => {
  for (const serial of ['80', 'ff'.padEnd(50, '1'), '7f'.repeat(30)]) {
    const { certificate } = await ca.issue({ names: ['odd.example.org'], serialNumber: Buffer.from(serial, 'hex'), ...lifetime });
    const odd = { leaf: certificate, issuer: ca.certificate };
    assert.equal(accept(respond(material, { entries: [entryFor(odd)] }), { subject: odd }).certStatus, 'good', serial);
    refusal(() => accept(respond(material, { entries: [entryFor(odd)] }), material), 'no_matching_entry');
  }
});

test('rule 5: a critical extension in the response or the entry is refused, others are ignored', () => {
  for (const critical of [true, false]) {
    const extensions = [{ oid: '1.2.3.4', critical, value: Buffer.from('0500', 'hex') }];
    for (const der of [respond(material, { extensions }), respond(material, { entry: { extensions } })]) {
      if (critical) refusal(() => accept(der, material), 'critical_extension');
      else assert.equal(accept(der, material).certStatus, 'good');
    }
  }
});

test('rule 5: a critical extension of an entry about another certificate does not matter', () => {
  const extensions = [{ oid: '1.2.3.4', critical: true, value: Buffer.from('0500', 'hex') }];
  assert.equal(accept(respond(material, { entries: [entryFor(other, { extensions }), entryFor(subject)] }), material).certStatus, 'good');
});

test('a nonce that was sent must come back as it was; none, or one not asked for, is fine', () => {
  const [nonce, wrong] = [Buffer.alloc(32, 1), Buffer.alloc(32, 2)];
  assert.equal(accept(respond(material, { nonce }), material, { nonce }).certStatus, 'good');
  assert.equal(accept(respond(material), material, { nonce }).certStatus, 'good');
  assert.equal(accept(respond(material, { nonce: wrong }), material).certStatus, 'good');
  refusal(() => accept(respond(material, { nonce: wrong }), material, { nonce }), 'nonce_mismatch');
});

test('rule 6: producedAt and thisUpdate may lie in the future by the clock skew and no more', () => {
  const skew = policy.clockSkew;
  assert.equal(accept(respond(material, { producedAt: at(skew) }), material).certStatus, 'good');
  assert.equal(accept(respond(material, { entry: { thisUpdate: at(skew) } }), material).certStatus, 'good');
  refusal(() => accept(respond(material, { producedAt: at(skew + SECOND) }), material), 'not_yet_valid');
  refusal(() => accept(respond(material, { entry: { thisUpdate: at(skew + SECOND) } }), material), 'not_yet_valid');
  refusal(() => accept(respond(material, { producedAt: at(SECOND) }), material, { clockSkew: 0 }), 'not_yet_valid');
});

test('rule 6: a response is good up to nextUpdate itself; the clock skew gives nothing on top', () => {
  assert.equal(accept(respond(material, { entry: { nextUpdate: at(0) } }), material).validUntil, NOW);
  const { message } = refusal(() => accept(respond(material, { entry: { nextUpdate: at(-SECOND) } }), material), 'expired');
  assert.match(message, /the response ran out at 2026-11-22T11:59:59.000Z/);
});

test('rule 6: nextUpdate before thisUpdate is malformed', () => {
  const entry = { thisUpdate: at(2 * MINUTE), nextUpdate: at(MINUTE) };
  refusal(() => accept(respond(material, { entry }), material), 'malformed');
});

test('rule 6: without nextUpdate a response is usable for ocsp.no_next_update after thisUpdate, and not at all with 0', () => {
  const respondAged = (age: number): Buffer => respond(material, { entry: { thisUpdate: at(-age), nextUpdate: null } });
  const staple = accept(respondAged(HOUR), material);
  assert.deepEqual([staple.nextUpdate, staple.validUntil], [undefined, NOW - HOUR + DAY]);
  assert.equal(accept(respondAged(DAY), material).validUntil, NOW);
  assert.match(refusal(() => accept(respondAged(DAY + SECOND), material), 'expired').message, /ocsp\.no_next_update/);
  refusal(() => accept(respondAged(0), material, { noNextUpdate: 0 }), 'no_next_update');
});

test('rule 6: ocsp.max_age bounds the age and the life of a response; -1 does not', () => {
  const der = respond(material);
  assert.equal(accept(der, material, { maxAge: HOUR }).validUntil, NOW);
  assert.equal(accept(der, material, { maxAge: DAY }).validUntil, NOW - HOUR + DAY);
  refusal(() => accept(der, material, { maxAge: HOUR - 1 }), 'too_old');
  refusal(() => accept(der, material, { maxAge: 0 }), 'too_old');
  assert.equal(accept(der, material, { maxAge: -1 }).certStatus, 'good');
});

test('rule 7: revoked is refused and carries the verified response that says so', () => {
  const der = respond(material, { entry: { certStatus: revoked } });
  const { revoked: staple, message } = refusal(() => accept(der, material), 'status_revoked');
  assert.deepEqual(staple?.revocation, { time: NOW - DAY, reason: 'keyCompromise' });
  assert.deepEqual([staple?.certStatus, staple?.der], ['revoked', der]);
  assert.match(message, /2026-11-21T12:00:00.000Z, reason keyCompromise/);
});

test('rule 7: a revoked response that fails another check is refused for that, without the response', () => {
  const expired = respond(material, { entry: { certStatus: revoked, nextUpdate: at(-SECOND) } });
  assert.equal(refusal(() => accept(expired, material), 'expired').revoked, undefined);
  const forged = respond(material, { signer: delegate, responderId: 'byName', entry: { certStatus: revoked } });
  assert.equal(refusal(() => accept(forged, material), 'signer_not_authorized').revoked, undefined);
});

test('rule 7: unknown is refused', () => {
  refusal(() => accept(respond(material, { entry: { certStatus: 'unknown' } }), material), 'status_unknown');
});

test("rule 8: a nextUpdate after the certificate's own end is fine, and the staple ends with the certificate", () => {
  const der = respond(shortLived, { entry: { nextUpdate: at(400 * DAY) } });
  assert.equal(accept(der, shortLived).validUntil, NOW + DAY);
});

test('a certificate that has run out gets no staple', () => {
  const der = respond(shortLived, { entry: { nextUpdate: at(400 * DAY) } });
  refusal(() => accept(der, shortLived, { now: NOW + DAY + 1 }), 'expired');
});

test("a staple ends with its signer's certificate", async () => {
  const short = await ca.issue({ commonName: 'Short OCSP', ocspSigning: true, notBefore: at(-DAY), notAfter: at(DAY) });
  const der = respond(material, { signer: short, certs: [short.certificate] });
  assert.equal(accept(der, material).validUntil, NOW + DAY);
});

test('every refusal has a message for the log and no stack of ours in it', () => {
  const { message, name } = refusal(() => accept(Buffer.from('not an OCSP response'), material), 'malformed');
  assert.equal(name, 'OcspRefusal');
  assert.doesNotMatch(message, /\n|\.ts/);
});
