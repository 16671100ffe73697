import assert from 'node:assert/strict';
import test, { after } from 'node:test';
import { parseMoment } from '../src/commands/ocsp/moment.ts';
import { verify, type VerifyOptions } from '../src/commands/ocsp/verify.ts';
import { Authority } from '../src/demo/authority.ts';
import { errorResponse, signResponse } from '../src/demo/ocsp-signer.ts';
import { certIdFor } from '../src/ocsp/cert-id.ts';
import { at, DAY, entryFor, HOUR, lifetime, MINUTE, NOW, replaced, respond, scene, SECOND, tlv } from './support/ocsp-material.ts';
import { execute, staplegate, temporaryFolder } from './support/program.ts';
import { seeded } from './support/random.ts';

const folder = await temporaryFolder();
after(() => folder[Symbol.asyncDispose]());
const { file, put } = folder;

const pki = await scene();
const { ca, leaf, subject } = pki;
const other = await ca.issue({ names: ['other.example.org'], ...lifetime });
const impostor = await Authority.root('Test CA', lifetime);
const issuer = await put('ca.pem', ca.pem);
const cert = await put('leaf.pem', leaf.pem);
const good = respond(pki);
const response = await put('good.der', good);

interface Verdict {
  result: string;
  code: string | null;
  certStatus: string | null;
  validUntil: string | null;
  warnings: string[];
}

/** At NOW, unless it says otherwise. */
async function judged(options: Partial<VerifyOptions>): Promise<Verdict & { exit: number; first: string }> {
  const { ok, lines, json } = await verify({ issuer, cert, response, at: NOW, ...options });
  return { ...(json as Verdict), exit: ok ? 0 : 1, first: lines[0] ?? '' };
}

async function refused(code: string, options: Partial<VerifyOptions>): Promise<void> {
  const verdict = await judged(options);
  assert.deepEqual([verdict.exit, verdict.result, verdict.code], [1, 'refused', code], verdict.first);
  assert.ok(verdict.first.startsWith(`refused: ${code}: `), verdict.first);
}

test('a response that would be stapled, in every form in which its files may come', async () => {
  const base64 = good.toString('base64').replace(/.{64}/g, '$&\n');
  const forms: Partial<VerifyOptions>[] = [
    {},
    { cert: undefined },
    { cert: await put('leaf.der', leaf.certificate.raw), issuer: await put('ca.der', ca.certificate.raw) },
    { cert: await put('chain.pem', `a comment\r\n${leaf.pem}${ca.pem}`.replaceAll('\n', '\r\n')) },
    { issuer: await put('bundle.pem', impostor.pem + other.pem + ca.pem) },
    { response: await put('good.pem', `-----BEGIN OCSP RESPONSE-----\n${base64}\n-----END OCSP RESPONSE-----\n`) },
    { response: await put('good.b64', `${base64}\n`) },
  ];
  for (const form of forms) {
    const { exit, result, code, certStatus, validUntil, first } = await judged(form);
    assert.deepEqual([exit, result, code, certStatus], [0, 'good', null, 'good'], first);
    assert.equal(validUntil, '2026-11-29T11:00:00Z');
    assert.equal(first, 'good: valid until 2026-11-29T11:00:00Z');
  }
});

test('every refusal has the code that the server logs', async () => {
  const delegate = { signer: { certificate: pki.delegate.certificate, key: pki.delegate.key }, certs: [pki.delegate.certificate] };
  const cases: [code: string, der: Uint8Array, options?: Partial<VerifyOptions>][] = [
    ['malformed', Buffer.alloc(0)],
    ['malformed', Buffer.concat([good, Buffer.of(0)])],
    ['malformed', good.subarray(0, -1)],
    ['malformed', Buffer.from('<html>Welcome to the hotel network</html>')],
    ['malformed', Buffer.from(leaf.pem)],
    ['malformed', leaf.certificate.raw],
    ['too_large', Buffer.concat([good, Buffer.alloc(65_536)])],
    ['response_status', errorResponse('unauthorized')],
    ['no_matching_entry', respond({ ...pki, subject: { ...subject, leaf: other.certificate } })],
    ['signer_not_authorized', respond(pki, { signer: impostor })],
    ['bad_signature', replaced(good, '32303236', '32303235')],
    ['critical_extension', respond(pki, { extensions: [{ oid: '1.2.3.4', critical: true, value: Buffer.of(5, 0) }] })],
    ['not_yet_valid', good, { at: NOW - 2 * HOUR }],
    ['expired', good, { at: NOW + 8 * DAY }],
    ['too_old', good, { maxAge: 10 * MINUTE }],
    ['no_next_update', respond(pki, { entry: { nextUpdate: null } }), { noNextUpdate: 0 }],
    ['weak_signature', respond(pki, { digest: 'sha1' }), { refuseSha1: true }],
    ['status_revoked', respond(pki, { ...delegate, entry: { certStatus: { revokedAt: at(-DAY) } } })],
    ['status_unknown', respond(pki, { entry: { certStatus: 'unknown' } })],
  ];
  for (const [code, der, options] of cases) await refused(code, { response: await put('case.der', der), ...options });
});

test('the limits are inclusive and each has its option', async () => {
  for (const [exit, offset] of [
    [0, 7 * DAY - HOUR],
    [1, 7 * DAY - HOUR + SECOND],
  ] as const) {
    assert.equal((await judged({ at: NOW + offset })).exit, exit, `nextUpdate, ${offset}`);
  }
  assert.equal((await judged({ at: NOW - HOUR - 5 * MINUTE })).exit, 0, 'the skew');
  assert.equal((await judged({ at: NOW - HOUR - 5 * MINUTE - SECOND })).code, 'not_yet_valid');
  assert.equal((await judged({ at: NOW - HOUR - 5 * MINUTE, clockSkew: 0 })).code, 'not_yet_valid');
  const endless = await put('endless.der', respond(pki, { entry: { nextUpdate: null } }));
  assert.equal((await judged({ response: endless, at: NOW - HOUR + DAY })).exit, 0, 'a day without nextUpdate');
  assert.equal((await judged({ response: endless, at: NOW - HOUR + DAY + SECOND })).code, 'expired');
  assert.equal((await judged({ response: endless, at: NOW - HOUR + DAY + SECOND, noNextUpdate: 2 * DAY })).exit, 0);
  assert.deepEqual((await judged({ response: await put('sha1.der', respond(pki, { digest: 'sha1' })) })).warnings, ['weak_signature']);
});

test('the end of the certificate counts when it is named', async () => {
  const short = await ca.issue({ names: ['short.example.org'], notBefore: at(-DAY), notAfter: at(DAY) });
  const options = {
    cert: await put('short.pem', short.pem),
    response: await put('short.der', respond({ ...pki, subject: { ...subject, leaf: short.certificate } })),
  };
  assert.equal((await judged({ ...options, at: NOW + 2 * DAY })).code, 'expired');
  assert.equal((await judged({ ...options, cert: undefined, at: NOW + 2 * DAY })).exit, 0);
});

test('without a certificate the response must be about exactly one of the issuer', async () => {
  const sign = (...entries: Parameters<typeof entryFor>[]) =>
    signResponse({ signer: ca, producedAt: at(-HOUR), entries: entries.map((entry) => entryFor(...entry)) });
  const second = { leaf: other.certificate, issuer: ca.certificate };
  const foreign = { leaf: other.certificate, issuer: impostor.certificate };
  const write = (der: Buffer) => put('several.der', der);
  await refused('several_certificates', { cert: undefined, response: await write(sign([subject], [second])) });
  await refused('several_certificates', { cert: undefined, response: await write(sign([subject], [certIdFor(second, 'sha256')])) });
  await refused('no_matching_entry', { cert: undefined, response: await write(sign([foreign])) });
  await refused('no_matching_entry', { cert: undefined, issuer: await put('impostor.pem', impostor.pem) });
  // RFC 9919: one certificate, named by both hashes.
  assert.equal((await judged({ cert: undefined, response: await write(sign([certIdFor(subject, 'sha256')], [subject])) })).exit, 0);
  assert.equal((await judged({ cert: undefined, response: await write(sign([foreign], [subject])) })).exit, 0);
  // With the certificate, an entry about another hides nothing.
  const hidden = sign([second], [subject, { certStatus: { revokedAt: at(-DAY) } }]);
  await refused('status_revoked', { response: await write(hidden) });
  await refused('several_certificates', { cert: undefined, response: await write(hidden) });
  // The worse of two entries about it.
  await refused('status_revoked', {
    cert: undefined,
    response: await write(sign([subject], [certIdFor(subject, 'sha256'), { certStatus: { revokedAt: at(-DAY) } }])),
  });
});

test('a certificate of another issuer is not judged by its serial number', async () => {
  const { serialNumber } = leaf.certificate;
  const twin = await impostor.issue({ names: ['www.example.org'], serialNumber: Buffer.from(serialNumber, 'hex'), ...lifetime });
  await refused('issuer_mismatch', { cert: await put('twin.pem', twin.pem) });
  await refused('issuer_mismatch', { cert: issuer });
});

test('what cannot be read is refused with its code', async () => {
  await put('empty', '');
  await put('key.pem', leaf.keyPem);
  await put('cut.pem', leaf.pem.slice(0, 200));
  await put('binary', Buffer.from(Array.from({ length: 3000 }, (_, i) => (i * 7919) % 256)));
  await put('huge', Buffer.alloc(1024 * 1024 + 1));
  const { code } = await execute('mkfifo', [file('pipe')]);
  assert.equal(code, 0);
  const certificates = { missing: 'file_missing', empty: 'file_empty', 'key.pem': 'certificate_not_found', 'cut.pem': 'pem_truncated' };
  const more = { binary: 'certificate_malformed', 'good.der': 'certificate_malformed', huge: 'file_too_large', pipe: 'file_empty', '.': 'file_is_directory' };
  for (const [name, expected] of Object.entries({ ...certificates, ...more, 'leaf.pem/x': 'file_missing' })) {
    await refused(expected, { cert: file(name) });
    await refused(expected, { issuer: file(name) });
  }
  const responses = {
    missing: 'file_missing',
    empty: 'malformed',
    'key.pem': 'malformed',
    binary: 'malformed',
    huge: 'too_large',
    pipe: 'malformed',
    '.': 'file_is_directory',
  };
  for (const [name, expected] of Object.entries(responses)) await refused(expected, { response: file(name) });
  await refused('file_not_regular', { response: '/dev/zero' });
});

test('no damage to any file is accepted, and none is more than a refusal', async () => {
  const random = seeded(2026);
  for (let i = 0; i < 300; i += 1) {
    const damaged = Buffer.from(good);
    damaged[Math.floor(random() * damaged.length)]! ^= 1 << Math.floor(random() * 8);
    const verdict = await judged({ response: await put('damaged.der', damaged.subarray(0, i % 3 === 0 ? Math.floor(random() * damaged.length) : undefined)) });
    assert.equal(verdict.exit, 1, damaged.toString('hex'));
  }
  for (let i = 0; i < 100; i += 1) {
    const damaged = Buffer.from(leaf.certificate.raw);
    damaged[Math.floor(random() * damaged.length)]! ^= 1 << Math.floor(random() * 8);
    assert.equal((await judged({ cert: await put('damaged.crt', damaged) })).exit, 1, damaged.toString('hex'));
  }
});

test('the command: exit codes, the first line, JSON', async () => {
  const options = ['--issuer', issuer, '--cert', cert, '--response', response];
  const when = ['--at', '2026-11-22T12:00:00Z'];
  const yes = await staplegate('ocsp', 'verify', ...options, ...when);
  assert.deepEqual([yes.code, yes.stderr], [0, '']);
  assert.match(yes.stdout, /^good: valid until 2026-11-29T11:00:00Z\n {2}certStatus +good\n/);
  const no = await staplegate('ocsp', 'verify', ...options, '--at', '20261201000000Z', '--json');
  assert.equal(no.code, 1);
  const { result, code, message, ...facts } = JSON.parse(no.stdout) as Record<string, unknown>;
  assert.deepEqual([result, code, message], ['refused', 'expired', 'the response ran out at 2026-11-29T11:00:00.000Z']);
  const keys = 'certStatus revocationTime revocationReason thisUpdate nextUpdate producedAt validUntil signer hashAlgorithm warnings';
  assert.equal(Object.keys(facts).join(' '), keys);
  const piped = await execute(process.execPath, ['src/main.ts', 'ocsp', 'verify', '--issuer', issuer, '--response', '-', ...when], { input: good });
  assert.equal(piped.code, 0, piped.stderr);
  const shell = `cat ${response} | ${process.execPath} src/main.ts ocsp verify --issuer ${issuer} --response <(sleep 0.2; cat ${response}) ${when.join(' ')}`;
  assert.equal((await execute('bash', ['-c', shell])).code, 0);
});

test('the command: settings as the configuration spells them, and -1', async () => {
  const options = ['ocsp', 'verify', '--issuer', issuer, '--response', file('endless.der'), '--at', String(NOW / 1000)];
  await put('endless.der', respond(pki, { entry: { nextUpdate: null } }));
  for (const [more, code] of [
    [['--max-age', '-1', '--no-next-update', '61m', '--clock-skew', '0', '--refuse-sha1'], 0],
    [['--no-next-update', '59m'], 1],
    [['--max-age', '59m'], 1],
  ] as const) {
    assert.equal((await staplegate(...options, ...more)).code, code, more.join(' '));
  }
});

test('the command: wrong usage exits 2 and says what is right', async () => {
  const nameless = await staplegate('ocsp', 'verify', '--issuer', '', '--response', response);
  assert.equal(nameless.code, 2);
  assert.equal(
    nameless.stderr,
    "error: option '--issuer <file>' argument '' is invalid. It must be the name of a file.\n(see staplegate ocsp verify --help)\n",
  );
  const options = ['ocsp', 'verify', '--issuer', issuer, '--response', response];
  for (const [args, words] of [
    [['ocsp', 'verify', '--response', response], /--issuer/],
    [[...options, '--at', '2026-02-30'], /must be a time such as/],
    [[...options, '--max-age', '-2'], /or -1 for no limit/],
    [[...options, '--no-next-update', 'soon'], /must be a duration/],
    [[...options, 'extra'], /too many arguments/],
    [['ocsp', 'verfy'], /unknown command/],
    [['ocsp'], /Usage/],
  ] as const) {
    const { code, stderr } = await staplegate(...args);
    assert.equal(code, 2, args.join(' '));
    assert.match(stderr, words);
    assert.doesNotMatch(stderr, /\n\s+at /);
  }
});

test('a time with a zone, or none at all', () => {
  const noon = Date.UTC(2026, 10, 22, 12);
  for (const [text, time] of [
    ['2026-11-22T12:00:00Z', noon],
    ['2026-11-22t12:00z', noon],
    ['2026-11-22 12:00:00.25Z', noon + 250],
    ['2026-11-22T13:30:00+01:30', noon],
    ['2026-11-22T07:00:00-0500', noon],
    ['2026-11-22T14:00+02', noon],
    ['2026-11-22', noon - 12 * HOUR],
    [String(noon / 1000), noon],
    ['0', 0],
    ['20261122120000Z', noon],
    ['2024-02-29', Date.UTC(2024, 1, 29)],
  ] as const) {
    assert.equal(parseMoment(text), time, text);
  }
  const wrong = [
    '',
    'now',
    '2026-11-22T12:00:00',
    '2026-02-29',
    '2026-11-22T24:00:00Z',
    '2026-11-22T12:60Z',
    '20261122120000',
    '2026-13-01',
    '-1',
    '2026-11-22T12:00:00+25:00',
    '2026-11-22Z',
    '20260230000000Z',
    ' 0',
    '1e9',
    '2026',
  ];
  for (const text of wrong) assert.equal(parseMoment(text), undefined, text);
});

test('a DER response is taken as it is, whatever text it holds', async () => {
  const text = Buffer.from(`-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----`);
  const der = respond(pki, { extensions: [{ oid: '1.2.3.4', value: tlv(0x0c, text) }] });
  assert.equal((await judged({ response: await put('text.der', der) })).exit, 0);
});
