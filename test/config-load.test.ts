import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'node:test';
import { ConfigError } from '../src/config/config-error.ts';
import { loadConfig, parseConfig } from '../src/config/load.ts';

const alpn = ['h2', 'http/1.1', 'http/1.0'];

const minimal = `
listen: [{ address: "127.0.0.1:0" }]
certificates_dir: certs
virtual_hosts:
  - server_name: a.example
    backends: [http://127.0.0.1:8080]
`;

test('defaults are filled in, keys are camelCase, paths are absolute', () => {
  const { virtualHosts, ...top } = parseConfig(minimal, '/etc/staplegate/config.yaml');
  assert.deepEqual(top, {
    file: '/etc/staplegate/config.yaml',
    listen: [{ address: { name: '127.0.0.1:0', host: '127.0.0.1', port: 0 }, protocol: 'https', proxyProtocol: false }],
    workers: 'auto',
    stateDir: '/var/lib/staplegate',
    certificatesDir: '/etc/staplegate/certs',
    trustedProxies: [],
    shutdownGrace: 30_000,
    tunnelGrace: 3_600_000,
    log: { level: 'info', format: 'text', access: false },
    tls: { profile: 'intermediate', alpn, sessionTickets: true, ticketRotation: 43_200_000, clientAuth: { mode: 'none', forward: {} } },
    ocsp: {
      stapling: true,
      timeout: 10_000,
      minDelay: 300_000,
      certIdHash: 'sha1',
      nonce: false,
      sha1Signatures: 'accept',
      clockSkew: 300_000,
      maxAge: -1,
      noNextUpdate: 86_400_000,
      maxResponseSize: 65_536,
      onRevoked: 'omit',
      startupWait: 10_000,
      keep: 604_800_000,
    },
    timeouts: {
      handshake: 10_000,
      requestHeader: 20_000,
      requestBody: 60_000,
      keepAlive: 60_000,
      queue: 30_000,
      connect: 5_000,
      responseHeader: 60_000,
      responseBody: 60_000,
      tunnel: 3_600_000,
    },
    http2: { websocket: false },
    limits: { connections: 'auto', handshakes: 4000, requestBodyRate: 500 },
  });
  const { startupWait: _startupWait, keep: _keep, ...ocsp } = top.ocsp;
  const { ticketRotation: _ticketRotation, ...tls } = top.tls;
  assert.deepEqual(virtualHosts, [
    {
      serverName: 'a.example',
      aliases: [],
      default: false,
      certificates: [],
      passthrough: false,
      tls,
      ocsp,
      engine: 'native',
      routes: [
        {
          path: '/',
          backends: [{ name: 'http://127.0.0.1:8080', host: '127.0.0.1', port: 8080 }],
          balance: 'round_robin',
          maxQueue: 1000,
          httpVersion: '1.1',
          keepAlive: true,
          maxBufferedBody: 1_048_576,
          lenient: false,
          backendTls: { verify: true, minVersion: 'TLSv1.2' },
          stripPrefix: false,
        },
      ],
    },
  ]);
});

test('a configuration is plain data that can be sent to a worker', () => {
  const config = parseConfig(minimal, 'config.yaml');
  assert.deepEqual(structuredClone(config), config);
  assert.deepEqual(JSON.parse(JSON.stringify(config)), config);
});

test('virtual hosts that say nothing of their own share what they inherit, and only they', () => {
  const hosts = ['a', 'b', 'c'].map((name) => ({ server_name: `${name}.example`, backends: ['http://127.0.0.1:1'] }));
  Object.assign(hosts[2]!, { tls: { client_auth: { forward: { 'x-client': 'subject' } } }, ocsp: { nonce: true } });
  const { virtualHosts } = parseConfig(JSON.stringify({ listen: [{ address: '127.0.0.1:0' }], certificates_dir: 'certs', virtual_hosts: hosts }), '/c.yaml');
  const [a, b, c] = virtualHosts;
  assert.equal(a!.tls, b!.tls);
  assert.equal(a!.ocsp, b!.ocsp);
  assert.deepEqual(c!.tls, { ...a!.tls, clientAuth: { ...a!.tls.clientAuth, forward: { 'x-client': 'subject' } } });
  assert.deepEqual(c!.ocsp, { ...a!.ocsp, nonce: true });
});

test('a virtual host overrides tls and ocsp key by key; what it leaves out is inherited, not reset to the default', () => {
  const config = parseConfig(
    `
tls: { profile: old, max_version: TLSv1.2, client_auth: { mode: request, ca: top.pem } }
ocsp: { timeout: 3s, clock_skew: 1m, stapling: false, max_age: 2d }
${minimal}
    tls: { min_version: TLSv1.1, client_auth: { mode: require } }
    ocsp: { clock_skew: 2m }
  - server_name: b.example
    tls: { client_auth: { ca: own.pem } }
    ocsp: { stapling: true }
    backends: [http://b]
`,
    '/c/config.yaml',
  );
  const [a, b] = config.virtualHosts;
  assert.deepEqual(a?.tls, {
    profile: 'old',
    minVersion: 'TLSv1.1',
    maxVersion: 'TLSv1.2',
    alpn,
    sessionTickets: true,
    clientAuth: { mode: 'require', ca: '/c/top.pem', forward: {} },
  });
  assert.deepEqual(b?.tls, {
    profile: 'old',
    maxVersion: 'TLSv1.2',
    alpn,
    sessionTickets: true,
    clientAuth: { mode: 'request', ca: '/c/own.pem', forward: {} },
  });
  assert.deepEqual([a?.ocsp.timeout, a?.ocsp.clockSkew, a?.ocsp.stapling, a?.ocsp.maxAge], [3_000, 120_000, false, 172_800_000]);
  assert.deepEqual([b?.ocsp.timeout, b?.ocsp.clockSkew, b?.ocsp.stapling], [3_000, 60_000, true]);
});

test('tls: passthrough is a virtual host with one route, to addresses that are reached over TCP', () => {
  const config = parseConfig(`${minimal}  - { server_name: b.example, tls: passthrough, backends: ["tcp://[::1]:443", "unix:/run/b.sock"] }\n`, 'c.yaml');
  const [opened, carried] = config.virtualHosts;
  assert.deepEqual([opened?.passthrough, carried?.passthrough], [false, true]);
  assert.deepEqual(
    carried?.routes.map(({ path, backends }) => [path, backends]),
    [
      [
        '/',
        [
          { name: 'tcp://[::1]:443', host: '::1', port: 443 },
          { name: 'unix:/run/b.sock', socketPath: '/run/b.sock' },
        ],
      ],
    ],
  );
});

test('backends is a route on / before the others', () => {
  const config = parseConfig(`${minimal}    routes: [{ path: /api/, backends: ["unix:/run/a_b.sock"], balance: least_conn, strip_prefix: true }]\n`, 'c.yaml');
  assert.deepEqual(
    config.virtualHosts[0]?.routes.map(({ path, balance, stripPrefix }) => [path, balance, stripPrefix]),
    [
      ['/', 'round_robin', false],
      ['/api/', 'least_conn', true],
    ],
  );
  // Only keys are camelised, never values.
  assert.deepEqual(config.virtualHosts[0]?.routes[1]?.backends, [{ name: 'unix:/run/a_b.sock', socketPath: '/run/a_b.sock' }]);
});

test('names are compared and kept as handshakes spell them', () => {
  const text = minimal.replace('a.example', 'Bücher.Example.').replace('backends', 'aliases: ["*.A.example"]\n    backends');
  const [host] = parseConfig(text, 'c.yaml').virtualHosts;
  assert.deepEqual([host?.serverName, host?.aliases], ['xn--bcher-kva.example', ['*.a.example']]);
});

test('sections with nothing in them are empty sections', () => {
  assert.deepEqual(parseConfig(`tls:\nlog:\nocsp:\ntimeouts:\n${minimal}    tls:\n    ocsp:\n`, 'c.yaml'), parseConfig(minimal, 'c.yaml'));
});

test('a byte order mark, CRLF and aliases are understood', () => {
  assert.deepEqual(parseConfig(`\ufeff${minimal.replaceAll('\n', '\r\n')}`, 'c.yaml'), parseConfig(minimal, 'c.yaml'));
  const text = minimal.replace('[http://127.0.0.1:8080]', '&app [http://127.0.0.1:8080]\n  - { server_name: b.example, backends: *app }');
  const { virtualHosts } = parseConfig(text, 'c.yaml');
  assert.deepEqual(virtualHosts[1]?.routes, virtualHosts[0]?.routes);
});

test('relative paths are relative to the folder of the file, wherever the process is', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'staplegate-config-'));
  t.after(() => rmSync(folder, { recursive: true }));
  writeFileSync(join(folder, 'config.yaml'), minimal);
  assert.equal((await loadConfig(join(folder, 'config.yaml'))).certificatesDir, join(folder, 'certs'));
});

test('a file that cannot be read says why, and does not wait', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'staplegate-config-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const at = (name: string) => join(folder, name);
  mkdirSync(at('folder'));
  symlinkSync('loop', at('loop'));
  writeFileSync(at('large'), Buffer.alloc(8 * 1024 ** 2 + 1, '#'));
  execFileSync('mkfifo', [at('fifo')]);
  const cases: [string, RegExp][] = [
    ['missing', /^\S+missing: cannot be read: there is no such file$/],
    ['folder', /: cannot be read: it is not a regular file$/],
    ['fifo', /: cannot be read: it is not a regular file$/],
    ['loop', /: cannot be read: its symbolic links go in a circle$/],
    ['large', /: is larger than 8 MiB, the most that is read$/],
    ['large/x', /: cannot be read: a part of its path is not a folder$/],
  ];
  if (process.getuid?.() !== 0) {
    writeFileSync(at('secret'), minimal);
    chmodSync(at('secret'), 0);
    cases.push(['secret', /: cannot be read: permission denied$/]);
  }
  for (const [name, message] of cases)
    await assert.rejects(loadConfig(at(name)), (error) => {
      assert.ok(error instanceof ConfigError);
      assert.equal(error.code, 'config_unreadable');
      assert.match(error.message, message);
      return true;
    });
});

test('a file that is not text is refused at the byte that is not', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'staplegate-config-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const file = join(folder, 'binary');
  for (const [bytes, position] of [
    [[...Buffer.from('a: 1\nb: '), 0xff, 0xfe], '2:4'],
    [[...Buffer.from('a: 1\n'), 0], '2:1'],
    [[0x30, 0x82, 0x01, 0x0a, 0x02], '1:2'],
  ] as const) {
    writeFileSync(file, Buffer.from(bytes));
    await assert.rejects(loadConfig(file), { code: 'config_invalid', message: `${file}:${position}: not a text file in UTF-8` });
  }
});
