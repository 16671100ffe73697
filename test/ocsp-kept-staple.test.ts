import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { readdir, readFile, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import test from 'node:test';
import { FolderInUse } from '../src/ocsp/lock.ts';
import type { StapledLeaf } from '../src/ocsp/staple-status.ts';
import { FaultyResponder } from './support/faulty-responder.ts';
import { execute, temporaryFolder } from './support/program.ts';
import { authority, Scene, scene } from './support/stapler-scene.ts';
import { VirtualClock } from './support/virtual-clock.ts';
import { needs } from './support/tools.ts';

const minute = 60_000;
const hour = 60 * minute;
const day = 24 * hour;

const derFile = ({ fingerprint, issuerFingerprint }: StapledLeaf): string => `${fingerprint}-${issuerFingerprint}.der`;

test('after a restart with the responder down the kept staple is served at once, and asked for when it was planned', async () => {
  await using s = await scene();
  const leaf = await s.scene.issue(s.responder.url);
  await s.scene.use([leaf]);
  const before = s.scene.stapler.current(leaf.fingerprint);
  await s.scene.stapler.close();
  await s.responder.close();

  s.clock.advance(hour);
  await using after = await Scene.open({ directory: s.directory, clock: s.clock });
  await after.use([leaf]);
  assert.deepEqual(after.stapler.current(leaf.fingerprint), before);
  assert.deepEqual(after.log.lines, []);
  assert.equal(after.stapler.isSettled(leaf.fingerprint), true);
  assert.equal(after.status().nextRefresh, s.clock.now() + 11 * hour);

  await after.pass(11 * hour);
  assert.deepEqual(after.codes('warn'), ['responder_unreachable']);
  assert.deepEqual([after.status().state, after.status().serving], ['failing', true]);
});

test('a kept file that is cut off or has one bit flipped is never served: quarantined, then fetched again', async () => {
  await using s = await scene();
  const leaf = await s.scene.issue(s.responder.url);
  await s.scene.use([leaf]);
  await s.scene.stapler.close();
  const file = path.join(s.files, derFile(leaf));
  const whole = await readFile(file);
  const flipped = Buffer.from(whole);
  flipped[whole.length >> 1]! ^= 1;
  for (const [i, damaged] of [whole.subarray(0, -1), Buffer.alloc(0), flipped].entries()) {
    await writeFile(file, damaged);
    await using after = await Scene.open({ directory: s.directory, clock: s.clock });
    await after.use([leaf]);
    assert.equal(after.events.length, 1);
    assert.deepEqual(after.events[0]?.staple?.der, await readFile(file));
    assert.deepEqual(after.codes('warn'), ['cache_damaged']);
    assert.equal((await readdir(path.join(s.files, 'quarantine'))).length, i + 1);
    assert.equal(s.responder.requests.length, i + 2);
  }
});

test('a kept response that has run out is not damaged, and not served', async () => {
  await using s = await scene();
  const leaf = await s.scene.issue(s.responder.url);
  await s.scene.use([leaf]);
  await s.scene.stapler.close();
  s.responder.fault = 'http_500';
  s.clock.advance(2 * day);
  await using after = await Scene.open({ directory: s.directory, clock: s.clock });
  await after.use([leaf]);
  assert.equal(after.stapler.current(leaf.fingerprint), undefined);
  assert.deepEqual(after.codes('warn'), ['responder_http_status']);
  assert.ok((await readdir(s.files)).includes(derFile(leaf)));
});

test('a failed refresh writes down the failure and leaves the file of the response alone', async () => {
  await using s = await scene();
  const leaf = await s.scene.issue(s.responder.url);
  await s.scene.use([leaf]);
  const file = path.join(s.files, derFile(leaf));
  const { ino } = await stat(file);
  s.responder.fault = 'http_500';
  await s.scene.pass(12 * hour);
  assert.equal((await stat(file)).ino, ino);
  const { failures, error } = JSON.parse(await readFile(file.replace('.der', '.json'), 'utf8')) as { failures: number; error: { code: string } };
  assert.deepEqual([failures, error.code], [1, 'responder_http_status']);
});

test('a disk that cannot be written costs one warning and no staple', async () => {
  await using folder = await temporaryFolder();
  const file = folder.file('not-a-folder');
  await writeFile(file, '');
  await using responder = await FaultyResponder.start(authority);
  await using own = await Scene.open({ directory: file, clock: new VirtualClock(Date.now()) });
  const leaf = await own.issue(responder.url);
  await own.use([leaf]);
  assert.ok(own.stapler.current(leaf.fingerprint));
  assert.deepEqual(own.codes('warn'), ['cache_not_writable']);
  assert.ok(own.stapler.counters.cacheWriteFailures > 0);
});

test('the files of a certificate that is not in use any more go after ocsp.keep; those in use stay', async () => {
  // The ages of files are real: time starts now.
  await using s = await scene('good', new VirtualClock(Date.now()));
  const [kept, gone] = [await s.scene.issue(s.responder.url), await s.scene.issue(s.responder.url)];
  s.scene.stapler.keep = 3 * day;
  await s.scene.use([kept, gone]);
  await s.scene.use([kept]);
  await s.scene.pass(2 * day);
  const names = async (): Promise<string[]> => (await readdir(s.files)).filter((name) => name.endsWith('.der')).sort();
  assert.deepEqual(await names(), [derFile(kept), derFile(gone)].sort());
  // Removing is not waited for by anything else.
  await s.scene.pass(3 * day);
  for (let i = 0; i < 1000 && (await names()).length > 1; i += 1) await s.scene.stapler.idle();
  assert.deepEqual(await names(), [derFile(kept)]);
});

test('a kept file is what openssl ocsp -respin reads', needs('openssl'), async () => {
  await using s = await scene('good', new VirtualClock(Date.now()));
  const leaf = await s.scene.issue(s.responder.url);
  await s.scene.use([leaf]);
  const [certificate, issuer] = [path.join(s.directory, 'leaf.pem'), path.join(s.directory, 'issuer.pem')];
  await writeFile(certificate, new X509Certificate(leaf.leaf.raw).toString());
  await writeFile(issuer, authority.pem);
  const args = ['ocsp', '-respin', path.join(s.files, derFile(leaf)), '-issuer', issuer, '-cert', certificate, '-CAfile', issuer, '-no_nonce'];
  const { stdout, stderr } = await execute('openssl', args);
  assert.match(stdout, /leaf\.pem: good/);
  assert.match(stderr, /Response verify OK/);
});

test('a second instance on the same folder does not start', async () => {
  await using s = await scene();
  await assert.rejects(Scene.open({ directory: s.directory }), FolderInUse);
});
