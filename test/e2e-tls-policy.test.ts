import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import * as net from 'node:net';
import test, { before, type TestContext } from 'node:test';
import * as tls from 'node:tls';
import { domainToASCII, fileURLToPath } from 'node:url';
import { httpBackend } from './support/backend.ts';
import { buildHello, serverNameExtension } from './support/hello.ts';
import { execute, staplegate } from './support/program.ts';
import { Site } from './support/site.ts';
import { needs } from './support/tools.ts';

/** What each TLS policy offers on the wire: suites, groups, application protocols, whose preference counts. */

const versions = { '1.0': '-tls1', '1.1': '-tls1_1', '1.2': '-tls1_2', '1.3': '-tls1_3' };
type Version = keyof typeof versions;

/** The rows of docs/tls.md under `| Cipher suite |`: versions and profiles by suite, in order. */
async function documentedSuites(): Promise<{ suite: string; versions: string[]; profiles: string[] }[]> {
  const text = await readFile(fileURLToPath(new URL('../docs/tls.md', import.meta.url)), 'utf8');
  const rows = [...text.matchAll(/^\| `([A-Z0-9_-]+)` \| ([\d., ]+) \|(.*?)\|(.*?)\|(.*?)\|$/gm)];
  const names = ['modern', 'intermediate', 'old'];
  return rows.map(([, suite, protocols, ...marks]) => ({
    suite: suite!,
    versions: protocols!.split(', '),
    profiles: names.filter((_, index) => marks[index]!.trim() === 'yes'),
  }));
}

/** One program for all tests: a virtual host NAME.test with an RSA and an ECDSA certificate for each policy. */
async function serve(t: TestContext, policies: Record<string, object>): Promise<{ site: Site; port: number; configuration: object }> {
  const site = await Site.create(t);
  const backend = await httpBackend(t, (_, response) => response.end('ok'));
  const names = Object.keys(policies).map((name) => domainToASCII(`${name}.test`));
  const certificates = [
    await site.write('rsa', await site.issue('', { names, keyType: 'rsa' })),
    await site.write('ecdsa', await site.issue('', { names, keyType: 'ecdsa' })),
  ];
  const configuration = {
    workers: 0,
    shutdown_grace: '1s',
    virtual_hosts: Object.entries(policies).map(([name, policy]) => ({ server_name: `${name}.test`, certificates, tls: policy, backends: [backend.url] })),
  };
  const program = await site.serving(configuration);
  return { site, port: program.port(), configuration };
}

let served: Awaited<ReturnType<typeof serve>>;
before(async (t) => {
  served = await serve(t as TestContext, {
    modern: { profile: 'modern' },
    intermediate: { profile: 'intermediate' },
    old: { profile: 'old' },
    own: { ciphers: 'TLS_CHACHA20_POLY1305_SHA256:DHE-RSA-AES128-GCM-SHA256', groups: ['P-521', 'X25519'] },
    h11: { alpn: ['http/1.1'] },
    h10: { alpn: ['http/1.0', 'http/1.1'] },
    silent: { alpn: [] },
    broken: { groups: ['X25519', 'P-255'] },
    bücher: {},
  });
});

interface Offer {
  name: string;
  version: Version;
  /** OpenSSL's cipher list for the version: names, or everything that the client has. */
  suites: readonly string[];
}

/** What `openssl s_client` got. */
async function openssl(
  { name, version, suites }: Offer,
  ...more: string[]
): Promise<{ suite: string | undefined; alert: string | undefined; alpn: string | undefined }> {
  const list = version === '1.3' ? ['-ciphersuites', suites.join(':')] : ['-cipher', `${suites.join(':')}:@SECLEVEL=0`];
  const args = ['s_client', '-connect', `127.0.0.1:${served.port}`, '-servername', `${name}.test`, versions[version], ...list, ...more];
  const { stdout, stderr } = await execute('openssl', args);
  return {
    suite: /^New, .*Cipher is (?!\(NONE\))(\S+)$/m.exec(stdout)?.[1],
    alert: /SSL alert number (\d+)/.exec(stderr)?.[1],
    alpn: /^ALPN protocol: (.*)$/m.exec(stdout)?.[1],
  };
}

/** Every suite that the server takes, in the order of its taking: each one taken is offered no more. */
async function suitesTaken(name: string, version: Version): Promise<string[]> {
  const all =
    version === '1.3'
      ? 'TLS_AES_128_CCM_8_SHA256:TLS_AES_128_CCM_SHA256:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256'
      : 'ALL:COMPLEMENTOFALL';
  const taken: string[] = [];
  for (;;) {
    const suites = version === '1.3' ? all.split(':').filter((suite) => !taken.includes(suite)) : [all, ...taken.map((suite) => `!${suite}`)];
    const { suite } = await openssl({ name, version, suites });
    if (suite === undefined) return taken;
    assert.ok(!taken.includes(suite), suite);
    taken.push(suite);
  }
}

for (const profile of ['modern', 'intermediate', 'old']) {
  test(`${profile} takes the suites that docs/tls.md says, and no others`, needs('openssl'), async () => {
    const documented = await documentedSuites();
    assert.ok(documented.length > 20);
    for (const version of Object.keys(versions) as Version[]) {
      const expected = documented.filter((row) => row.versions.includes(version) && row.profiles.includes(profile)).map(({ suite }) => suite);
      assert.deepEqual((await suitesTaken(profile, version)).sort(), expected.sort(), version);
    }
  });
}

test("the client's order of suites counts in intermediate, the server's in old", needs('openssl'), async () => {
  const strongest = ['ECDHE-ECDSA-AES256-GCM-SHA384', 'ECDHE-ECDSA-AES128-GCM-SHA256'];
  const first = async (name: string, suites: string[]) => (await openssl({ name, version: '1.2', suites })).suite;
  assert.equal(await first('intermediate', strongest), strongest[0]);
  assert.equal(await first('intermediate', strongest.toReversed()), strongest[1]);
  assert.equal(await first('old', strongest), 'ECDHE-ECDSA-AES128-GCM-SHA256');
});

/** The group of a handshake in which the client offers these, or what the server said to it. */
async function group(name: string, groups: string): Promise<string> {
  const socket = tls.connect({ port: served.port, host: '127.0.0.1', servername: `${name}.test`, rejectUnauthorized: false, ecdhCurve: groups });
  try {
    await once(socket, 'secureConnect');
    return (socket.getEphemeralKeyInfo() as { name: string }).name;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? 'failed';
  } finally {
    socket.destroy();
  }
}

test('every profile takes X25519MLKEM768, X25519, P-256 and P-384, post-quantum first', async () => {
  const all = [
    'X25519MLKEM768',
    'X25519',
    'prime256v1',
    'secp384r1',
    'secp521r1',
    'X448',
    'SecP256r1MLKEM768',
    'MLKEM768',
    'ffdhe2048',
    'brainpoolP256r1tls13',
  ];
  for (const profile of ['modern', 'intermediate', 'old']) {
    const taken: string[] = [];
    for (const name of all) if ((await group(profile, name)) === name) taken.push(name);
    assert.deepEqual(taken, all.slice(0, 4), profile);
    // The client sends shares of both.
    assert.equal(await group(profile, 'X25519MLKEM768:X25519'), 'X25519MLKEM768');
  }
});

test('ciphers and groups of a virtual host take the place of the profile’s', needs('openssl'), async () => {
  assert.deepEqual(await suitesTaken('own', '1.3'), ['TLS_CHACHA20_POLY1305_SHA256']);
  assert.deepEqual(await suitesTaken('own', '1.2'), ['DHE-RSA-AES128-GCM-SHA256']);
  assert.equal(await group('own', 'P-521'), 'secp521r1');
  assert.equal(await group('own', 'X25519'), 'X25519');
  assert.match(await group('own', 'P-256'), /HANDSHAKE_FAILURE/);
});

test('the groups of a virtual host are those that openssl, gnutls-cli and curl can agree on', needs('openssl', 'curl', 'gnutls-cli'), async () => {
  const { port, site } = served;
  const at = ['-p', String(port), '127.0.0.1', '--sni-hostname=own.test', '--verify-hostname=own.test', `--x509cafile=${site.ca}`];
  const agreed: Record<string, (group: string) => Promise<boolean>> = {
    openssl: async (group) => {
      const args = ['s_client', '-connect', `127.0.0.1:${port}`, '-servername', 'own.test', '-groups', group];
      return (await execute('openssl', args)).stdout.includes('Server Temp Key');
    },
    gnutls: async (group) => {
      const name = { X25519: 'X25519', 'P-521': 'SECP521R1' }[group] ?? 'SECP256R1';
      return (await execute('gnutls-cli', [...at, `--priority=NORMAL:-GROUP-ALL:+GROUP-${name}`])).stdout.includes('Handshake was completed');
    },
    curl: async (group) => {
      const args = ['-s', '--noproxy', '*', '--cacert', site.ca, '--resolve', `own.test:${port}:127.0.0.1`, '--curves', group, `https://own.test:${port}/`];
      return (await execute('curl', args)).stdout === 'ok';
    },
  };
  for (const [client, agrees] of Object.entries(agreed)) {
    const groups = [];
    for (const group of ['X25519', 'P-521', 'P-256']) if (await agrees(group)) groups.push(group);
    assert.deepEqual(groups, ['X25519', 'P-521'], client);
  }
});

test('ALPN: the order of the setting counts, nothing in common is refused, an empty list answers nothing', needs('openssl', 'curl', 'gnutls-cli'), async () => {
  const offered = async (name: string, protocols: string) => {
    const { alpn, alert } = await openssl({ name, version: '1.3', suites: ['TLS_AES_128_GCM_SHA256'] }, '-alpn', protocols);
    return alpn ?? alert;
  };
  assert.equal(await offered('intermediate', 'http/1.0,http/1.1'), 'http/1.1');
  assert.equal(await offered('intermediate', 'http/1.0'), 'http/1.0');
  assert.equal(await offered('h10', 'http/1.1,http/1.0'), 'http/1.0');
  assert.equal(await offered('h11', 'http/1.1'), 'http/1.1');
  assert.equal(await offered('h11', 'http/1.0,acme-tls/1'), '120', 'no_application_protocol');
  assert.equal(await offered('silent', 'h2,http/1.1'), undefined);

  const { port, site } = served;
  const { stdout } = await execute('gnutls-cli', ['--alpn=http/1.1', '--insecure', '--sni-hostname=h11.test', '--port', String(port), '127.0.0.1']);
  assert.match(stdout, /Application protocol: http\/1\.1/);
  for (const name of ['h11', 'silent']) {
    const args = ['-sSv', '--noproxy', '*', '--cacert', site.ca, '--resolve', `${name}.test:${port}:127.0.0.1`, `https://${name}.test:${port}/`];
    const curl = await execute('curl', args);
    assert.equal(curl.stdout, 'ok', curl.stderr);
    assert.match(curl.stderr, name === 'h11' ? /ALPN: server accepted http\/1\.1/ : /ALPN: server did not agree on a protocol/);
  }
});

test('HTTP/2 is not offered below TLS 1.2 (RFC 9113, 9.2)', needs('openssl'), async () => {
  const chosen = async (version: Version, protocols: string) => {
    const suites = version === '1.3' ? ['TLS_AES_128_GCM_SHA256'] : ['ALL'];
    const { alpn, alert } = await openssl({ name: 'old', version, suites }, '-alpn', protocols);
    return alpn ?? alert;
  };
  for (const version of ['1.2', '1.3'] as const) assert.equal(await chosen(version, 'h2,http/1.1'), 'h2', version);
  for (const version of ['1.0', '1.1'] as const) {
    assert.equal(await chosen(version, 'h2,http/1.1'), 'http/1.1', version);
    assert.equal(await chosen(version, 'h2'), '120', version);
  }
});

test('a broken policy refuses its own virtual host, with internal_error, and no other', needs('openssl'), async () => {
  const { alert } = await openssl({ name: 'broken', version: '1.3', suites: ['TLS_AES_128_GCM_SHA256'] });
  assert.equal(alert, '80');
  assert.equal((await openssl({ name: 'own', version: '1.3', suites: ['TLS_CHACHA20_POLY1305_SHA256'] })).alert, undefined);
  const checked = await staplegate('check', '--config', served.site.file('config.yaml'));
  assert.equal(checked.code, 1);
  assert.match(checked.stdout, /^error: broken\.test: the TLS policy cannot be used \(tls\.groups\): OpenSSL \S+ has no group P-255$/m);
});

test('an internationalized name is asked for by its A-label, in any case; a U-label is no host name', needs('openssl', 'curl'), async () => {
  const { port, site } = served;
  const suites = ['TLS_AES_128_GCM_SHA256'];
  for (const name of ['xn--bcher-kva', 'XN--Bcher-KVA']) assert.equal((await openssl({ name, version: '1.3', suites })).suite, suites[0]);
  const args = ['-sS', '--noproxy', '*', '--cacert', site.ca, '--resolve', `xn--bcher-kva.test:${port}:127.0.0.1`, `https://Bücher.test:${port}/`];
  const curl = await execute('curl', args, { env: { ...process.env, LC_ALL: 'C.UTF-8' } });
  assert.equal(curl.stdout, 'ok', curl.stderr);

  // RFC 6066, 3: ASCII only. Neither guessed at nor served the default.
  const socket = net.connect(port, '127.0.0.1');
  socket.end(buildHello({ extensions: [[0, serverNameExtension(Buffer.from('bücher.test').toString('latin1'))]] }));
  const [alert] = (await once(socket, 'data')) as [Buffer];
  assert.equal(alert.toString('hex'), '15030300020232', 'decode_error');
});

test('no client begins a second handshake on its connection', async () => {
  const options = { port: served.port, host: '127.0.0.1', servername: 'old.test', rejectUnauthorized: false };
  const socket = tls.connect({ ...options, maxVersion: 'TLSv1.2' });
  await once(socket, 'secureConnect');
  const error = await new Promise<NodeJS.ErrnoException | null>((resolve) => {
    socket.once('error', resolve);
    socket.renegotiate({ rejectUnauthorized: false }, resolve);
  });
  assert.equal(error?.code, 'ERR_SSL_NO_RENEGOTIATION');
  socket.destroy();
});
