import assert from 'node:assert/strict';
import { mkdir, rename, symlink, unlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import test from 'node:test';
import type { Issued } from '../src/demo/authority.ts';
import { answering } from './support/backend.ts';
import { FaultyResponder } from './support/faulty-responder.ts';
import { Gate } from './support/gate.ts';
import { getOnce, type Handshake, HttpsClient, Load } from './support/load.ts';
import { Site } from './support/site.ts';

/** Certificates are renewed under the running program, the way the tools of this world do it, and no request notices. */

type Files = Pick<Issued, 'chainPem' | 'keyPem'>;

/** certbot: numbered files in archive/, and links in live/ that are removed and made anew one by one. */
function certbot(site: Site) {
  let version = 0;
  const pair = { certificate: 'live/c.test/fullchain.pem', key: 'live/c.test/privkey.pem' };
  const install = async ({ chainPem, keyPem }: Files): Promise<void> => {
    version += 1;
    await mkdir(site.file('archive/c.test'), { recursive: true });
    await mkdir(site.file('live/c.test'), { recursive: true });
    for (const [name, pem] of [
      ['privkey', keyPem],
      ['fullchain', chainPem],
    ] as const) {
      await writeFile(site.file(`archive/c.test/${name}${version}.pem`), pem);
      const link = site.file(`live/c.test/${name}.pem`);
      if (version > 1) await unlink(link);
      await symlink(`../../archive/c.test/${name}${version}.pem`, link);
    }
  };
  return { name: 'c.test', pair, install };
}

/** Written beside, then renamed over: acme.sh with a careful hook, most home-made scripts. */
function renameOver(site: Site) {
  const pair = { certificate: 'r.pem', key: 'r.key' };
  const install = async ({ chainPem, keyPem }: Files): Promise<void> => {
    for (const [name, pem] of [
      [pair.certificate, chainPem],
      [pair.key, keyPem],
    ] as const) {
      await writeFile(site.file(`${name}.new`), pem);
      await rename(site.file(`${name}.new`), site.file(name));
    }
  };
  return { name: 'r.test', pair, install };
}

/** A mounted secret: the files link through `..data`, which is swapped for another folder in one step; then the old folder goes. */
function kubernetes(site: Site) {
  let version = 0;
  const mount = (...names: string[]) => site.file('secret', ...names);
  const pair = { certificate: 'secret/tls.crt', key: 'secret/tls.key' };
  const install = async ({ chainPem, keyPem }: Files): Promise<void> => {
    version += 1;
    const folder = `..2026_11_22_${version}`;
    await mkdir(mount(folder), { recursive: true });
    await writeFile(mount(folder, 'tls.crt'), chainPem);
    await writeFile(mount(folder, 'tls.key'), keyPem);
    await symlink(folder, mount('..data_tmp'));
    await rename(mount('..data_tmp'), mount('..data'));
    if (version === 1) for (const name of ['tls.crt', 'tls.key']) await symlink(path.join('..data', name), mount(name));
    else await unlink(mount(`..2026_11_22_${version - 1}`, 'tls.crt'));
  };
  return { name: 'k.test', pair, install };
}

function configuration(hosts: { name: string; pairs: object[] }[], backend: string, top: object = {}) {
  const virtualHosts = hosts.map(({ name, pairs }) => ({ server_name: name, certificates: pairs, backends: [backend] }));
  return { workers: 2, shutdown_grace: '1s', virtual_hosts: virtualHosts, ...top };
}

/** Every certificate that was met came with its own good staple. */
function assertOwnStaples(handshakes: readonly Handshake[]): void {
  for (const { serial, staple } of handshakes) assert.deepEqual(staple, { serial, status: 'good' });
}

for (const method of [certbot, renameOver, kubernetes]) {
  test(`${method.name}: renewals under load fail no request, and each certificate comes with its own staple`, async (t) => {
    const site = await Site.create(t);
    const responder = await site.use(FaultyResponder.start(site.authority));
    const backend = await answering().listen(t);
    const { name, pair, install } = method(site);
    const renewed = (): Promise<Issued> => site.issue(name, { ocsp: responder.url });
    const first = await renewed();
    await install(first);
    const program = await site.serving(configuration([{ name, pairs: [pair] }], backend.url));
    const target = { port: program.port(), name, ca: site.root.pem };
    const kept = await HttpsClient.connect(target);
    const load = await site.use(new Load(target));

    const serials = [first.certificate.serialNumber];
    for (let n = 0; n < 4; n += 1) {
      const next = await renewed();
      serials.push(next.certificate.serialNumber);
      await install(next);
      const before = load.handshakes.length;
      await load.until(({ handshakes }) => handshakes.slice(before).filter(({ serial }) => serial === serials.at(-1)).length >= 8);
      assert.equal((await kept.get()).status, 200);
    }
    await load.stop();

    assert.deepEqual(load.failures, []);
    assertOwnStaples([kept.handshake, ...load.handshakes]);
    assert.deepEqual([...new Set(load.handshakes.map(({ serial }) => serial))], serials, 'each in its turn');
    assert.equal(kept.handshake.serial, serials[0]);
    kept.close();
  });
}

test('key and certificate that arrive apart, or in halves: the old pair serves until the new one is complete', async (t) => {
  const site = await Site.create(t);
  const responder = await site.use(FaultyResponder.start(site.authority));
  const backend = await answering().listen(t);
  const renewed = (): Promise<Issued> => site.issue('a.test', { ocsp: responder.url });
  let old = await renewed();
  const program = await site.serving(configuration([{ name: 'a.test', pairs: [await site.write('a', old)] }], backend.url));
  const target = { port: program.port(), name: 'a.test', ca: site.root.pem };

  const steps: Record<string, (next: Issued) => [file: string, content: string][]> = {
    'key first': ({ chainPem, keyPem }) => [
      ['a.key', keyPem],
      ['a.pem', chainPem],
    ],
    'certificate first': ({ chainPem, keyPem }) => [
      ['a.pem', chainPem],
      ['a.key', keyPem],
    ],
    'half a certificate': ({ chainPem, keyPem }) => [
      ['a.key', keyPem],
      ['a.pem', chainPem.slice(0, 400)],
      ['a.pem', chainPem],
    ],
    'without its issuer': ({ pem, chainPem, keyPem }) => [
      ['a.key', keyPem],
      ['a.pem', pem],
      ['a.pem', chainPem],
    ],
    'emptied, then written': ({ chainPem, keyPem }) => [
      ['a.pem', ''],
      ['a.pem', chainPem],
      ['a.key', keyPem],
    ],
  };
  for (const [what, writes] of Object.entries(steps)) {
    const next = await renewed();
    const sequence = writes(next);
    for (const [index, [file, content]] of sequence.entries()) {
      const from = program.log.length;
      await writeFile(site.file(file), content);
      if (index === sequence.length - 1) break;
      await program.line(/ error .*the certificate read before is kept/, from);
      const { handshake } = await getOnce(target);
      assert.equal(handshake.serial, old.certificate.serialNumber, what);
      assertOwnStaples([handshake]);
    }
    const load = await site.use(new Load(target));
    await load.until(({ handshakes }) => handshakes.at(-1)?.serial === next.certificate.serialNumber);
    await load.stop();
    assert.deepEqual(load.failures, []);
    assertOwnStaples(load.handshakes);
    old = next;
  }
});

test('while the responder hangs the old must-staple certificate serves; of two renewals the last one follows', async (t) => {
  const site = await Site.create(t);
  const responder = await site.use(FaultyResponder.start(site.authority));
  const gate = await site.use(Gate.before(responder.url));
  const backend = await answering().listen(t);
  const renewed = (): Promise<Issued> => site.issue('a.test', { ocsp: gate.url, mustStaple: true });
  const [old, skipped, next] = [await renewed(), await renewed(), await renewed()];
  const config = configuration([{ name: 'a.test', pairs: [await site.write('a', old)] }], backend.url, { ocsp: { timeout: '60s' } });
  const program = await site.serving(config);
  const target = { port: program.port(), name: 'a.test', ca: site.root.pem };
  const load = await site.use(new Load(target));

  gate.shut();
  await site.write('a', skipped);
  await gate.holds();
  gate.shut();
  const from = program.log.length;
  await site.write('a', next);
  await program.line(/certificate changed/, from);
  const { length } = load.handshakes;
  await load.until(({ handshakes }) => handshakes.length > length + 20);
  assert.deepEqual(new Set(load.handshakes.map(({ serial }) => serial)), new Set([old.certificate.serialNumber]));

  gate.open();
  await load.until(({ handshakes }) => handshakes.at(-1)?.serial === next.certificate.serialNumber);
  await load.stop();
  assert.deepEqual(load.failures, []);
  assertOwnStaples(load.handshakes);
  assert.ok(!load.handshakes.some(({ serial }) => serial === skipped.certificate.serialNumber));
});

test('a renewal in the middle of start-up is not lost', async (t) => {
  const site = await Site.create(t);
  const responder = await site.use(FaultyResponder.start(site.authority));
  const gate = await site.use(Gate.before(responder.url));
  const backend = await answering().listen(t);
  const renewed = (): Promise<Issued> => site.issue('a.test', { ocsp: gate.url, mustStaple: true });
  const [old, next] = [await renewed(), await renewed()];
  gate.shut();
  const starting = site.serving(
    configuration([{ name: 'a.test', pairs: [await site.write('a', old)] }], backend.url, { ocsp: { startup_wait: '20s', timeout: '60s' } }),
  );
  await gate.holds();
  await site.write('a', next);
  gate.open();
  const program = await starting;
  const load = await site.use(new Load({ port: program.port(), name: 'a.test', ca: site.root.pem }));
  await load.until(({ handshakes }) => handshakes.at(-1)?.serial === next.certificate.serialNumber);
  await load.stop();
  assert.deepEqual(load.failures, []);
  assertOwnStaples(load.handshakes);
});
