import assert from 'node:assert/strict';
import { rm, writeFile } from 'node:fs/promises';
import test from 'node:test';
import { stringify } from 'yaml';
import { check } from '../src/commands/check.ts';
import { Authority } from '../src/demo/authority.ts';
import { backendFileNames, readBackendFiles } from '../src/supervisor/backend-files.ts';
import { configOf, type Keys } from './support/config.ts';
import { temporaryFolder } from './support/program.ts';

const naming = (backendTls: Keys) => configOf({ routes: [{ path: '/', backends: ['https://a.test'], backend_tls: backendTls }] });

test('what routes with https backends name is read, once, and kept by its path', async () => {
  await using folder = await temporaryFolder();
  const root = await Authority.root('backends');
  const pair = await root.issue({ names: ['proxy.test'] });
  const [ca, certificate, key] = ['ca.pem', 'proxy.pem', 'proxy.key'].map(folder.file) as [string, string, string];
  await writeFile(ca, root.pem);
  await writeFile(certificate, pair.chainPem);
  await writeFile(key, pair.keyPem);
  const config = naming({ ca, certificate, key });
  assert.deepEqual(readBackendFiles(config, new Map()), {
    files: new Map([
      [ca, root.pem],
      [certificate, pair.chainPem],
      [key, pair.keyPem],
    ]),
    problems: [],
  });
  assert.deepEqual(backendFileNames(config), [ca, certificate, key]);
});

test('a file that cannot be used names itself, the cause and the setting; what was read before stays', async () => {
  await using folder = await temporaryFolder();
  const ca = folder.file('ca.pem');
  const { pem, keyPem } = await Authority.root('backends');
  const cases: [content: string | undefined, cause: RegExp][] = [
    [undefined, /does not exist/],
    [keyPem, /holds no certificate/],
    [`${pem}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n`, /certificate 2 of 2 cannot be parsed/],
  ];
  for (const [content, cause] of cases) {
    await rm(ca, { force: true });
    if (content !== undefined) await writeFile(ca, content);
    const fresh = readBackendFiles(naming({ ca }), new Map());
    assert.equal(fresh.files.size, 0);
    const [problem, ...others] = fresh.problems;
    assert.deepEqual(others, []);
    assert.partialDeepStrictEqual(problem, { virtualHost: 'a.test', severity: 'error', code: 'backend_tls_file' });
    assert.ok(problem?.message.startsWith(`${ca} cannot be used (virtual_hosts[].routes[].backend_tls.ca): `), problem?.message);
    assert.match(problem?.message ?? '', cause);
    const kept = readBackendFiles(naming({ ca }), new Map([[ca, 'earlier']]));
    assert.deepEqual(kept.files, new Map([[ca, 'earlier']]));
    assert.match(kept.problems[0]?.message ?? '', /cannot be used \(.*\.ca\), what was read before stays in force: /);
  }
});

test('a certificate and the key of another one are not used, nor is one of them without the other', async () => {
  await using folder = await temporaryFolder();
  const root = await Authority.root('backends');
  const [one, two] = [await root.issue({ names: ['proxy.test'] }), await root.issue({ names: ['proxy.test'] })];
  const [certificate, key] = ['proxy.pem', 'proxy.key'].map(folder.file) as [string, string];
  await writeFile(certificate, one.chainPem);
  await writeFile(key, two.keyPem);
  const known = new Map([
    [certificate, 'earlier certificate'],
    [key, 'earlier key'],
  ]);
  const { files, problems } = readBackendFiles(naming({ certificate, key }), known);
  assert.deepEqual(files, known);
  const [problem] = problems;
  assert.match(
    problem?.message ?? '',
    /proxy\.pem with \/.*proxy\.key cannot be used \(.*backend_tls\.certificate\), what was read before stays in force: .*key values mismatch/,
  );
  assert.doesNotMatch(problem?.message ?? '', /PRIVATE KEY/);
  await rm(key);
  assert.equal(readBackendFiles(naming({ certificate, key }), new Map()).files.size, 0);
});

test('`staplegate check` finds it before a start does', async () => {
  await using folder = await temporaryFolder();
  const root = await Authority.root('sites');
  const site = await root.issue({ names: ['a.test'] });
  await folder.put('a.pem', site.chainPem);
  await writeFile(folder.file('a.key'), site.keyPem, { mode: 0o600 });
  const file = folder.file('config.yaml');
  const routes = [{ backends: ['https://app.test'], backend_tls: { ca: 'ca.pem' } }];
  const certificates = [{ certificate: 'a.pem', key: 'a.key' }];
  await writeFile(file, stringify({ listen: [{ address: '127.0.0.1:0' }], virtual_hosts: [{ server_name: 'a.test', certificates, routes }] }));
  const { lines, ok } = await check(file);
  assert.equal(ok, false);
  assert.match(lines.join('\n'), /^error: a\.test: .*ca\.pem cannot be used \(.*backend_tls\.ca\): .*does not exist/m);
  await folder.put('ca.pem', root.pem);
  assert.doesNotMatch((await check(file)).lines.join('\n'), /backend_tls/);
});
