import assert from 'node:assert/strict';
import test from 'node:test';
import { readDer } from '../src/ocsp/der.ts';
import { OcspRefusal } from '../src/ocsp/refusal.ts';
import { encodeRequest, parseRequest } from '../src/ocsp/request.ts';
import { parseResponse } from '../src/ocsp/response.ts';
import type { Staple } from '../src/ocsp/verify.ts';
import { certIdFor } from '../src/ocsp/cert-id.ts';
import { accept, at, basicResponseOf, DAY, entryFor, refusal, respond, scene, tlv } from './support/ocsp-material.ts';
import { seeded } from './support/random.ts';

const material = await scene();
const { ca, delegate, leaf, subject } = material;

/** By a delegate, with two entries, an extension and two certificates that play no part. */
const good = respond(material, {
  signer: delegate,
  responderId: 'byName',
  certs: [ca.certificate, delegate.certificate, leaf.certificate],
  entries: [entryFor(certIdFor(subject, 'sha256')), entryFor(subject, { extensions: [{ oid: '1.2.3', value: Buffer.of(5, 0) }] })],
});
const revoked = respond(material, { entry: { certStatus: { revokedAt: at(-DAY), reason: 'superseded' } } });

/** What a response was taken to say: a staple, accepted or in a refusal, or undefined. Throws for anything but an OcspRefusal. */
function taken(der: Uint8Array): Staple | undefined {
  try {
    return accept(der, material);
  } catch (error) {
    if (error instanceof OcspRefusal) return error.revoked;
    throw error;
  }
}

const meaning = ({ der, ...rest }: Staple): unknown => ({ ...rest, signed: basicResponseOf(der).children[0]?.der.toString('hex') });

/** Every mutation must be refused, or mean what the original means (a bit in a certificate that plays no part). */
function checkAll(original: Buffer, mutations: Iterable<Buffer>): { accepted: number; refused: number } {
  const expected = taken(original);
  assert.ok(expected);
  const counts = { accepted: 0, refused: 0 };
  for (const mutation of mutations) {
    const staple = taken(mutation);
    counts[staple === undefined ? 'refused' : 'accepted']++;
    if (staple !== undefined) assert.deepEqual(meaning(staple), meaning(expected), mutation.toString('hex'));
  }
  return counts;
}

function* bitFlips(original: Buffer): Generator<Buffer> {
  for (let bit = 0; bit < original.length * 8; bit++) {
    const copy = Buffer.from(original);
    copy[bit >> 3] = (copy[bit >> 3] as number) ^ (1 << (bit & 7));
    yield copy;
  }
}

function* cuts(original: Buffer): Generator<Buffer> {
  for (let offset = 0; offset < original.length; offset++) {
    yield original.subarray(0, offset);
    yield original.subarray(offset + 1);
    yield Buffer.concat([original.subarray(0, offset), original.subarray(offset + 1)]);
  }
}

function* insertions(original: Buffer, random: () => number): Generator<Buffer> {
  for (let offset = 0; offset <= original.length; offset++) {
    for (const octets of [Buffer.of(0), Buffer.of(5, 0), Buffer.of(Math.floor(random() * 256))]) {
      yield Buffer.concat([original.subarray(0, offset), octets, original.subarray(offset)]);
    }
  }
}

/** Pieces of two responses put together, as a parser that loses its place would see them. */
function* splices(a: Buffer, b: Buffer, random: () => number, count: number): Generator<Buffer> {
  for (let round = 0; round < count; round++) {
    const at = (bytes: Buffer): number => Math.floor(random() * bytes.length);
    yield Buffer.concat([a.subarray(0, at(a)), b.subarray(at(b))]);
  }
}

for (const [name, original] of Object.entries({ good, revoked })) {
  test(`no bit of a ${name} response can be flipped to make it say something else`, () => {
    const { accepted, refused } = checkAll(original, bitFlips(original));
    assert.ok(refused > original.length && (name === 'revoked' ? accepted === 0 : accepted < refused), JSON.stringify({ accepted, refused }));
  });

  test(`a ${name} response cut anywhere is refused`, () => {
    assert.equal(checkAll(original, cuts(original)).accepted, 0);
  });

  test(`a ${name} response with something put in anywhere is refused`, () => {
    assert.equal(checkAll(original, insertions(original, seeded(1))).accepted, 0);
  });
}

test('every value of a response left out, doubled or exchanged for its neighbour, with correct lengths, changes nothing or is refused', () => {
  const response = respond(material, { signer: delegate, certs: [delegate.certificate], nonce: Buffer.alloc(8, 1) });
  const mutations: Buffer[] = [];
  const rebuild = (bytes: Buffer, wrap: (changed: Buffer) => Buffer): void => {
    const { tag, children } = readDer(bytes);
    const parts = children.map(({ der }) => der);
    for (const [index, part] of parts.entries()) {
      const replace = (...by: Buffer[]): Buffer => wrap(tlv(tag, ...parts.toSpliced(index, 1, ...by)));
      mutations.push(replace(), replace(part, part), wrap(tlv(tag, ...parts.toSpliced(index, 2, ...parts.slice(index, index + 2).toReversed()))));
      if ((part[0] as number) & 0x20) rebuild(part, replace);
      else if (part[0] === 0x04 && index === 1 && part.length > 200) rebuild(readDer(part).content, (changed) => replace(tlv(0x04, changed)));
    }
  };
  rebuild(response, (changed) => changed);
  assert.ok(mutations.length > 200, String(mutations.length));
  checkAll(
    response,
    mutations.filter((mutation) => !mutation.equals(response)),
  );
});

test('pieces of a good and a revoked response never make a third', () => {
  const random = seeded(2);
  for (const splice of splices(good, revoked, random, 3000)) assert.equal(taken(splice), undefined);
  for (const splice of splices(revoked, good, random, 3000)) assert.equal(taken(splice), undefined);
});

test('no input makes a parser throw anything but OcspRefusal', () => {
  const random = seeded(3);
  const request = encodeRequest(certIdFor(subject), { nonce: Buffer.alloc(16, 1) });
  const openings = [good, revoked, request, Buffer.alloc(0)];
  for (let round = 0; round < 10_000; round++) {
    const noise = Buffer.from(Array.from({ length: Math.floor(random() * 60) }, () => Math.floor(random() * 256)));
    const opening = openings[round % openings.length] as Buffer;
    const bytes = Buffer.concat([opening.subarray(0, Math.floor(random() * opening.length)), noise]);
    for (const parse of [parseResponse, parseRequest, readDer]) {
      try {
        parse(bytes);
      } catch (error) {
        assert.ok(error instanceof OcspRefusal && error.code === 'malformed', String(error));
      }
    }
    taken(bytes);
  }
});

test('every single bit of the certificates in a signed response may be wrong without anything but a refusal', () => {
  const { raw } = delegate.certificate;
  for (const changed of bitFlips(raw)) {
    const staple = taken(respondedWith(changed));
    assert.equal(staple, undefined);
  }
});

const byDelegate = respond(material, { signer: delegate, certs: [delegate.certificate] });

function respondedWith(certificate: Buffer): Buffer {
  const index = byDelegate.indexOf(delegate.certificate.raw);
  return Buffer.concat([byDelegate.subarray(0, index), certificate, byDelegate.subarray(index + certificate.length)]);
}

test('an answer as deep or as wide as its size allows is refused at once', () => {
  const size = 65_536;
  const deep = Array.from({ length: 1000 }).reduce<Buffer>((inner) => tlv(0x30, inner), Buffer.of(5, 0));
  for (const bytes of [
    deep,
    Buffer.alloc(size, 0x30),
    Buffer.alloc(size, 0xa0),
    Buffer.alloc(size, 0x24),
    tlv(0x30, Buffer.alloc(size - 8, Buffer.of(5, 0))),
  ]) {
    refusal(() => accept(bytes, material), 'malformed');
  }
});
