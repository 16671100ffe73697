import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chmod, mkdir, readdir, symlink, writeFile } from 'node:fs/promises';
import test from 'node:test';
import { fileURLToPath } from 'node:url';
import { stringify } from 'yaml';
import { getOnce } from './support/load.ts';
import { execute, type Finished, staplegate } from './support/program.ts';
import { Site } from './support/site.ts';
import { needs } from './support/tools.ts';

/** What an administrator gets wrong: the program says which thing, why and where to look, and goes on with what is left. */

const limit = { timeout: 60_000 };
const main = fileURLToPath(new URL('../src/main.ts', import.meta.url));
const backends = ['http://127.0.0.1:9'];

/** No stack trace and no key, whatever went wrong. */
function assertDecent(text: string): void {
  assert.doesNotMatch(text, /^ {4}at |node:internal|\.ts:\d+:\d+|-----BEGIN|MIGHAgEA/m);
}

/** Asserts exit code 1 and returns what was said. */
function refused({ code, stdout, stderr }: Finished): string {
  assertDecent(stdout + stderr);
  assert.equal(code, 1, stdout + stderr);
  return stdout + stderr;
}

/** The damage by name, each a virtual host NAME.test: its files, and what is said of them. */
async function badPairs(site: Site): Promise<Record<string, { pair: { certificate: string; key: string }; says: RegExp }>> {
  const good = await site.issue('good.test');
  const other = await site.issue('good.test');
  const long = 'a'.repeat(1024 * 1024 + 1);
  const encrypted = good.key.export({ type: 'pkcs8', format: 'pem', cipher: 'aes-256-cbc', passphrase: 'x' });
  const contents: Record<string, string | Buffer> = {
    'good.pem': good.chainPem,
    'good.key': good.keyPem,
    'other.key': other.keyPem,
    'empty.pem': '',
    'der.pem': good.certificate.raw,
    'noise.pem': randomBytes(2000),
    'cut.pem': good.pem.slice(0, -40),
    'damaged.pem': good.pem.replace(/\n.{64}\n/, `\n${'A'.repeat(64)}\n`),
    'long.pem': long,
    'damaged.key': good.keyPem.replace(/\n.{64}\n/, `\n${'A'.repeat(64)}\n`),
    'encrypted.key': encrypted,
  };
  for (const [name, content] of Object.entries(contents)) await writeFile(site.file(name), content);
  await mkdir(site.file('folder.pem'));
  await symlink('nowhere.pem', site.file('dangling.pem'));
  execFileSync('mkfifo', [site.file('pipe.pem')]);
  const damage: Record<string, [certificate: string, key: string, says: RegExp]> = {
    missing: ['none.pem', 'good.key', /none\.pem does not exist/],
    dangling: ['dangling.pem', 'good.key', /dangling\.pem is a link to nowhere\.pem, which does not exist/],
    empty: ['empty.pem', 'good.key', /empty\.pem is empty/],
    folder: ['folder.pem', 'good.key', /folder\.pem is a directory; name a file in it/],
    pipe: ['pipe.pem', 'good.key', /pipe\.pem is not a regular file/],
    der: ['der.pem', 'good.key', /der\.pem is binary, not PEM text; convert it with openssl x509 -inform DER/],
    noise: ['noise.pem', 'good.key', /noise\.pem is binary/],
    cut: ['cut.pem', 'good.key', /cut\.pem: the block "CERTIFICATE" has no end: the file is incomplete/],
    damaged: ['damaged.pem', 'good.key', /damaged\.pem.* cannot be parsed/],
    long: ['long.pem', 'good.key', /long\.pem is larger than 1 MiB/],
    swapped: ['good.key', 'good.pem', /good\.pem holds no private key: only CERTIFICATE/],
    keys: ['good.key', 'other.key', /good\.key holds no certificate: only PRIVATE KEY/],
    mismatched: ['good.pem', 'other.key', /other\.key does not belong to the certificate .*good\.pem/],
    garbled: ['good.pem', 'damaged.key', /damaged\.key cannot be parsed/],
    encrypted: ['good.pem', 'encrypted.key', /encrypted\.key is encrypted; decrypt it with: openssl pkey/],
  };
  return Object.fromEntries(Object.entries(damage).map(([name, [certificate, key, says]]) => [name, { pair: { certificate, key }, says }]));
}

/** The files below a folder, sockets and the secret of session tickets aside. */
async function filesBelow(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return entries.filter((entry) => entry.isFile() && entry.name !== 'ticket-secret').map(({ name }) => name);
}

function configuration(virtualHosts: object[], top: object = {}): object {
  return { listen: [{ address: '127.0.0.1:0' }], workers: 1, state_dir: 'state', virtual_hosts: virtualHosts, ...top };
}

test('certificate files: each damage takes out its own virtual host, in check, run and status', limit, async (t) => {
  const site = await Site.create(t);
  const bad = await badPairs(site);
  const day = 86_400_000;
  const expired = await site.write(
    'expired',
    await site.issue('expired.test', { notBefore: new Date(Date.now() - 9 * day), notAfter: new Date(Date.now() - 2 * day) }),
  );
  const host = (name: string, pair: object): object => ({ server_name: `${name}.test`, certificates: [pair], backends });
  const good = { certificate: 'good.pem', key: 'good.key' };
  const config = configuration([host('good', good), host('expired', expired), ...Object.entries(bad).map(([name, { pair }]) => host(name, pair))]);
  await site.configure(config);
  const file = site.file('config.yaml');

  const checked = refused(await staplegate('check', '-c', file));
  for (const [name, { says }] of Object.entries(bad)) {
    assert.match(checked, new RegExp(`^error: ${name}\\.test: .*${says.source}`, 'm'));
    assert.match(checked, new RegExp(`^${name}\\.test: no usable certificate$`, 'm'));
  }
  assert.match(checked, /^warning: expired\.test: .*expired\.pem expired at /m);
  assert.match(checked, /config\.yaml: not ok; a start would leave out what has errors$/m);

  const program = await site.serving(config);
  const reach = (name: string) => getOnce({ port: program.port(), name, ca: site.root.pem });
  assert.equal((await reach('good.test')).answer.status, 502, 'served; nobody is behind it');
  await assert.rejects(reach('expired.test'), { code: 'CERT_HAS_EXPIRED' });
  for (const [name, { says }] of Object.entries(bad)) {
    await assert.rejects(reach(`${name}.test`), { code: 'ERR_SSL_SSL/TLS_ALERT_HANDSHAKE_FAILURE' }, name);
    await program.line(new RegExp(`^\\S+ error .*${says.source}.* code=(?:file|pem|certificate|key)_\\w+ `));
  }

  const status = refused(await staplegate('status', '-c', file));
  assert.match(status, /^good\.test\n {2}ecdsa +valid for 89 d, no OCSP responder .*good\.pem\)$/m);
  assert.match(status, /^expired\.test\n {2}ecdsa +EXPIRED 2 d ago, /m);
  for (const [name, { says }] of Object.entries(bad)) assert.match(status, new RegExp(`^${name}\\.test\\n {2}ERROR: .*${says.source}`, 'm'));
  await program.stop();
  assertDecent(program.log.join('\n'));
  assert.deepEqual(await filesBelow(site.file('state')), []);
});

test('an expired certificate alone is what status exits 1 for, and check does not', limit, async (t) => {
  const site = await Site.create(t);
  const expired = await site.write('a', await site.issue('a.test', { notBefore: new Date(1e12), notAfter: new Date(2e12 - 1e12 + 1e9) }));
  await site.serving(configuration([{ server_name: 'a.test', certificates: [expired], backends }]));
  assert.match(refused(await staplegate('status', '-c', site.file('config.yaml'))), /EXPIRED \d+ d ago/);
  const { code, stdout } = await staplegate('check', '-c', site.file('config.yaml'));
  assert.equal(code, 0, 'a start would serve it');
  assert.match(stdout, /^warning: a\.test: .*a\.pem expired at /m);
});

test('files that the service user may not read are named with the remedy', { ...limit, ...needs('setpriv') }, async (t) => {
  const site = await Site.create(t);
  const pair = await site.write('a', await site.issue('a.test'));
  await site.configure(configuration([{ server_name: 'a.test', certificates: [pair], backends }]));
  await chmod(site.file('a.key'), 0);
  // Root may read everything, unless it gives that up.
  const unprivileged = process.getuid?.() === 0 ? ['--bounding-set=-dac_override,-dac_read_search'] : [];
  const check = () => execute('setpriv', [...unprivileged, process.execPath, main, 'check', '-c', site.file('config.yaml')]);
  assert.match(refused(await check()), /^error: a\.test: .*a\.key cannot be read by user id \d+ \(EACCES\): give that user read access/m);
  await chmod(site.file('config.yaml'), 0);
  assert.equal(refused(await check()), `${site.file('config.yaml')}: cannot be read: permission denied\n`);
});

test('configuration: everything that is wrong at once, with line, column and remedy; check and run say the same', limit, async (t) => {
  const site = await Site.create(t);
  const file = site.file('config.yaml');
  const all = `listen:
  - address: 443
  - { address: 127.0.0.1:80, protocol: htp }
wrokers: 2
state_dir: [a]
log: { access: yes }
ocsp: { timeout: 10 }
virtual_hosts:
  - server_name: a.test
    default: true
    certificates: [{ certificate: a.pem, key: a.key }]
    backends: [ftp://127.0.0.1:1]
  - server_name: b.test
    default: true
    aliases: [A.test]
    certificates: [{ certificate: a.pem }]
    backends: ["http://127.0.0.1:1"]
`;
  const cases: [text: string | Buffer, says: string[]][] = [
    [
      all,
      [
        ':2:14: listen[0].address: must be an address such as 0.0.0.0:443, "[::]:443", unix:/run/x.sock or fd:NAME, not `443`',
        ':3:40: listen[1].protocol: must be one of https, http, not `htp`',
        ':4:1: unknown key `wrokers`; did you mean `workers`?',
        ':5:12: state_dir: must be the name of a file or folder, not a list',
        ':6:16: log.access: must be true or false, not `yes`',
        ':7:18: ocsp.timeout: must be a duration such as 500ms, 10s or 5m, more than 0 and at most 24d, not `10`',
        ':12:16: virtual_hosts[0].backends[0]: must be http://HOST[:PORT] or https://HOST[:PORT] without a path, tcp://HOST:PORT, or unix:/PATH, not `ftp://127.0.0.1:1`',
        ':14:14: virtual_hosts[1].default: `default: true` is already given at virtual_hosts[0].default',
        ':15:15: virtual_hosts[1].aliases[0]: `a.test` is already given at virtual_hosts[0].server_name',
        ':16:20: virtual_hosts[1].certificates[0].key: is required',
      ],
    ],
    ['listen:\n\t- address: 127.0.0.1:1\n', [':2:1: tabs cannot indent; use spaces']],
    ['listen: [\n', [':2:1: ']],
    ['', [':1:1: the file is empty; it needs at least listen and virtual_hosts']],
    [Buffer.from([0x6c, 0xff, 0xfe]), [':1:2: not a text file in UTF-8']],
  ];
  for (const [text, says] of cases) {
    await writeFile(file, text);
    const [checked, ran] = await Promise.all([staplegate('check', '-c', file), staplegate('run', '-c', file)]);
    const lines = refused(checked).trimEnd().split('\n');
    for (const [n, expected] of says.entries()) assert.ok(lines[n]?.startsWith(`${file}${expected}`), `${lines[n]} is not ${expected}`);
    assert.equal(lines.length, says.length, lines.join('\n'));
    assert.equal(refused(ran), refused(checked));
  }
  assert.equal(refused(await staplegate('check', '-c', site.folder)), `${site.folder}: cannot be read: it is not a regular file\n`);
  assert.equal(refused(await staplegate('run', '-c', `${file}.no`)), `${file}.no: cannot be read: there is no such file\n`);
  assert.deepEqual(await readdir(site.folder), ['config.yaml', 'root.pem'], 'nothing was made');
});

test('without an https listener certificates are not missed', limit, async (t) => {
  const site = await Site.create(t);
  const config = configuration([{ server_name: 'a.test', backends }], { listen: [{ address: '127.0.0.1:0', protocol: 'http' }] });
  await site.configure(config);
  const { code, stdout } = await staplegate('check', '-c', site.file('config.yaml'));
  assert.deepEqual([code, stdout], [0, `a.test\n${site.file('config.yaml')}: ok\n`]);
  await site.serving(config);
  assert.equal((await staplegate('status', '-c', site.file('config.yaml'))).code, 0);
});

test('a start that is impossible says why and leaves nothing behind', limit, async (t) => {
  const site = await Site.create(t);
  const pair = await site.write('a', await site.issue('a.test'));
  const host = { server_name: 'a.test', certificates: [pair], backends };
  const running = await site.serving(configuration([host]));
  const taken = `127.0.0.1:${running.port()}`;
  const attempt = async (config: object): Promise<string> => {
    await writeFile(site.file('second.yaml'), stringify(config));
    return refused(await staplegate('run', '-c', site.file('second.yaml')));
  };
  const files = await filesBelow(site.folder);
  assert.match(
    await attempt(configuration([host], { listen: [{ address: '127.0.0.1:0' }, { address: taken }], state_dir: 'other' })),
    new RegExp(`^staplegate: cannot listen on ${taken}: EADDRINUSE: another program is listening there; stop it or change listen\\[\\]\\.address$`, 'm'),
  );
  assert.match(
    await attempt(configuration([host])),
    new RegExp(
      `^staplegate: .*state/ocsp is in use by another running Staplegate \\(process ${running.process.pid}\\); give each instance a state_dir of its own$`,
      'm',
    ),
  );
  assert.match(
    await attempt(configuration([{ ...host, certificates: [{ ...pair, key: 'none.key' }] }], { state_dir: 'other' })),
    /none\.key does not exist[^]*^staplegate: no virtual host has a usable certificate; see the messages above$/m,
  );
  assert.deepEqual(await filesBelow(site.folder), [...files, 'second.yaml'].sort());
  assert.equal((await getOnce({ port: running.port(), name: 'a.test', ca: site.root.pem })).answer.status, 502, 'the first goes on');
  const status = await staplegate('status', '-c', site.file('config.yaml'));
  assert.deepEqual([status.code, status.stderr], [0, '']);
});
