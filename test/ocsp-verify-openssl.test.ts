import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { after } from 'node:test';
import { promisify } from 'node:util';
import { Authority, type AuthorityKeyType } from '../src/demo/authority.ts';
import { type ResponseToSign, signResponse } from '../src/demo/ocsp-signer.ts';
import { certIdFor, type CertIdHash } from '../src/ocsp/cert-id.ts';
import { encodeRequest, parseRequest } from '../src/ocsp/request.ts';
import { acceptResponse } from '../src/ocsp/verify.ts';
import { DAY, policy, refusal } from './support/ocsp-material.ts';
import { needs } from './support/tools.ts';

/** The same questions and answers, made and read by `openssl ocsp`. It knows no other time than the present. */

const run = promisify(execFile);
const folder = await mkdtemp(join(tmpdir(), 'staplegate-ocsp-'));
after(() => rm(folder, { recursive: true }));
const file = (name: string): string => join(folder, name);
const openssl = async (...words: string[]): Promise<string> => {
  const { stdout, stderr } = await run('openssl', ['ocsp', ...words], { cwd: folder });
  return stdout + stderr;
};

async function material(keyType: AuthorityKeyType) {
  const ca = await Authority.root('OpenSSL test CA', { keyType });
  const leaf = await ca.issue({ names: ['www.example.org'], keyType });
  const delegate = await ca.issue({ commonName: 'OpenSSL test OCSP', ocspSigning: true, keyType });
  const pems = {
    [`${keyType}-ca.pem`]: ca.pem,
    [`${keyType}-leaf.pem`]: leaf.pem,
    [`${keyType}-ocsp.pem`]: delegate.pem,
    [`${keyType}-ocsp.key`]: delegate.keyPem,
  };
  await Promise.all(Object.entries(pems).map(([name, pem]) => writeFile(file(name), pem)));
  return { ca, leaf, delegate, subject: { leaf: leaf.certificate, issuer: ca.certificate } };
}

const ecdsa = await material('ecdsa');
const rsa = await material('rsa');
const { subject } = ecdsa;

for (const hash of ['sha1', 'sha256'] satisfies CertIdHash[]) {
  test(`our request with a ${hash} CertID is, byte for byte, the one that openssl makes`, needs('openssl'), async () => {
    await openssl(`-${hash}`, '-issuer', 'ecdsa-ca.pem', '-cert', 'ecdsa-leaf.pem', '-no_nonce', '-reqout', `${hash}.der`);
    assert.deepEqual(encodeRequest(certIdFor(subject, hash)), await readFile(file(`${hash}.der`)));
  });
}

test('openssl reads our request and its nonce, and we read those of openssl', needs('openssl'), async () => {
  const nonce = Buffer.from('00112233445566778899aabbccddeeff', 'hex');
  await writeFile(file('nonce.der'), encodeRequest(certIdFor(subject), { nonce }));
  const text = await openssl('-reqin', 'nonce.der', '-req_text');
  assert.match(text, new RegExp(`Serial Number: ${subject.leaf.serialNumber}`));
  assert.match(text, /OCSP Nonce:\s+0410\s?00112233445566778899AABBCCDDEEFF/);
  await openssl('-issuer', 'ecdsa-ca.pem', '-cert', 'ecdsa-leaf.pem', '-reqout', 'theirs.der');
  const theirs = parseRequest(await readFile(file('theirs.der')));
  assert.deepEqual([theirs.certIds, theirs.nonce?.length], [[certIdFor(subject)], 16]);
});

/** The response of `openssl ocsp` as a responder for one certificate. */
async function openSslResponse(keyType: 'ecdsa' | 'rsa', state: 'V' | 'R' | '', ...options: string[]): Promise<Buffer> {
  const { leaf } = keyType === 'rsa' ? rsa : ecdsa;
  const [index, request, response] = ['txt', 'request', 'response'].map((end) => `${keyType}-${state}-${options.join('')}.${end}`) as [string, string, string];
  const revocation = state === 'R' ? '261101000000Z,keyCompromise' : '';
  await writeFile(file(index), state === '' ? '' : `${state}\t491231000000Z\t${revocation}\t${leaf.certificate.serialNumber}\tunknown\t/CN=www.example.org\n`);
  await writeFile(file(request), encodeRequest(certIdFor({ leaf: leaf.certificate, issuer: (keyType === 'rsa' ? rsa : ecdsa).ca.certificate })));
  const signer = ['-CA', `${keyType}-ca.pem`, '-rsigner', `${keyType}-ocsp.pem`, '-rkey', `${keyType}-ocsp.key`];
  await openssl('-index', index, ...signer, '-reqin', request, '-respout', response, ...options);
  return readFile(file(response));
}

const now = (): typeof policy => ({ ...policy, now: Date.now() });

test('we accept what openssl signs, with and without nextUpdate, byName and byKey, with each signature algorithm', needs('openssl'), async () => {
  assert.equal(acceptResponse(await openSslResponse('ecdsa', 'V', '-ndays', '7'), subject, now()).signer.delegated, true);
  assert.equal(acceptResponse(await openSslResponse('ecdsa', 'V', '-ndays', '7', '-resp_key_id'), subject, now()).certStatus, 'good');
  assert.equal(acceptResponse(await openSslResponse('ecdsa', 'V'), subject, now()).nextUpdate, undefined);
  for (const options of [
    [],
    ['-rmd', 'sha512'],
    ['-rsigopt', 'rsa_padding_mode:pss'],
    ['-rsigopt', 'rsa_padding_mode:pss', '-rsigopt', 'rsa_pss_saltlen:max'],
  ]) {
    assert.equal(acceptResponse(await openSslResponse('rsa', 'V', '-ndays', '7', ...options), rsa.subject, now()).certStatus, 'good', options.join(' '));
  }
});

test('we refuse what openssl calls revoked or unknown', needs('openssl'), async () => {
  const revoked = await openSslResponse('ecdsa', 'R', '-ndays', '7');
  const { revocation } = refusal(() => acceptResponse(revoked, subject, now()), 'status_revoked').revoked ?? {};
  assert.deepEqual(revocation, { time: Date.UTC(2026, 10, 1), reason: 'keyCompromise' });
  const unknown = await openSslResponse('ecdsa', '', '-ndays', '7');
  refusal(() => acceptResponse(unknown, subject, now()), 'status_unknown');
});

test('openssl verifies what the demo signs', needs('openssl'), async () => {
  for (const [keyType, { ca, delegate, subject }] of Object.entries({ ecdsa, rsa })) {
    const past = new Date(Date.now() - 1000);
    const entries = [{ certId: subject, thisUpdate: past, nextUpdate: new Date(Date.now() + DAY) }];
    const responses: ResponseToSign[] = [
      { signer: ca, producedAt: past, entries },
      { signer: delegate, certs: [delegate.certificate], responderId: 'byName', producedAt: past, entries },
      ...(keyType === 'rsa' ? [{ signer: ca, producedAt: past, entries, digest: 'sha512', pssSaltLength: 64 } as const] : []),
    ];
    for (const [number, response] of responses.entries()) {
      const name = `ours-${keyType}-${number}.der`;
      await writeFile(file(name), signResponse(response));
      const certificates = ['-issuer', `${keyType}-ca.pem`, '-cert', `${keyType}-leaf.pem`, '-CAfile', `${keyType}-ca.pem`];
      const text = await openssl('-respin', name, ...certificates, '-no_nonce');
      assert.match(text, /Response verify OK/, name);
      assert.match(text, /leaf\.pem: good/, name);
    }
  }
});
