import assert from 'node:assert/strict';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { PassThrough } from 'node:stream';
import test from 'node:test';
import { stringify } from 'yaml';
import { visit } from '../src/commands/ocsp/host.ts';
import { probe } from '../src/commands/ocsp/probe.ts';
import { importFile } from '../src/commands/ocsp/import.ts';
import { Progress } from '../src/commands/ocsp/progress.ts';
import { refresh } from '../src/commands/ocsp/refresh.ts';
import { status } from '../src/commands/ocsp/status.ts';
import { verify } from '../src/commands/ocsp/verify.ts';
import { errorResponse, signResponse } from '../src/demo/ocsp-signer.ts';
import { StapleCache } from '../src/ocsp/staple-cache.ts';
import { FaultyResponder, unreachableUrl } from './support/faulty-responder.ts';
import { staplegate } from './support/program.ts';
import { Site } from './support/site.ts';
import { recordedLog } from './support/stapling.ts';

const hour = 3_600_000;

interface Row {
  keyType: string;
  result?: string;
  staple: { names: string[]; state: string; responder?: string; thisUpdate?: number };
}

interface Listed {
  running: boolean;
  certificates: Row[];
  troubles: string[];
}

/** Two certificates of a.test and one of b.test; nothing answers behind them. */
async function twoHosts(site: Site, ocsp: string) {
  const ecdsa = await site.issue('a.test', { ocsp });
  const rsa = await site.issue('a.test', { ocsp, keyType: 'rsa' });
  const other = await site.issue('b.test', { ocsp });
  const config = {
    listen: [{ address: '127.0.0.1:0' }],
    workers: 1,
    state_dir: 'state',
    shutdown_grace: '1s',
    virtual_hosts: [
      {
        server_name: 'a.test',
        aliases: ['www.a.test'],
        certificates: [await site.write('a', ecdsa), await site.write('rsa', rsa)],
        backends: ['http://127.0.0.1:9'],
      },
      { server_name: 'b.test', certificates: [await site.write('b', other)], backends: ['http://127.0.0.1:9'] },
    ],
  };
  await writeFile(site.file('config.yaml'), stringify(config));
  return { config, ecdsa, rsa, other, file: site.file('config.yaml') };
}

const derFiles = async (site: Site) => (await readdir(site.file('state/ocsp')).catch(() => [])).filter((name) => name.endsWith('.der'));

test('status and refresh: live, then from the disk', async (t) => {
  const site = await Site.create(t);
  const responder = await site.use(FaultyResponder.start(site.authority));
  const { config, file } = await twoHosts(site, responder.url);
  const before = await status(file);
  assert.deepEqual([before.ok, (before.json as Listed).certificates.map(({ staple }) => staple.state)], [false, ['pending', 'pending', 'pending']]);
  assert.match(before.lines[0]!, /^not running: /);

  const program = await site.serving(config);
  const live = await status(file);
  assert.ok(live.ok, live.lines.join('\n'));
  assert.equal((live.json as Listed).running, true);
  assert.match(live.lines[0]!, /^NAME +KEY +STATE +AGE +VALID FOR +REFRESH IN +RESPONDER$/);
  assert.deepEqual(
    live.lines
      .slice(1)
      .map((line) => line.split(/ +/).slice(0, 3).join(' '))
      .sort(),
    ['a.test ecdsa good', 'a.test rsa good', 'b.test ecdsa good'],
  );

  const asked = responder.requests.length;
  responder.thisUpdate = new Date(Date.now() + 60_000);
  const all = await refresh(file, 'all');
  assert.ok(all.ok, all.lines.join('\n'));
  assert.equal(responder.requests.length, asked + 3);
  assert.match(all.lines[0]!, /^[ab]\.test \((ecdsa|rsa)\): good until \d{4}-\S+Z, from http:\/\/127/);
  for (const [name, count] of [
    ['b.test', 1],
    ['WWW.a.test', 2],
    [(live.json as { certificates: { fingerprint: string }[] }).certificates[0]!.fingerprint, 1],
  ] as const) {
    assert.equal(((await refresh(file, name)).json as Listed).certificates.length, count, name);
  }
  await assert.rejects(refresh(file, 'c.test'), { code: 'unknown_name', message: /c\.test/ });

  responder.fault = 'http_500';
  const failed = await refresh(file, 'b.test');
  assert.equal(failed.ok, false);
  assert.match(failed.lines[0]!, /^b\.test \(ecdsa\): failed: responder_http_status: responder http/);
  const { code, stdout, stderr } = await staplegate('ocsp', 'refresh', 'all', '-c', file);
  assert.deepEqual([code, stderr, stdout.split('\n').length], [1, '', 4], 'silent in a pipe');
  const troubled = await staplegate('ocsp', 'status', '-c', file);
  assert.match(troubled.stdout, /\n {2}last error \d+ s ago: responder_http_status: /);

  await program.stop();
  const kept = await status(file);
  assert.equal((kept.json as Listed).running, false);
  assert.deepEqual(
    (kept.json as Listed).certificates.map(({ staple }) => staple.state),
    ['failing', 'failing', 'failing'],
  );
  assert.ok((kept.json as Listed).certificates.every(({ staple }) => staple.thisUpdate !== undefined));
  await assert.rejects(refresh(file, 'all'), { code: 'not_running' });
});

test('status of a stopped one changes nothing, not even damage', async (t) => {
  const site = await Site.create(t);
  const responder = await site.use(FaultyResponder.start(site.authority));
  const { config, file } = await twoHosts(site, responder.url);
  await (await site.serving(config)).stop();
  const asked = responder.requests.length;
  const [damaged] = await derFiles(site);
  const bytes = await readFile(site.file('state/ocsp', damaged!));
  bytes[bytes.length - 5]! ^= 1;
  await writeFile(site.file('state/ocsp', damaged!), bytes);
  const listing = await readdir(site.file('state/ocsp'));
  const { ok, json } = await status(file);
  const { certificates, troubles } = json as Listed;
  assert.equal(ok, false);
  assert.deepEqual(certificates.map(({ staple }) => staple.state).sort(), ['good', 'good', 'pending']);
  assert.match(troubles[0]!, /is damaged or not ours/);
  assert.deepEqual(await readdir(site.file('state/ocsp')), listing);
  assert.equal(responder.requests.length, asked, 'nobody is asked');
});

test('import: for the next start, then into the running one, served at once', async (t) => {
  const site = await Site.create(t);
  const { config, ecdsa, other, file } = await twoHosts(site, await unreachableUrl());
  const issuer = site.authority.certificate;
  const sign = (leaf: typeof ecdsa, ago: number, entry: object = {}) =>
    signResponse({ signer: site.authority, entries: [{ certId: { leaf: leaf.certificate, issuer }, thisUpdate: new Date(Date.now() - ago), ...entry }] });
  const put = async (der: Uint8Array | string) => {
    await writeFile(site.file('given.der'), der);
    return site.file('given.der');
  };

  const first = await importFile(await put(sign(ecdsa, 3 * hour)), file);
  assert.deepEqual([first.ok, (first.json as { running: boolean }).running], [true, false]);
  assert.match(first.lines[0]!, /^good: a\.test until \S+Z, kept in .* for the next start$/);
  assert.equal((await derFiles(site)).length, 1);
  await assert.rejects(importFile(await put(sign(ecdsa, 4 * hour)), file), { code: 'superseded' });
  const owned = new StapleCache(site.file('state/ocsp'), recordedLog());
  await owned.open();
  await assert.rejects(importFile(await put(sign(ecdsa, 2 * hour)), file), { code: 'state_dir_in_use' });
  await owned.close();

  const program = await site.serving(config);
  const host = { host: '127.0.0.1', port: program.port() };
  const seen = async (servername: string) => (await probe(host, { servername, cafile: site.ca })).ok;
  assert.deepEqual([await seen('a.test'), await seen('b.test')], [true, false]);
  const second = await importFile(await put(sign(other, 3 * hour)), file);
  assert.deepEqual([second.ok, (second.json as { running: boolean }).running], [true, true]);
  assert.match(second.lines[0]!, /^good: b\.test until \S+Z, served from now on$/);
  assert.equal(await seen('b.test'), true);
  // What is served is what `ocsp verify` calls good.
  const { staple } = await visit(host, { servername: 'b.test' });
  assert.ok((await verify({ issuer: await issuerFile(site), cert: site.file('b.pem'), response: await put(staple ?? '') })).ok);

  const stranger = await site.issue('b.test');
  for (const [code, der] of [
    ['no_matching_entry', sign(stranger, hour)],
    ['expired', sign(other, 72 * hour, { nextUpdate: new Date(Date.now() - hour) })],
    ['superseded', sign(other, 4 * hour)],
    ['signer_not_authorized', signResponse({ signer: site.root, entries: [{ certId: { leaf: other.certificate, issuer } }] })],
    ['status_unknown', sign(other, hour, { certStatus: 'unknown' })],
    ['response_status', errorResponse('tryLater')],
    ['malformed', Buffer.of(0x30, 1)],
    ['malformed', 'hello'],
  ] as const) {
    await assert.rejects(importFile(await put(der), file), { code }, code);
    // It agrees with the judgement of a file, where that knows as much.
    if (code === 'superseded') continue;
    const judged = await verify({ issuer: await issuerFile(site), cert: site.file('b.pem'), response: site.file('given.der') });
    assert.equal((judged.json as { code: string }).code, code);
  }
  assert.equal(await seen('b.test'), true);

  const revoked = await importFile(await put(sign(other, 0, { certStatus: { revokedAt: new Date() } })), file);
  assert.deepEqual([revoked.ok, revoked.lines], [false, ['REVOKED: b.test: replace the certificate; the response is remembered']]);
  assert.equal(await seen('b.test'), false, 'no good staple is served of what is known to be revoked');
});

async function issuerFile(site: Site): Promise<string> {
  await writeFile(site.file('issuer.pem'), site.authority.pem);
  return site.file('issuer.pem');
}

test('import: a disk that takes nothing is no success', async (t) => {
  const site = await Site.create(t);
  const { ecdsa, config, file } = await twoHosts(site, await unreachableUrl());
  await writeFile(file, stringify({ ...config, state_dir: 'file' }));
  await writeFile(site.file('file'), '');
  await writeFile(
    site.file('given.der'),
    signResponse({ signer: site.authority, entries: [{ certId: { leaf: ecdsa.certificate, issuer: site.authority.certificate } }] }),
  );
  await assert.rejects(importFile(site.file('given.der'), file), { code: 'cache_not_writable' });
});

test('a configuration that cannot be read is said as everywhere', async (t) => {
  const site = await Site.create(t);
  await writeFile(site.file('config.yaml'), 'listen: 7\n');
  for (const args of [['status'], ['refresh', 'all'], ['import', site.file('config.yaml')]]) {
    const { code, stderr, stdout } = await staplegate('ocsp', ...args, '-c', site.file('config.yaml'));
    assert.deepEqual([code, stdout], [1, '']);
    assert.match(stderr, /^\S+config\.yaml:1:9: listen: /m);
  }
  const { stdout } = await staplegate('ocsp', 'status', '--json', '-c', site.file('none.yaml'));
  assert.equal((JSON.parse(stdout) as { code: string }).code, 'config_unreadable');
});

test('progress is for terminals, and leaves nothing behind', () => {
  for (const [isTTY, expected] of [
    [true, '\r\x1b[K1 of 2\r\x1b[K2 of 2\r\x1b[K'],
    [false, ''],
  ] as const) {
    const stream = new PassThrough({ encoding: 'utf8' });
    const progress = new Progress(Object.assign(stream, { isTTY }));
    progress.show('1 of 2');
    progress.show('2 of 2');
    progress.end();
    progress.end();
    assert.equal(stream.read() ?? '', expected);
  }
});
