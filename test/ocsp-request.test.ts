import assert from 'node:assert/strict';
import test from 'node:test';
import { certIdFor } from '../src/ocsp/cert-id.ts';
import { encodeRequest, getPath, nonceOf, parseRequest } from '../src/ocsp/request.ts';
import { refusal, scene, tlv } from './support/ocsp-material.ts';

const { subject } = await scene();
const id = certIdFor(subject);

test('what is encoded is read back, with both hashes and with a nonce', () => {
  for (const hash of ['sha1', 'sha256'] as const) {
    const certId = certIdFor(subject, hash);
    const { certIds, nonce, requestExtensions } = parseRequest(encodeRequest(certId));
    assert.deepEqual([certIds, nonce, requestExtensions], [[certId], undefined, []]);
  }
  const nonce = Buffer.alloc(32, 7);
  assert.deepEqual(parseRequest(encodeRequest(id, { nonce })).nonce, nonce);
});

test('the nonce is an OCTET STRING inside the extension value (RFC 9654 2.1)', () => {
  const nonce = Buffer.alloc(32, 7);
  const [extension] = parseRequest(encodeRequest(id, { nonce })).requestExtensions;
  assert.deepEqual(extension, { extnId: '1.3.6.1.5.5.7.48.1.2', critical: false, extnValue: tlv(0x04, nonce) });
});

test('a nonce without the inner OCTET STRING, as older peers write it, is taken as it is', () => {
  const extnId = '1.3.6.1.5.5.7.48.1.2';
  for (const bare of ['', '04', '0409', 'aabbcc', '0402aabbcc']) {
    const extnValue = Buffer.from(bare, 'hex');
    assert.deepEqual(nonceOf([{ extnId, critical: false, extnValue }]), extnValue, bare);
  }
});

test('the GET path is base64, then percent-encoded: no slash, plus or equals sign survives (RFC 6960 A.1)', () => {
  assert.equal(getPath(Buffer.from('fbefbeff', 'hex')), '%2B%2B%2B%2B%2Fw%3D%3D');
  const path = getPath(encodeRequest(id));
  assert.match(path, /^[A-Za-z0-9%]+$/);
  assert.deepEqual(Buffer.from(decodeURIComponent(path), 'base64'), encodeRequest(id));
});

test('requests that are not strict DER, or not requests, are malformed', () => {
  const request = encodeRequest(id);
  const broken = [
    Buffer.alloc(0),
    request.subarray(0, -1),
    Buffer.concat([request, Buffer.of(0)]),
    tlv(0x30),
    tlv(0x30, tlv(0x30)),
    tlv(0x31, request.subarray(2)),
  ];
  for (const bytes of broken) refusal(() => parseRequest(bytes), 'malformed');
});
