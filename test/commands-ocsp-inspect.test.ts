import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import test, { after } from 'node:test';
import { inspect } from '../src/commands/ocsp/inspect.ts';
import { request, type RequestOptions } from '../src/commands/ocsp/request.ts';
import { errorResponse, signResponse } from '../src/demo/ocsp-signer.ts';
import { certIdFor } from '../src/ocsp/cert-id.ts';
import { encodeRequest, parseRequest } from '../src/ocsp/request.ts';
import { at, DAY, entryFor, lifetime, respond, scene, tlv } from './support/ocsp-material.ts';
import { execute, staplegate, temporaryFolder } from './support/program.ts';
import { seeded } from './support/random.ts';
import { needs } from './support/tools.ts';

const folder = await temporaryFolder();
after(() => folder[Symbol.asyncDispose]());
const { file, put } = folder;

const pki = await scene();
const { ca, leaf, delegate, subject } = pki;
const generalizedTime = (text: string): Buffer => tlv(0x18, Buffer.from(text));

test('everything in a response', async () => {
  const der = signResponse({
    signer: delegate,
    producedAt: at(0),
    responderId: 'byName',
    certs: [delegate.certificate],
    nonce: Buffer.alloc(16, 7),
    extensions: [
      { oid: '1.3.6.1.5.5.7.48.1.6', value: generalizedTime('20250101000000Z') },
      { oid: '1.3.6.1.5.5.7.48.1.3', value: tlv(0x30, tlv(0xa0, tlv(0x16, Buffer.from('http://crl.test/'))), tlv(0xa1, tlv(2, Buffer.of(9)))) },
      { oid: '1.2.3.4', critical: true, value: Buffer.of(5, 0) },
    ],
    entries: [
      entryFor(subject, { certStatus: { revokedAt: at(-DAY), reason: 'keyCompromise' } }),
      entryFor(certIdFor(subject, 'sha256'), { nextUpdate: null, extensions: [{ oid: '2.5.29.24', value: generalizedTime('20261101000000Z') }] }),
    ],
  });
  const { ok, json, lines } = await inspect(await put('full.der', der));
  assert.ok(ok);
  const { signature, certs, responses, ...rest } = json as Record<string, Record<string, unknown>[]>;
  assert.deepEqual(rest, {
    type: 'OCSP response',
    size: der.length,
    responseStatus: 'successful',
    responderID: { byName: 'CN=Test OCSP' },
    producedAt: '2026-11-22T12:00:00Z',
    responseExtensions: [
      { extension: 'nonce (1.3.6.1.5.5.7.48.1.2)', critical: false, value: '07'.repeat(16) },
      { extension: 'archive cutoff (1.3.6.1.5.5.7.48.1.6)', critical: false, value: '2025-01-01T00:00:00Z' },
      { extension: 'CRL reference (1.3.6.1.5.5.7.48.1.3)', critical: false, value: 'http://crl.test/, number 09' },
      { extension: '1.2.3.4', critical: true, value: '0500' },
    ],
    signatureAlgorithm: 'ECDSA with SHA-256',
  });
  assert.match(signature as unknown as string, /^30[0-9a-f]+$/);
  const id = certIdFor(subject);
  const { serialNumber } = leaf.certificate;
  assert.deepEqual(responses![0], {
    certID: { hashAlgorithm: 'sha1', issuerNameHash: id.issuerNameHash.toString('hex'), issuerKeyHash: id.issuerKeyHash.toString('hex'), serialNumber },
    certStatus: 'revoked',
    revocationTime: '2026-11-21T12:00:00Z',
    revocationReason: 'keyCompromise',
    thisUpdate: '2026-11-22T11:00:00Z',
    nextUpdate: '2026-11-29T11:00:00Z',
    singleExtensions: [],
  });
  assert.deepEqual(responses![1]!['singleExtensions'], [{ extension: 'invalidity date (2.5.29.24)', critical: false, value: '2026-11-01T00:00:00Z' }]);
  assert.equal(responses![1]!['nextUpdate'], 'not given');
  const { sha256, ...certificate } = certs![0]!;
  assert.equal(sha256, delegate.certificate.fingerprint256.replaceAll(':', '').toLowerCase());
  assert.deepEqual(certificate, {
    subject: 'CN=Test OCSP',
    issuer: 'CN=Test CA',
    serialNumber: delegate.certificate.serialNumber,
    notBefore: lifetime.notBefore.toISOString().replace('.000', ''),
    notAfter: lifetime.notAfter.toISOString().replace('.000', ''),
    publicKey: 'ECDSA P-256',
    signatureAlgorithm: 'ECDSA with SHA-256',
    extendedKeyUsage: ['OCSPSigning'],
    ocspNoCheck: true,
  });
  for (const words of [
    /^OCSP response, \d+ bytes$/,
    /certStatus +revoked/,
    /value +http:\/\/crl\.test\//,
    /extendedKeyUsage +OCSPSigning/,
    /subject +CN=Test OCSP/,
  ]) {
    assert.ok(
      lines.some((line) => words.test(line)),
      `${String(words)} in\n${lines.join('\n')}`,
    );
  }
});

test('an error response, serial numbers with a sign, a certificate that is none', async () => {
  assert.deepEqual((await inspect(await put('error.der', errorResponse('tryLater')))).json, { type: 'OCSP response', size: 5, responseStatus: 'tryLater' });
  for (const [octets, text] of [
    ['00ff', 'FF'],
    ['ff', '-01'],
    ['8000', '-8000'],
    ['0a', '0A'],
  ] as const) {
    const certId = { ...certIdFor(subject), serialNumber: Buffer.from(octets, 'hex') };
    const { json } = await inspect(await put('serial.der', signResponse({ signer: ca, entries: [entryFor(certId)] })));
    assert.equal((json as { responses: { certID: { serialNumber: string } }[] }).responses[0]!.certID.serialNumber, text);
  }
  const odd = respond(pki, { certs: [{ raw: Buffer.of(0x30, 3, 2, 1, 5) } as never] });
  assert.match(JSON.stringify((await inspect(await put('odd.der', odd))).json), /"certs":\[\{"unreadable":"/);
});

test('what is not DER is malformed; nothing else ever happens', async () => {
  const good = respond(pki, { signer: delegate, certs: [delegate.certificate], nonce: Buffer.alloc(8, 1) });
  const random = seeded(7);
  for (let i = 0; i < 400; i += 1) {
    const damaged = Buffer.from(good);
    damaged[Math.floor(random() * damaged.length)]! ^= 1 << Math.floor(random() * 8);
    await inspect(await put('damaged.der', damaged)).catch((error: { code?: string }) => assert.equal(error.code, 'malformed', damaged.toString('hex')));
  }
  for (const bytes of [Buffer.alloc(0), Buffer.from('MIIB'), Buffer.of(0x30, 0x80), leaf.certificate.raw, Buffer.from(leaf.pem)]) {
    await assert.rejects(inspect(await put('wrong', bytes)), { code: 'malformed' });
  }
});

test('the wrong file is called by its name', async () => {
  await assert.rejects(inspect(await put('leaf.der', leaf.certificate.raw)), {
    code: 'malformed',
    message: /leaf\.der holds a certificate, not an OCSP message/,
  });
  await assert.rejects(inspect(await put('leaf.pem', leaf.pem)), { code: 'malformed', message: /holds a CERTIFICATE, not an OCSP message/ });
  const nothing = await staplegate('ocsp', 'inspect', '-');
  assert.equal(nothing.stderr, 'staplegate: malformed: standard input is empty\n');
  const question = await put('request.der', encodeRequest(certIdFor(subject)));
  const asked = await staplegate('ocsp', 'verify', '--issuer', await put('ca.pem', ca.pem), '--response', question);
  assert.match(asked.stdout, /^refused: malformed: .*it begins like an OCSPRequest\n/);
});

test('a reader that leaves early changes no verdict; an output that takes nothing is a failure', async () => {
  const response = await put('good.der', respond(pki));
  const run = (end: string) => execute('bash', ['-c', `${process.execPath} src/main.ts ocsp inspect ${response} ${end}`]);
  assert.equal((await run('| true; exit ${PIPESTATUS[0]}')).code, 0);
  const full = await run('>/dev/full');
  assert.deepEqual([full.code, full.stderr], [1, 'staplegate: standard output cannot be written: ENOSPC: no space left on device, write\n']);
});

test('the command: 1 with the code of what is wrong, JSON of it, and no control characters of strangers', async () => {
  const no = await staplegate('ocsp', 'inspect', await put('junk', Buffer.alloc(20, 0xff)));
  assert.deepEqual([no.code, no.stdout], [1, '']);
  assert.match(no.stderr, /^staplegate: malformed: .+\n$/);
  const json = await staplegate('ocsp', 'inspect', '--json', file('missing'));
  assert.equal(json.code, 1);
  assert.deepEqual(JSON.parse(json.stdout), { result: 'failed', code: 'file_missing', message: `${file('missing')} does not exist` });

  const evil = await ca.issue({ commonName: 'a\u001b[2J\u009bb\nc', ocspSigning: true, ...lifetime });
  const response = await put('evil.der', respond(pki, { signer: evil, certs: [evil.certificate] }));
  const text = await staplegate('ocsp', 'inspect', response);
  assert.match(text.stdout, /subject +CN=a\\x1b\[2J\\x9bb\\x0ac\n/);
  const { stdout } = await staplegate('ocsp', 'inspect', response, '--json');
  assert.doesNotMatch(stdout, /[\x00-\x09\x0b-\x1f\x7f-\x9f]/);
  assert.equal((JSON.parse(stdout) as { certs: { subject: string }[] }).certs[0]!.subject, 'CN=a\u001b[2J\u009bb\nc');
});

test('requests: for openssl, for GET, with either hash and a nonce', needs('openssl'), async () => {
  const files = { issuer: await put('ca.pem', ca.pem), cert: await put('leaf.pem', leaf.pem) };
  const make = async (options: Omit<RequestOptions, 'issuer' | 'cert'>) => {
    const { json } = await request({ ...files, ...options });
    return json as { base64: string; getPath: string; out: string | null };
  };
  for (const hash of ['sha1', 'sha256'] as const) {
    const out = file(`${hash}.req`);
    const { base64, getPath } = await make({ hash, out });
    const der = await readFile(out);
    assert.equal(der.toString('base64'), base64);
    assert.deepEqual(Buffer.from(decodeURIComponent(getPath.slice(1)), 'base64'), der);
    assert.doesNotMatch(getPath.slice(1), /[+/=]/);
    assert.deepEqual(parseRequest(der).certIds, [certIdFor(subject, hash)]);
    const { stdout, code } = await execute('openssl', ['ocsp', '-reqin', out, '-req_text', '-noverify']);
    assert.equal(code, 0);
    assert.match(stdout, new RegExp(`Hash Algorithm: ${hash}\\b[^]*Serial Number: ${leaf.certificate.serialNumber}`));
  }
  const nonces = [await make({ hash: 'sha1', nonce: true }), await make({ hash: 'sha1', nonce: true })].map(
    ({ base64 }) => parseRequest(Buffer.from(base64, 'base64')).nonce,
  );
  assert.equal(nonces[0]?.length, 32);
  assert.notDeepEqual(nonces[0], nonces[1]);

  const shown = await inspect(file('sha256.req'));
  assert.equal(shown.lines[0], `OCSP request, ${(await readFile(file('sha256.req'))).length} bytes`);
  assert.ok(shown.lines.some((line) => /serialNumber/.test(line)));
  assert.equal((await staplegate('ocsp', 'request', '--issuer', files.issuer, '--cert', files.cert, '--hash', 'md5')).code, 2);
  await assert.rejects(request({ issuer: files.cert, cert: files.cert, hash: 'sha1' }), { code: 'issuer_mismatch' });
});
