import assert from 'node:assert/strict';
import { rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
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
  const file = path.join(folder.path, 'clients.pem');
  const { pem } = await Authority.root('clients');
  await writeFile(file, pem);
  assert.deepEqual(await readClientAuthorities(requiring(file), new Map()), { authorities: new Map([[file, pem]]), problems: [] });
  const off = configOf({ backends, tls: { client_auth: { mode: 'none', ca: file } } });
  assert.deepEqual((await readClientAuthorities(off, new Map())).authorities, new Map());
});

test('a file that cannot be used names itself, the cause and the setting; what was read before stays', async () => {
  await using folder = await temporaryFolder();
  const file = path.join(folder.path, 'clients.pem');
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
    const fresh = await readClientAuthorities(requiring(file), new Map());
    assert.equal(fresh.authorities.size, 0, 'nobody is let in by default');
    const [problem] = fresh.problems;
    assert.partialDeepStrictEqual(problem, { virtualHost: 'a.test', severity: 'error', code: 'client_authority' });
    assert.ok(problem?.message.startsWith(`${file} cannot be used (tls.client_auth.ca): `), problem?.message);
    assert.match(problem?.message ?? '', cause);

    const kept = await readClientAuthorities(requiring(file), new Map([[file, 'earlier']]));
    assert.deepEqual(kept.authorities, new Map([[file, 'earlier']]));
    assert.match(kept.problems[0]?.message ?? '', /cannot be used \(tls\.client_auth\.ca\), what was read before stays in force: /);
  }
});

test('a policy that the TLS library refuses is found before a client meets it', async () => {
  const { problems } = await readClientAuthorities(configOf({ backends, tls: { ciphers: 'NOSUCHCIPHER' } }), new Map());
  assert.partialDeepStrictEqual(problems, [{ virtualHost: 'a.test', severity: 'error', code: 'tls_policy' }]);
  assert.match(problems[0]?.message ?? '', /^the TLS policy cannot be used \(tls\.ciphers\): .*no cipher match/);
});
