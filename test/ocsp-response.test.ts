import assert from 'node:assert/strict';
import test from 'node:test';
import { errorResponse } from '../src/demo/ocsp-signer.ts';
import { certIdFor } from '../src/ocsp/cert-id.ts';
import { readDer } from '../src/ocsp/der.ts';
import { parseResponse } from '../src/ocsp/response.ts';
import { at, basicResponseOf, DAY, HOUR, NOW, refusal, replaced, resigned, respond, scene, tlv, wrapped } from './support/ocsp-material.ts';

const material = await scene();
const { ca, delegate, subject } = material;
const good = respond(material);

const hex = (text: string): Buffer => Buffer.from(text, 'hex');

test('every field is read under its name of RFC 6960', () => {
  const der = respond(material, {
    signer: delegate,
    certs: [delegate.certificate],
    responderId: 'byName',
    nonce: Buffer.alloc(16, 1),
    entry: { certStatus: { revokedAt: at(-DAY), reason: 'keyCompromise' }, extensions: [{ oid: '1.3.6.1.5.5.7.48.1.6', value: hex('0500') }] },
  });
  const { responseStatus, basicResponse } = parseResponse(der);
  assert.ok(basicResponse);
  const { responderId, producedAt, responses, responseExtensions, signatureAlgorithm, certs, tbsResponseData } = basicResponse;
  assert.equal(responseStatus, 'successful');
  assert.ok('byName' in responderId && responderId.byName.includes('Test OCSP'));
  assert.equal(producedAt, NOW - HOUR);
  assert.deepEqual(responses, [
    {
      certId: certIdFor(subject),
      certStatus: 'revoked',
      revocation: { time: NOW - DAY, reason: 'keyCompromise' },
      thisUpdate: NOW - HOUR,
      nextUpdate: NOW + 7 * DAY - HOUR,
      singleExtensions: [{ extnId: '1.3.6.1.5.5.7.48.1.6', critical: false, extnValue: hex('0500') }],
    },
  ]);
  assert.deepEqual(
    responseExtensions.map(({ extnId }) => extnId),
    ['1.3.6.1.5.5.7.48.1.2'],
  );
  assert.equal(signatureAlgorithm.algorithm, '1.2.840.10045.4.3.2');
  assert.deepEqual(
    certs.map(({ der }) => der),
    [delegate.certificate.raw],
  );
  assert.deepEqual(tbsResponseData, basicResponseOf(der).children[0]?.der);
});

test('error statuses are read by name', () => {
  for (const status of ['malformedRequest', 'internalError', 'tryLater', 'sigRequired', 'unauthorized'] as const) {
    assert.deepEqual(parseResponse(errorResponse(status)), { responseStatus: status, basicResponse: undefined });
  }
});

test('rule 1: an error status with an answer, success without one, and undefined statuses are malformed', () => {
  refusal(() => parseResponse(replaced(good, '0a0100a0', '0a0103a0')), 'malformed');
  refusal(() => parseResponse(hex('30030a0100')), 'malformed');
  refusal(() => parseResponse(hex('30030a0104')), 'malformed');
  refusal(() => parseResponse(hex('30030a0107')), 'malformed');
});

test('rule 1: a response of another type than id-pkix-ocsp-basic is malformed', () => {
  refusal(() => parseResponse(replaced(good, '06092b0601050507300101', '06092b0601050507300109')), 'malformed');
});

test('rule 1: bytes after the response, inside or outside, are malformed', () => {
  const basicResponse = basicResponseOf(good).der;
  assert.doesNotThrow(() => parseResponse(wrapped(basicResponse)));
  refusal(() => parseResponse(Buffer.concat([good, hex('00')])), 'malformed');
  refusal(() => parseResponse(Buffer.concat([good, good])), 'malformed');
  refusal(() => parseResponse(wrapped(Buffer.concat([basicResponse, hex('0500')]))), 'malformed');
  refusal(() => parseResponse(tlv(0x30, readDer(good).content, hex('0500'))), 'malformed');
  refusal(() => parseResponse(wrapped(tlv(0x30, basicResponseOf(good).content, hex('0500')))), 'malformed');
  const [status, responseBytes] = readDer(good).children;
  assert.ok(status && responseBytes);
  refusal(() => parseResponse(tlv(0x30, status.der, tlv(0xa0, responseBytes.content, hex('0500')))), 'malformed');
  refusal(() => parseResponse(tlv(0x30, status.der, tlv(0xa0))), 'malformed');
});

test('BER where DER is due is malformed', () => {
  const content = readDer(good).content;
  const twoOctets = Buffer.alloc(2);
  twoOctets.writeUInt16BE(content.length);
  const bers = {
    'indefinite length': Buffer.concat([hex('3080'), content, hex('0000')]),
    'length with a leading zero octet': Buffer.concat([hex('308300'), twoOctets, content]),
    'long form for a short length': hex('3081030a0103'),
    'constructed OCTET STRING': tlv(0x30, hex('0a0100'), tlv(0xa0, tlv(0x30, hex('06092b0601050507300101'), tlv(0x24, tlv(0x04, basicResponseOf(good).der))))),
    'BOOLEAN 01': hex('3003010101'),
    'BOOLEAN of two octets': hex('300401020000'),
    'INTEGER with a needless 00': hex('300402020001'),
    'INTEGER with a needless ff': hex('30040202ff80'),
    'empty INTEGER': hex('30020200'),
    'NULL with content': hex('3003050100'),
    'unused bits that are set': hex('300403020101'),
    'eight unused bits': hex('300403020800'),
    'BIT STRING without its count': hex('30020300'),
    'OBJECT IDENTIFIER that is cut off': hex('30030601aa'),
    'OBJECT IDENTIFIER with a padded arc': hex('300506032a8001'),
    'empty OBJECT IDENTIFIER': hex('30020600'),
    'end-of-contents': hex('30020000'),
    'primitive SEQUENCE': hex('1000'),
    'tag number in further octets': hex('30039f0100'),
    'length of five octets': hex('30850000000001'),
  };
  for (const [what, bytes] of Object.entries(bers)) {
    assert.throws(() => readDer(bytes), { name: 'OcspRefusal', code: 'malformed' }, what);
    assert.throws(() => parseResponse(bytes), { name: 'OcspRefusal', code: 'malformed' }, what);
  }
});

test('values at the edges of DER are read', () => {
  for (const value of [
    '0101ff',
    '010100',
    '020100',
    '020180',
    '02020080',
    '0202ff7f',
    '0500',
    '030100',
    '03020780',
    '06022a03',
    '0603883703',
    '0c00',
    '3000',
    'a000',
    '8000',
  ]) {
    assert.equal(readDer(hex(value)).der.toString('hex'), value);
  }
});

test('nesting and the number of values are bounded, and nothing overflows the stack', () => {
  const nested = (depth: number): Buffer => {
    const bytes = Buffer.alloc(2 * depth);
    for (let level = 0; level < depth; level++) bytes.set([0x30, 0x80], 2 * level);
    return bytes;
  };
  let deep: Buffer = hex('0500');
  for (let level = 0; level < 5000; level++) deep = tlv(0x30, deep);
  refusal(() => readDer(deep), 'malformed');
  refusal(() => readDer(nested(100_000)), 'malformed');
  const octets = Array.from({ length: 5000 }).reduce<Buffer>((inner) => tlv(0x04, inner), hex('0500'));
  refusal(() => parseResponse(wrapped(octets)), 'malformed');
  refusal(() => readDer(tlv(0x30, Buffer.alloc(2 * 60_000, hex('0500')))), 'malformed');
});

test('times have one form: YYYYMMDDHHMMSSZ of a day that exists', () => {
  const time = (text: string): string => tlv(0x18, Buffer.from(text)).toString('hex');
  const withProducedAt = (text: string): Buffer => {
    const before = hex(time('20261122110000Z')); // producedAt comes first
    return resigned(good, ca.key, ({ children }) => {
      const parts = children.map(({ der }) => (der.equals(before) ? hex(time(text)) : der));
      return tlv(0x30, ...parts);
    });
  };
  assert.equal(parseResponse(withProducedAt('20240229235959Z')).basicResponse?.producedAt, Date.UTC(2024, 1, 29, 23, 59, 59));
  assert.equal(parseResponse(withProducedAt('99991231235959Z')).basicResponse?.producedAt, Date.UTC(9999, 11, 31, 23, 59, 59));
  const wrong = [
    '20261122110000.5Z',
    '20261122110000',
    '202611221100Z',
    '20261122110000+0100',
    '20260230110000Z',
    '20261122240000Z',
    '20261122110060Z',
    '2026112211000 Z',
    '',
  ];
  for (const text of wrong) refusal(() => parseResponse(withProducedAt(text)), 'malformed');
});

test('version 1 may be spelt out, other versions are malformed', () => {
  const withVersion = (version: string): Buffer => resigned(good, ca.key, ({ content }) => tlv(0x30, hex(version), content));
  assert.equal(parseResponse(withVersion('a003020100')).responseStatus, 'successful');
  refusal(() => parseResponse(withVersion('a003020101')), 'malformed');
});

test('two extensions of one kind are malformed', () => {
  const extension = { oid: '1.2.3.4', value: hex('0500') };
  refusal(() => parseResponse(respond(material, { extensions: [extension, extension] })), 'malformed');
  refusal(() => parseResponse(respond(material, { entry: { extensions: [extension, extension] } })), 'malformed');
});

test('a CRLReason without a name is kept as its number', () => {
  const revoked = respond(material, { entry: { certStatus: { revokedAt: at(-DAY), reason: 'superseded' } } });
  const reason = (value: string): string | undefined =>
    parseResponse(replaced(revoked, 'a0030a0104', `a0030a01${value}`)).basicResponse?.responses[0]?.revocation?.reason;
  assert.deepEqual(['04', '07', '0a', '7f'].map(reason), ['superseded', '7', 'aACompromise', '127']);
});

test('a signature with unused bits is malformed', () => {
  const [tbs, algorithm] = basicResponseOf(good).children;
  assert.ok(tbs && algorithm);
  refusal(() => parseResponse(wrapped(tlv(0x30, tbs.der, algorithm.der, hex('03020780')))), 'malformed');
});

test('an OBJECT IDENTIFIER with arcs beyond 2⁵³ is read exactly', () => {
  const algorithm = (arcs: string): string | undefined =>
    parseResponse(respond(material, { extensions: [{ oid: arcs, value: hex('0500') }] })).basicResponse?.responseExtensions[0]?.extnId;
  for (const arcs of ['2.25.329800735698586629295641978511506172918', '2.999.1', '0.9.2342.19200300.100.1.25', '1.39.1']) assert.equal(algorithm(arcs), arcs);
});

test('an OBJECT IDENTIFIER of 64 KB costs nothing and fills no message', () => {
  const type = Buffer.concat([Buffer.alloc(64_000, 0x81), Buffer.of(1)]);
  const der = tlv(0x30, tlv(0x0a, Buffer.of(0)), tlv(0xa0, tlv(0x30, tlv(0x06, type), tlv(0x04))));
  assert.throws(() => parseResponse(der), { code: 'malformed', message: 'an OBJECT IDENTIFIER is too long' });
});
