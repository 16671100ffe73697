import assert from 'node:assert/strict';
import { EventEmitter, once } from 'node:events';
import { chmod, mkdir, open, rename, rm, symlink, unlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type TestContext } from 'node:test';
import { chainPem } from '../src/certificates/certificate.ts';
import { CertificateStore } from '../src/certificates/store.ts';
import { FileWatcher } from '../src/certificates/watcher.ts';
import type { Config } from '../src/config/schema.ts';
import { Authority, type Issued } from '../src/demo/authority.ts';
import { configuration, folder, memoryLog } from './support/certificate-files.ts';

const root = await Authority.root('Test Root');
const intermediate = await root.subordinate('Test Intermediate');
const name = 'shop.example.org';
const issue = () => intermediate.issue({ names: [name] });
const fingerprint = ({ certificate }: Pick<Issued, 'certificate'>) => certificate.fingerprint256.replaceAll(':', '').toLowerCase();

/** Store and watcher together, as the supervisor runs them. Without a poll: events alone must do. */
async function reloading(t: TestContext, config: Config) {
  const log = memoryLog();
  const events = new EventEmitter();
  /** Every certificate that was handed out, in order. */
  const handedOut: string[] = [];
  const store = new CertificateStore({
    log,
    onChange: (changed) => handedOut.push(...[...changed.values()].flat().map((certificate) => certificate.fingerprint)),
  });
  await store.load(config);
  const onChange = async (paths: string[]) => {
    await store.recheck(paths);
    void watcher.update(store.files(), store.directories());
    events.emit('rechecked');
  };
  const watcher = new FileWatcher({ settle: 10, poll: 3_600_000, onChange, log });
  t.after(() => watcher.close());
  await watcher.update(store.files(), store.directories());
  const until = async (holds: () => boolean) => {
    while (!holds()) await once(events, 'rechecked');
  };
  return {
    log,
    store,
    handedOut,
    serves: (issued: Issued) => until(() => store.identities(name)[0]?.fingerprint === fingerprint(issued) && store.problems().length === 0),
    fails: (code: string) => until(() => store.problems().some((problem) => problem.code === code)),
  };
}

const explicit = (directory: string) => {
  const source = { certificate: join(directory, 'fullchain.pem'), key: join(directory, 'privkey.pem') };
  return { ...source, config: configuration([{ serverName: name, certificates: [source] }]) };
};

for (const layout of ['explicit', 'certificates_dir'] as const) {
  test(`certbot: new files in archive/, then the links of live/ one after another (${layout})`, { timeout: 20_000 }, async (t) => {
    const directory = await folder(t);
    const [live, archive] = [join(directory, 'live', 'shop'), join(directory, 'archive', 'shop')];
    await mkdir(live, { recursive: true });
    await mkdir(archive, { recursive: true });
    const renew = async (issued: Issued, version: number) => {
      const contents = { cert: issued.pem, chain: intermediate.pem, fullchain: issued.chainPem, privkey: issued.keyPem };
      for (const [kind, text] of Object.entries(contents)) await writeFile(join(archive, `${kind}${version}.pem`), text);
      for (const kind of ['cert', 'privkey', 'chain', 'fullchain']) {
        const link = join(live, `${kind}.pem`);
        if (version > 1) await unlink(link);
        await symlink(`../../archive/shop/${kind}${version}.pem`, link);
      }
    };
    const [first, second, third] = [await issue(), await issue(), await issue()];
    await renew(first, 1);
    const config = layout === 'explicit' ? explicit(live).config : configuration([{ serverName: name }], join(directory, 'live'));
    const { serves, handedOut } = await reloading(t, config);
    await renew(second, 2);
    await serves(second);
    await renew(third, 3);
    await serves(third);
    assert.deepEqual(handedOut, [fingerprint(second), fingerprint(third)]);
  });
}

test('Kubernetes: the link ..data swapped by rename, the old version deleted', { timeout: 20_000 }, async (t) => {
  const directory = await folder(t);
  const publish = async (issued: Issued, version: number) => {
    await mkdir(join(directory, `..${version}`));
    await writeFile(join(directory, `..${version}`, 'tls.crt'), issued.chainPem);
    await writeFile(join(directory, `..${version}`, 'tls.key'), issued.keyPem);
    await symlink(`..${version}`, join(directory, '..data_tmp'));
    await rename(join(directory, '..data_tmp'), join(directory, '..data'));
    await rm(join(directory, `..${version - 1}`), { recursive: true, force: true });
  };
  const [first, second, third] = [await issue(), await issue(), await issue()];
  await publish(first, 1);
  const source = { certificate: join(directory, 'tls.crt'), key: join(directory, 'tls.key') };
  await symlink('..data/tls.crt', source.certificate);
  await symlink('..data/tls.key', source.key);
  const { serves, log } = await reloading(t, configuration([{ serverName: name, certificates: [source] }]));
  await publish(second, 2);
  await serves(second);
  await publish(third, 3);
  await serves(third);
  // Both files change at one instant: nothing is ever mismatched.
  assert.deepEqual(
    log.lines.filter(({ level }) => level !== 'info'),
    [],
  );
});

test('rename over: key, then certificate; the old pair serves while they do not match', { timeout: 20_000 }, async (t) => {
  const { certificate, key, config } = explicit(await folder(t));
  const [old, renewed] = [await issue(), await issue()];
  await writeFile(certificate, old.chainPem);
  await writeFile(key, old.keyPem);
  const { serves, fails, store, handedOut } = await reloading(t, config);
  const replace = async (file: string, text: string) => {
    await writeFile(`${file}.tmp`, text);
    await rename(`${file}.tmp`, file);
  };
  await replace(key, renewed.keyPem);
  await fails('key_mismatch');
  assert.equal(store.identities(name)[0]?.fingerprint, fingerprint(old));
  await replace(certificate, renewed.chainPem);
  await serves(renewed);
  assert.deepEqual(handedOut, [fingerprint(renewed)]);
});

test('written in place, piece by piece: at no point is anything but a whole pair served', { timeout: 20_000 }, async (t) => {
  const { certificate, key, config } = explicit(await folder(t));
  const [old, renewed] = [await issue(), await issue()];
  await writeFile(certificate, old.chainPem);
  await writeFile(key, old.keyPem);
  const { serves, fails, store, handedOut } = await reloading(t, config);
  const oldServes = () => assert.deepEqual(store.identities(name).map(chainPem), [old.chainPem]);
  await writeFile(key, renewed.keyPem);
  await fails('key_mismatch');
  oldServes();
  const handle = await open(certificate, 'w');
  await fails('file_empty');
  oldServes();
  await handle.write(renewed.pem.slice(0, 300));
  await fails('pem_truncated');
  oldServes();
  // The whole leaf, and nothing of the chain yet.
  await handle.write(renewed.pem.slice(300));
  await fails('chain_incomplete');
  oldServes();
  await handle.write(renewed.chainPem.slice(renewed.pem.length));
  await handle.close();
  await serves(renewed);
  assert.deepEqual(handedOut, [fingerprint(renewed)]);
});

test('deleted, and later there again', { timeout: 20_000 }, async (t) => {
  const directory = join(await folder(t), 'shop');
  await mkdir(directory);
  const { certificate, key, config } = explicit(directory);
  const [old, renewed] = [await issue(), await issue()];
  await writeFile(certificate, old.chainPem);
  await writeFile(key, old.keyPem);
  const { serves, fails, store } = await reloading(t, config);
  await rm(directory, { recursive: true });
  await fails('file_missing');
  assert.equal(store.identities(name)[0]?.fingerprint, fingerprint(old));
  await mkdir(directory);
  await writeFile(certificate, renewed.chainPem);
  await writeFile(key, renewed.keyPem);
  await serves(renewed);
});

test('the right to read the key lost and regained', { timeout: 20_000 }, async (t) => {
  const before = process.geteuid!();
  // Permissions do not bind root; another effective user id brings them back.
  if (before === 0) process.seteuid!(65_534);
  t.after(() => process.seteuid!(before));
  const { certificate, key, config } = explicit(await folder(t));
  const old = await issue();
  await writeFile(certificate, old.chainPem);
  await writeFile(key, old.keyPem);
  const { serves, fails, store } = await reloading(t, config);
  await chmod(key, 0);
  await fails('file_unreadable');
  assert.equal(store.identities(name)[0]?.fingerprint, fingerprint(old));
  await chmod(key, 0o600);
  await serves(old);
});

test('a new pair in certificates_dir, and an issuer put beside a certificate, are found', { timeout: 20_000 }, async (t) => {
  const directory = await folder(t);
  const { serves, store } = await reloading(t, configuration([{ serverName: name }], directory));
  const issued = await intermediate.issue({ names: [name], ocsp: 'http://ocsp.example/' });
  await mkdir(join(directory, 'shop'));
  await writeFile(join(directory, 'shop', 'a.key'), issued.keyPem);
  await writeFile(join(directory, 'shop', 'a.pem'), issued.pem);
  await writeFile(join(directory, 'shop', 'chain.pem'), intermediate.pem);
  await serves(issued);
  assert.equal(store.identities(name)[0]?.issuerFingerprint, fingerprint(intermediate));
});
