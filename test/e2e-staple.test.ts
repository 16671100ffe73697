import assert from 'node:assert/strict';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import test from 'node:test';
import { startOcspResponder } from '../src/demo/ocsp-responder.ts';
import { closedPort } from './support/backend.ts';
import { curl, gnutlsClient, opensslClient } from './support/clients.ts';
import { FaultyResponder } from './support/faulty-responder.ts';
import { HttpsClient } from './support/load.ts';
import { startNginx } from './support/nginx.ts';
import { startOpensslResponder } from './support/openssl-responder.ts';
import { execute, Program } from './support/program.ts';
import { Site } from './support/site.ts';
import { needs } from './support/tools.ts';

/** The real program with real parts: `openssl ocsp` answers, nginx serves, openssl, curl and gnutls-cli look at the staple. */

const tools = needs('openssl', 'curl', 'gnutls-cli', 'nginx');
const recognizedNameAlert = 112;

function configuration(virtualHosts: object[], top: object = {}) {
  return { listen: [{ address: '127.0.0.1:0' }], workers: 1, state_dir: 'state', shutdown_grace: '1s', virtual_hosts: virtualHosts, ...top };
}

/** One virtual host, a.test, with one certificate; nobody answers behind it. */
async function oneHost(site: Site, issue: Parameters<Site['issue']>[1], top: object = {}) {
  const leaf = await site.issue('a.test', issue);
  const config = configuration([{ server_name: 'a.test', certificates: [await site.write('a', leaf)], backends: ['http://127.0.0.1:9'] }], top);
  return { leaf, config };
}

const stapleFiles = async (site: Site, ...below: string[]) => (await readdir(site.file('state/ocsp', ...below))).filter((name) => name.endsWith('.der'));

test('several virtual hosts are stapled from the first handshake, and after a restart without a responder', tools, async (t) => {
  const site = await Site.create(t);
  const nginx = await site.use(startNginx(site.folder));
  const exact = await site.issue('shop.test');
  const exactRsa = await site.issue('shop.test', { keyType: 'rsa' });
  const wildcard = await site.issue('*.wild.test');
  const fallback = await site.issue('default.test');
  const responder = await site.use(startOpensslResponder({ authority: site.authority, issued: [exact, exactRsa, wildcard, fallback], folder: site.folder }));
  const hosts = [
    { server_name: 'shop.test', certificates: [await site.write('ecdsa', exact), await site.write('rsa', exactRsa)], backends: [nginx.url] },
    { server_name: '*.wild.test', certificates: [await site.write('wild', wildcard)], backends: [nginx.url] },
  ];
  const defaultHost = { server_name: 'default.test', default: true, certificates: [await site.write('default', fallback)], backends: [nginx.url] };
  const ocsp = { responder: responder.url };
  const config = configuration([...hosts, defaultHost], { ocsp });

  const first = await site.serving(config);
  const target = (name: string) => ({ port: first.port(), name, ca: site.ca });

  await t.test('openssl s_client: the very first handshake', async () => {
    const facts = await opensslClient(target('shop.test'));
    assert.equal(facts.responseStatus, 'successful');
    assert.equal(facts.certStatus, 'good');
    assert.ok(facts.trusted);
  });

  await t.test('ECDSA and RSA certificates of one name each have their own staple', async () => {
    for (const [leaf, algorithms] of [
      [exact, 'ECDSA+SHA256'],
      [exactRsa, 'rsa_pss_rsae_sha256'],
    ] as const) {
      for (const version of ['-tls1_2', '-tls1_3']) {
        const facts = await opensslClient(target('shop.test'), version, '-sigalgs', algorithms);
        assert.equal(facts.certificate?.serialNumber, leaf.certificate.serialNumber, `${algorithms} ${version}`);
        assert.equal(facts.stapledSerial, leaf.certificate.serialNumber, `${algorithms} ${version}`);
      }
    }
  });

  await t.test('a wildcard covers one label; other names and no name get the default', async () => {
    const cases = [
      ['x.wild.test', wildcard],
      ['X.Wild.Test', wildcard],
      ['x.y.wild.test', fallback],
      ['wild.test', fallback],
      ['unknown.test', fallback],
      ['', fallback],
    ] as const;
    for (const [name, { certificate }] of cases) {
      const facts = await opensslClient(target(name));
      assert.equal(facts.certificate?.serialNumber, certificate.serialNumber, name);
      assert.equal(facts.stapledSerial, certificate.serialNumber, name);
    }
  });

  await t.test('curl --cert-status gets nginx behind it', async () => {
    const { code, stdout, stderr } = await curl(target('shop.test'), '/a?b=c');
    assert.equal(code, 0, stderr);
    assert.equal(stdout, `nginx GET /a?b=c host=shop.test:${first.port()} proto=https\n`);
  });

  await t.test('gnutls-cli --ocsp trusts', async () => {
    assert.deepEqual(await gnutlsClient(target('shop.test')), { trusted: true, stapled: true });
  });

  await first.stop();
  await responder.close();
  // Without a default now: unknown names are refused.
  const second = await site.serving(configuration(hosts, { ocsp }));

  await t.test('after a restart with the responder down', async () => {
    assert.ok(!second.log.some((line) => line.includes('OCSP update')), second.log.join('\n'));
    const facts = await opensslClient({ port: second.port(), name: 'shop.test', ca: site.ca });
    assert.equal(facts.certStatus, 'good');
    assert.deepEqual(await gnutlsClient({ port: second.port(), name: 'shop.test', ca: site.ca }), { trusted: true, stapled: true });
  });

  await t.test('without a default an unknown name is refused with unrecognized_name', async () => {
    for (const name of ['unknown.test', 'x.y.wild.test', '']) {
      const facts = await opensslClient({ port: second.port(), name, ca: site.ca });
      assert.equal(facts.alert, recognizedNameAlert, name);
      assert.equal(facts.certificate, undefined);
    }
  });
});

test('no handshake comes before the staple: the first that is possible at all has it', tools, async (t) => {
  const site = await Site.create(t);
  const responder = await site.use(FaultyResponder.start(site.authority));
  const address = new URL(await closedPort()).host;
  const { leaf, config } = await oneHost(site, { ocsp: responder.url }, { listen: [{ address }], workers: 2 });
  const starting = site.serving(config);
  const target = { port: Number(address.split(':')[1]), name: 'a.test', ca: site.root.pem };
  let first: HttpsClient | undefined;
  while (first === undefined) {
    first = await HttpsClient.connect(target).catch((error: NodeJS.ErrnoException) => {
      assert.equal(error.code, 'ECONNREFUSED');
      return undefined;
    });
  }
  first.close();
  assert.deepEqual(first.handshake.staple, { serial: leaf.certificate.serialNumber, status: 'good' });
  await starting;
});

test('a damaged cache file is put aside, and TLS is served without a staple while the responder is down', tools, async (t) => {
  const site = await Site.create(t);
  const responder = await FaultyResponder.start(site.authority);
  const { config } = await oneHost(site, { ocsp: responder.url });
  const first = await site.serving(config);
  await first.stop();
  await responder.close();
  const [file = ''] = await stapleFiles(site);
  const der = await readFile(site.file('state/ocsp', file));
  der[der.length - 10]! ^= 1;
  await writeFile(site.file('state/ocsp', file), der);

  const program = await site.serving(config);
  const facts = await opensslClient({ port: program.port(), name: 'a.test', ca: site.ca });
  assert.ok(facts.trusted);
  assert.equal(facts.responseStatus, undefined);
  assert.match(await program.line(/code=cache_damaged/), /quarantine/);
  assert.deepEqual(await stapleFiles(site), []);
  const [aside = ''] = await stapleFiles(site, 'quarantine');
  assert.deepEqual(await readFile(site.file('state/ocsp/quarantine', aside)), der);
});

test('a revoked certificate is served without staple, and said loudly', tools, async (t) => {
  const site = await Site.create(t);
  const leaf = await site.issue('a.test');
  const responder = await site.use(startOpensslResponder({ authority: site.authority, issued: [leaf], revoked: [leaf], folder: site.folder }));
  const config = configuration([{ server_name: 'a.test', certificates: [await site.write('a', leaf)], backends: ['http://127.0.0.1:9'] }], {
    ocsp: { responder: responder.url },
  });
  const omitting = await site.serving(config);
  assert.match(await omitting.line(/ error /), /a\.test is revoked since .* replace the certificate .*code=status_revoked/);
  const omitted = await opensslClient({ port: omitting.port(), name: 'a.test', ca: site.ca });
  assert.deepEqual([omitted.trusted, omitted.responseStatus], [true, undefined]);
  await omitting.stop();

  // From the cache now: the revocation is remembered, and said again.
  await responder.close();
  const stapling = await site.serving({ ...config, ocsp: { responder: responder.url, on_revoked: 'staple' } });
  await stapling.line(/code=status_revoked/);
  const stapled = await opensslClient({ port: stapling.port(), name: 'a.test', ca: site.ca });
  assert.deepEqual([stapled.responseStatus, stapled.certStatus], ['successful', 'revoked']);
});

test('a good staple is dropped when the responder begins to say revoked', tools, async (t) => {
  const site = await Site.create(t);
  // Asked again after half of its life.
  const responder = await startOcspResponder({ authority: site.authority, lifetime: 6_000 });
  site.defer(() => responder.close());
  const { leaf, config } = await oneHost(site, { ocsp: responder.url });
  const program = await site.serving(config);
  const target = { port: program.port(), name: 'a.test', ca: site.ca };
  assert.equal((await opensslClient(target)).certStatus, 'good');
  responder.revoke(leaf.certificate.serialNumber);
  await program.line(/code=status_revoked/);
  assert.equal((await opensslClient(target)).responseStatus, undefined);
});

test('a certificate without OCSP URL is one info line and no staple', tools, async (t) => {
  const site = await Site.create(t);
  const { config } = await oneHost(site, {});
  const program = await site.serving(config);
  const facts = await opensslClient({ port: program.port(), name: 'a.test', ca: site.ca });
  assert.deepEqual([facts.trusted, facts.responseStatus], [true, undefined]);
  const about = program.log.filter((line) => /ocsp|stapl/i.test(line));
  assert.equal(about.length, 1, about.join('\n'));
  assert.match(about[0]!, / info .*code=no_responder/);
});

test('start-up waits startup_wait for the staple of a must-staple certificate, then serves', tools, async (t) => {
  const site = await Site.create(t);
  const responder = await site.use(FaultyResponder.start(site.authority, 'hangs_before_head'));
  const { config } = await oneHost(site, { ocsp: responder.url, mustStaple: true }, { ocsp: { startup_wait: '700ms', timeout: '60s' } });
  const started = performance.now();
  const program = await site.serving(config);
  assert.ok(performance.now() - started >= 700);
  assert.equal(responder.requests.length, 1);
  const target = { port: program.port(), name: 'a.test', ca: site.ca };
  const facts = await opensslClient(target);
  assert.deepEqual([facts.trusted, facts.responseStatus], [true, undefined]);
});

test('a state directory that cannot be written costs a warning, not the staple', tools, async (t) => {
  const site = await Site.create(t);
  const responder = await site.use(FaultyResponder.start(site.authority));
  const { config } = await oneHost(site, { ocsp: responder.url });
  await writeFile(site.file('file'), '');
  // A file where the folder should be; a file system that takes none, not even from root; a full disk.
  const full = await fullDisk(site);
  for (const stateDir of ['file', '/sys/staplegate', ...(full === undefined ? [] : [full])]) {
    await using program = await Program.serving(site.folder, { ...config, state_dir: stateDir });
    const warning = await program.line(/code=cache_not_writable/);
    assert.match(warning, / warn .*staples are kept in memory only \(state_dir\)/);
    assert.equal((await opensslClient({ port: program.port(), name: 'a.test', ca: site.ca })).certStatus, 'good', stateDir);
    assert.equal(program.log.filter((line) => line.includes('cache_not_writable')).length, 1);
  }
});

/** A full disk, where this may be mounted. */
async function fullDisk(site: Site): Promise<string | undefined> {
  const folder = site.file('disk');
  const { code } = await execute('sh', ['-c', 'mkdir "$0" && mount -t tmpfs -o size=64k,nr_inodes=16 tmpfs "$0"', folder]);
  if (code !== 0) return undefined;
  site.defer(() => execute('umount', [folder]));
  await writeFile(path.join(folder, 'filler'), Buffer.alloc(65_536)).catch((error: NodeJS.ErrnoException) => assert.equal(error.code, 'ENOSPC'));
  return folder;
}
