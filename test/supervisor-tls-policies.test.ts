import assert from 'node:assert/strict';
import { rm, writeFile } from 'node:fs/promises';
import test from 'node:test';
import { Authority } from '../src/demo/authority.ts';
import { readClientAuthorities } from '../src/supervisor/tls-policies.ts';
import { configOf } from './support/config.ts';
import { temporaryFolder } from './support/program.ts';

const backends = ['http://127.0.0.1:1'];

function requiring(ca: string) {
  return configOf({ backends, tls: { client_auth: { mode: 'require', ca } } });
}

test('authorities for client certificates are read once and kept by their path', async () => {
  await using folder = await temporaryFolder();
  const file = folder.file('clients.pem');
  const { pem } = await Authority.root('clients');
  await writeFile(file, pem);
  assert.deepEqual(readClientAuthorities(requiring(file), new Map()), { authorities: new Map([[file, pem]]), problems: [] });
  const off = configOf({ backends, tls: { client_auth: { mode: 'none', ca: file } } });
  assert.deepEqual(readClientAuthorities(off, new Map()).authorities, new Map());
});

test('a file that cannot be used names itself, the cause and the setting; what was read before stays', async () => {
  await using folder = await temporaryFolder();
  const file = folder.file('clients.pem');
  const { pem, keyPem } = await Authority.root('clients');
  const damaged = '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n';
  const cases: [content: string | undefined, cause: RegExp][] = [
    [undefined, /does not exist/],
    ['', /is empty/],
    [keyPem, /holds no certificate/],
    [pem.slice(0, -40), /the block "CERTIFICATE" has no end/],
    // Of this one, the TLS library would take the first certificate and be content.
    [pem + damaged, /certificate 2 of 2 cannot be parsed: the file is damaged/],
  ];
  for (const [content, cause] of cases) {
    await rm(file, { force: true });
    if (content !== undefined) await writeFile(file, content);
    const fresh = readClientAuthorities(requiring(file), new Map());
    assert.equal(fresh.authorities.size, 0, 'nobody is let in by default');
    const [problem] = fresh.problems;
    assert.partialDeepStrictEqual(problem, { virtualHost: 'a.test', severity: 'error', code: 'client_authority' });
    assert.ok(problem?.message.startsWith(`${file} cannot be used (tls.client_auth.ca): `), problem?.message);
    assert.match(problem?.message ?? '', cause);

    const kept = readClientAuthorities(requiring(file), new Map([[file, 'earlier']]));
    assert.deepEqual(kept.authorities, new Map([[file, 'earlier']]));
    assert.match(kept.problems[0]?.message ?? '', /cannot be used \(tls\.client_auth\.ca\), what was read before stays in force: /);
  }
});

const problemsOf = (tls: object) => readClientAuthorities(configOf({ backends, tls }), new Map()).problems;

test('a policy that the TLS library refuses is found before a client meets it, with its setting', async () => {
  const [problem, ...others] = problemsOf({ ciphers: 'NOSUCHCIPHER' });
  assert.deepEqual(others, []);
  assert.partialDeepStrictEqual(problem, { virtualHost: 'a.test', severity: 'error', code: 'tls_policy' });
  assert.match(problem?.message ?? '', /^the TLS policy cannot be used \(tls\.ciphers\): .*no cipher match/);
  assert.match(problemsOf({ ciphers: 'TLS_NO_SUCH_SUITE' })[0]?.message ?? '', /\(tls\.ciphers\): .*no cipher match/);

  const groups = problemsOf({ groups: ['X25519', 'P-255', 'X25518'] });
  assert.deepEqual(
    groups.map(({ severity, message }) => `${severity}: ${message}`),
    [`error: the TLS policy cannot be used (tls.groups): OpenSSL ${process.versions.openssl} has no group P-255, X25518`],
  );
});

test('a policy that the TLS library accepts without doing what it says is warned of', async () => {
  const warnings = async (tls: object) => problemsOf(tls).map(({ severity, message }) => `${severity}: ${message}`);
  assert.deepEqual(await warnings({ ciphers: 'ECDHE-RSA-AES128-GCM-SHA256:DES-CBC3-SHA:!aNULL' }), [
    `warn: OpenSSL ${process.versions.openssl} has no cipher suite DES-CBC3-SHA; it is left out (tls.ciphers)`,
  ]);
  const noEffect = (lowest: string, min: string) =>
    `warn: no cipher suite works below ${lowest}, so tls.min_version ${min} has no effect (tls.profile, tls.ciphers)`;
  assert.deepEqual(await warnings({ profile: 'modern', min_version: 'TLSv1.2' }), [noEffect('TLSv1.3', 'TLSv1.2')]);
  assert.deepEqual(await warnings({ min_version: 'TLSv1' }), [noEffect('TLSv1.2', 'TLSv1')]);
  assert.deepEqual(await warnings({ min_version: 'TLSv1', ciphers: 'HIGH' }), []);
  for (const profile of ['modern', 'intermediate', 'old']) assert.deepEqual(await warnings({ profile }), []);
});

test('a policy is tried once, however many virtual hosts have it, and each of them is told', async () => {
  const hosts = Array.from({ length: 3 }, (_, index) => ({ server_name: `${index}.test`, certificates: [{ certificate: 'a.pem', key: 'a.key' }], backends }));
  const { problems } = readClientAuthorities(configOf({}, { virtual_hosts: hosts, tls: { ciphers: 'NOSUCHCIPHER' } }), new Map());
  assert.deepEqual(
    problems.map(({ virtualHost }) => virtualHost),
    ['0.test', '1.test', '2.test'],
  );
});
