import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { readdir, readFile, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import test from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { ocspDefaults, type OcspPolicy } from '../src/config/policies.ts';
import { FolderInUse } from '../src/ocsp/lock.ts';
import type { StapledLeaf } from '../src/ocsp/staple-status.ts';
import { FaultyResponder, unreachableUrl } from './support/faulty-responder.ts';
import { startOpensslResponder } from './support/openssl-responder.ts';
import { execute, temporaryFolder } from './support/program.ts';
import { authority, Scene, scene } from './support/stapler-scene.ts';
import { stapledLeaf } from './support/stapling.ts';
import { VirtualClock } from './support/virtual-clock.ts';
import { needs } from './support/tools.ts';

const minute = 60_000;
const hour = 60 * minute;
const day = 24 * hour;

const derFile = ({ fingerprint, issuerFingerprint }: StapledLeaf): string => `${fingerprint}-${issuerFingerprint}.der`;

test('a certificate gets its staple: fetched, offered, kept, and said in one line', async () => {
  await using s = await scene();
  const leaf = await s.scene.issue(s.responder.url);
  await s.scene.use([leaf]);
  const staple = s.scene.stapler.current(leaf.fingerprint);
  assert.ok(staple);
  assert.deepEqual(s.scene.events, [{ fingerprint: leaf.fingerprint, staple }]);
  assert.deepEqual(await readFile(path.join(s.files, derFile(leaf))), staple.der);
  // One minute before the end of its day.
  assert.equal(staple.validUntil, s.clock.now() + day - minute);

  const { state, serving, failures, lastError, nextRefresh } = s.scene.status();
  assert.deepEqual([state, serving, failures, lastError], ['good', true, 0, undefined]);
  assert.equal(nextRefresh, s.clock.now() + 12 * hour);
  assert.deepEqual(s.scene.log.lines, [
    {
      level: 'info',
      message: 'OCSP update',
      facts: {
        certificate: 'www.example.org',
        responder: s.responder.url,
        method: 'GET',
        result: 'good',
        duration_ms: 0,
        next: new Date(s.clock.now() + 12 * hour).toISOString(),
      },
    },
  ]);
});

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

test('thirty days with a working responder: always a staple, asked for about every half-life', async () => {
  await using s = await scene();
  const leaf = await s.scene.issue(s.responder.url);
  await s.scene.use([leaf]);
  s.clock.chance = 0;
  for (let hours = 0; hours < 30 * 24; hours += 1) {
    await s.scene.pass(hour);
    const staple = s.scene.stapler.current(leaf.fingerprint);
    assert.ok(staple !== undefined && staple.validUntil - s.clock.now() > 11 * hour, `hour ${hours}`);
  }
  const asked = s.responder.requests.length;
  assert.ok(asked >= 60 && asked <= 70, `${asked} requests`);
});

test('while the responder fails, the good staple is served to its end and not longer, with tries up to the last minutes', async () => {
  await using s = await scene();
  const leaf = await s.scene.issue(s.responder.url);
  await s.scene.use([leaf]);
  s.responder.fault = 'try_later';
  s.responder.requests.length = 0;
  await s.scene.pass(day - minute - 1);
  assert.ok(s.scene.stapler.current(leaf.fingerprint));
  assert.equal(s.scene.events.length, 1);
  const lastTry = s.scene.status().lastError?.at ?? 0;
  assert.ok(s.clock.now() - lastTry < minute, `the last try was ${(s.clock.now() - lastTry) / minute} minutes before the end`);

  await s.scene.pass(1);
  assert.equal(s.scene.stapler.current(leaf.fingerprint), undefined);
  assert.deepEqual(s.scene.events.slice(1), [{ fingerprint: leaf.fingerprint, staple: undefined }]);
  assert.ok(s.scene.codes('warn').includes('staple_expired'));
  const { state, serving, lastError } = s.scene.status();
  assert.deepEqual([state, serving, lastError?.code], ['failing', false, 'response_status']);

  s.responder.fault = 'good';
  await s.scene.pass(hour);
  assert.deepEqual([s.scene.status().state, s.scene.status().failures], ['good', 0]);
});

test('a day of outage is asked through at growing intervals', async () => {
  await using s = await scene('http_500');
  const leaf = await s.scene.issue(s.responder.url);
  await s.scene.use([leaf]);
  s.clock.chance = 0.999;
  await s.scene.pass(day);
  const asked = s.responder.methods.filter((method) => method === 'GET').length;
  assert.ok(asked >= 24 && asked <= 40, `${asked} attempts`);
  assert.equal(s.scene.status().failures, asked);
});

test('Retry-After holds the next attempt back', async () => {
  await using s = await scene('http_429');
  s.clock.chance = 0;
  const leaf = await s.scene.issue(s.responder.url);
  await s.scene.use([leaf]);
  assert.equal(s.scene.status().nextRefresh, s.clock.now() + 2 * minute);
});

test('HTTP freshness brings a refresh forward, but not under five minutes', async () => {
  await using s = await scene();
  s.responder.headers = { 'cache-control': 'max-age=3600' };
  const leaf = await s.scene.issue(s.responder.url);
  await s.scene.use([leaf]);
  assert.equal(s.scene.status().nextRefresh, s.clock.now() + hour);
  s.responder.headers = { 'cache-control': 'max-age=1' };
  await s.scene.stapler.refresh(leaf.fingerprint);
  assert.equal(s.scene.status().nextRefresh, s.clock.now() + 5 * minute);
});

test('a revocation drops the good staple at once, stays over a restart, and a newer good answer ends it', async () => {
  await using s = await scene();
  const leaf = await s.scene.issue(s.responder.url);
  await s.scene.use([leaf]);
  s.responder.fault = 'revoked';
  await s.scene.pass(12 * hour);
  assert.equal(s.scene.stapler.current(leaf.fingerprint), undefined);
  assert.equal(s.scene.events.at(-1)?.staple, undefined);
  assert.deepEqual(s.scene.codes('error'), ['status_revoked']);
  assert.equal(s.scene.status().state, 'revoked');
  // A verified answer is no reason to ask again with POST.
  assert.deepEqual(s.responder.methods, ['GET', 'GET']);
  await s.scene.stapler.close();

  await using after = await Scene.open({ directory: s.directory, clock: s.clock });
  await after.use([leaf]);
  assert.deepEqual([after.status().state, after.events, after.codes('error')], ['revoked', [], ['status_revoked']]);
  assert.equal(s.responder.requests.length, 2);

  s.responder.fault = 'good';
  await after.pass(day);
  assert.equal(after.status().state, 'good');
  assert.ok(after.stapler.current(leaf.fingerprint));
});

test('with on_revoked staple clients get the response that says so', async () => {
  await using s = await scene('revoked');
  const leaf = await s.scene.issue(s.responder.url);
  await s.scene.use([leaf], { onRevoked: 'staple' });
  assert.ok(s.scene.stapler.current(leaf.fingerprint));
  assert.equal(s.scene.status().state, 'revoked');
});

test('an older response never replaces the one that is held', async () => {
  await using s = await scene();
  const leaf = await s.scene.issue(s.responder.url);
  await s.scene.use([leaf]);
  const held = s.scene.stapler.current(leaf.fingerprint);
  s.responder.lifetime = 3 * day;
  s.responder.thisUpdate = new Date(s.clock.now() - hour);
  await s.scene.stapler.refresh(leaf.fingerprint);
  assert.equal(s.scene.stapler.current(leaf.fingerprint), held);
  assert.deepEqual(s.scene.codes('warn'), ['superseded']);
  assert.deepEqual(s.responder.methods, ['GET', 'GET', 'POST']);
});

test('of two responses of the same second, the one that says revoked counts', async () => {
  await using s = await scene();
  const leaf = await s.scene.issue(s.responder.url);
  await s.scene.use([leaf]);
  s.responder.fault = 'revoked';
  await s.scene.stapler.refresh(leaf.fingerprint);
  assert.equal(s.scene.status().state, 'revoked');
  s.responder.fault = 'good';
  await s.scene.stapler.refresh(leaf.fingerprint);
  assert.deepEqual([s.scene.status().state, s.scene.codes('warn')], ['revoked', ['superseded']]);
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

test('bad answers are never offered, and each has its reason', async () => {
  await using s = await scene();
  const leaf = await s.scene.issue(s.responder.url);
  const reasons = {
    try_later: 'response_status',
    wrong_certificate: 'no_matching_entry',
    expired: 'expired',
    unknown: 'status_unknown',
    garbage: 'malformed',
    empty: 'malformed',
    huge: 'response_too_large',
  } as const;
  for (const fault of Object.keys(reasons) as (keyof typeof reasons)[]) {
    s.responder.fault = fault;
    await s.scene.use([]);
    await s.scene.use([leaf]);
    assert.equal(s.scene.status().lastError?.code, reasons[fault], fault);
  }
  assert.deepEqual(s.scene.events, []);
});

test('a certificate younger than an hour may be unknown for a while: asked again within five minutes, without a warning', async () => {
  await using s = await scene();
  s.clock.chance = 0.999;
  const young = await s.scene.issue(s.responder.url, { notBefore: new Date(s.clock.now() - minute) });
  for (const fault of ['unknown', 'unauthorized'] as const) {
    s.responder.fault = fault;
    await s.scene.use([]);
    await s.scene.use([young]);
    for (let i = 0; i < 8; i += 1) await s.scene.stapler.refresh(young.fingerprint);
    assert.equal(s.scene.status().nextRefresh, s.clock.now() + 5 * minute);
  }
  assert.deepEqual(s.scene.log.of('warn'), []);

  await s.scene.pass(2 * hour);
  assert.ok((s.scene.status().nextRefresh ?? 0) - s.clock.now() > 5 * minute);
  assert.notDeepEqual(s.scene.log.of('warn'), []);
});

test('a certificate without a responder costs one line, once', async () => {
  await using s = await scene();
  const leaf = await s.scene.issue([]);
  await s.scene.use([leaf]);
  await s.scene.use([leaf]);
  await s.scene.pass(30 * day);
  await s.scene.stapler.refresh(leaf.fingerprint);
  assert.equal(s.scene.status().state, 'no_responder');
  assert.deepEqual(
    s.scene.log.lines.map(({ level, facts }) => [level, facts.code]),
    [['info', 'no_responder']],
  );
  assert.equal(s.scene.stapler.isSettled(leaf.fingerprint), true);
});

test('off, expired and without issuer: nothing is asked, and status tells them apart', async () => {
  await using s = await scene();
  const leaf = await s.scene.issue(s.responder.url);
  await s.scene.use([leaf], { stapling: false });
  assert.deepEqual([s.scene.status().state, s.scene.log.lines], ['off', []]);

  await s.scene.use([await s.scene.issue(s.responder.url, { notAfter: new Date(s.clock.now() - 1000) })]);
  assert.equal(s.scene.status().state, 'expired');

  await s.scene.use([stapledLeaf(await authority.issue({ names: ['www.example.org'], ocsp: s.responder.url, notAfter: new Date(s.clock.now() + day) }))]);
  assert.deepEqual([s.scene.status().state, s.scene.status().lastError?.code], ['failing', 'issuer_missing']);
  assert.match(s.scene.log.of('warn')[0]?.message ?? '', /chain\.pem/);
  assert.equal(s.responder.requests.length, 0);
});

test('a certificate that expires while in use is not asked about any more', async () => {
  await using s = await scene();
  const leaf = await s.scene.issue(s.responder.url, { notAfter: new Date(s.clock.now() + 3 * day) });
  await s.scene.use([leaf]);
  await s.scene.pass(3 * day);
  const asked = s.responder.requests.length;
  await s.scene.pass(30 * day);
  assert.deepEqual([s.responder.requests.length, s.scene.status().state, s.scene.status().nextRefresh], [asked, 'expired', undefined]);
  assert.equal(s.scene.stapler.current(leaf.fingerprint), undefined);
});

test('ocsp.responder is asked instead of what the certificate names', async () => {
  await using s = await scene();
  const leaf = await s.scene.issue('http://169.254.169.254/');
  await s.scene.use([leaf]);
  assert.equal(s.scene.status().lastError?.code, 'responder_refused_address');
  await s.scene.use([leaf], { responder: s.responder.url });
  assert.equal(s.scene.status().state, 'good');
});

test('the second responder is asked when the first does not work', async () => {
  await using s = await scene();
  const leaf = await s.scene.issue([await unreachableUrl(), `${s.responder.url}/second`]);
  await s.scene.use([leaf]);
  assert.deepEqual([s.scene.status().state, s.scene.status().responder], ['good', `${s.responder.url}/second`]);
});

test('a responder is asked with GET, then with POST, before the next one is', async () => {
  await using s = await scene('garbage');
  const leaf = await s.scene.issue([`${s.responder.url}/first`, `${s.responder.url}/second`]);
  await s.scene.use([leaf]);
  const asked = s.responder.requests.map(({ method, url }) => `${method} ${url.split('/')[1]}`);
  assert.deepEqual(asked, ['GET first', 'POST first', 'GET second', 'POST second']);
});

test('one certificate in several virtual hosts, and refreshes at the same time, are asked once', async () => {
  await using s = await scene();
  const leaf = await s.scene.issue(s.responder.url);
  await s.scene.use([leaf, { ...leaf }, leaf]);
  assert.equal(s.responder.requests.length, 1);
  await Promise.all([s.scene.stapler.refresh(leaf.fingerprint), s.scene.stapler.refresh(leaf.fingerprint)]);
  assert.equal(s.responder.requests.length, 2);
  assert.equal(s.scene.stapler.status().length, 1);
});

test('a reload carries on what stays, starts what is new, and ends what is gone', async () => {
  await using s = await scene();
  const [kept, gone, added] = [await s.scene.issue(s.responder.url), await s.scene.issue(s.responder.url), await s.scene.issue(s.responder.url)];
  await s.scene.use([kept, gone]);
  await s.scene.use([kept, added]);
  assert.equal(s.responder.requests.length, 3);
  assert.equal(s.scene.stapler.current(gone.fingerprint), undefined);
  assert.equal(s.scene.events.length, 4);
  await s.scene.pass(12 * hour);
  assert.equal(s.responder.requests.length, 5);
  const withdrawn = s.scene.events.filter(({ staple }) => staple === undefined);
  assert.deepEqual(withdrawn, [{ fingerprint: gone.fingerprint, staple: undefined }], 'whoever keeps staples forgets this one, and no other');
});

test('a changed policy is in force at once, without a moment without the staple', async () => {
  await using s = await scene();
  const leaf = await s.scene.issue(s.responder.url);
  await s.scene.use([leaf]);
  const held = s.scene.stapler.current(leaf.fingerprint);
  const change = (policy: Partial<OcspPolicy>) => s.scene.stapler.setCertificates([{ certificate: leaf, policy: { ...ocspDefaults, ...policy } }]);
  change({ timeout: 5000 });
  assert.deepEqual(s.scene.stapler.current(leaf.fingerprint), held);
  await s.scene.settle();
  assert.deepEqual([s.responder.requests.length, s.scene.events.length], [1, 1]);

  s.clock.advance(2 * hour);
  s.responder.fault = 'http_500';
  change({ maxAge: hour });
  await s.scene.settle();
  assert.deepEqual(s.scene.events.slice(1), [{ fingerprint: leaf.fingerprint, staple: undefined }]);
});

test('a responder that hangs delays no certificate of another one', async () => {
  await using s = await scene();
  await using hanging = await FaultyResponder.start(authority, 'hangs_before_head');
  const stuck = await Promise.all(Array.from({ length: 6 }, () => s.scene.issue(hanging.url)));
  const working = await Promise.all(Array.from({ length: 6 }, () => s.scene.issue(s.responder.url)));
  s.scene.stapler.setCertificates([...stuck, ...working].map((certificate) => ({ certificate, policy: ocspDefaults })));
  // No time passes at all on the clock that the deadlines are on.
  const settled = Promise.all(working.map(({ fingerprint }) => s.scene.stapler.settled(fingerprint, hour)));
  await s.scene.stapler.idle();
  s.clock.advance(0);
  await hanging.asked(1);
  await settled;
  for (const { fingerprint } of working) assert.ok(s.scene.stapler.current(fingerprint));
  assert.equal(
    stuck.some(({ fingerprint }) => s.scene.stapler.isSettled(fingerprint)),
    false,
  );
});

test('waiting for a staple ends with the wait, which begins when the disk has been read', async () => {
  await using s = await scene('hangs_before_head');
  const leaf = await s.scene.issue(s.responder.url);
  s.scene.stapler.setCertificates([{ certificate: leaf, policy: ocspDefaults }]);
  let ended = false;
  const settled = s.scene.stapler.settled(leaf.fingerprint, 3000).then(() => (ended = true));
  s.clock.advance(3000);
  await s.scene.stapler.idle();
  await setImmediate();
  assert.equal(ended, false);
  s.clock.advance(3000);
  await settled;
  assert.equal(s.scene.stapler.isSettled(leaf.fingerprint), false);
  await s.scene.stapler.settled('of no certificate', hour);
});

test('a wrong content type is warned about once for all certificates of a responder', async () => {
  await using s = await scene('wrong_type');
  await s.scene.use([await s.scene.issue(s.responder.url), await s.scene.issue(s.responder.url)]);
  await s.scene.pass(3 * day);
  assert.deepEqual(s.scene.codes('warn'), ['responder_content_type']);
});

test('a disk that cannot be written costs one warning and no staple', async () => {
  await using folder = await temporaryFolder();
  const file = path.join(folder.path, 'not-a-folder');
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

test('closing ends a question that is under way, and every timer', async () => {
  await using s = await scene('hangs_before_head');
  const leaf = await s.scene.issue(s.responder.url);
  s.scene.stapler.setCertificates([{ certificate: leaf, policy: ocspDefaults }]);
  await s.scene.stapler.idle();
  s.clock.advance(0);
  await s.responder.asked(1);
  const hungUp = s.responder.hungUp();
  await s.scene.stapler.close();
  await hungUp;
  assert.equal(s.clock.next, undefined);
  assert.deepEqual([s.scene.events, s.scene.log.lines], [[], []]);
});

test('openssl ocsp as responder: good, revoked and unknown', needs('openssl'), async () => {
  await using folder = await temporaryFolder();
  const [good, revoked, stranger] = await Promise.all([1, 2, 3].map((i) => authority.issue({ names: [`host${i}.example.org`] })));
  assert.ok(good && revoked && stranger);
  await using responder = await startOpensslResponder({ authority, issued: [good, revoked], revoked: [revoked], folder: folder.path });
  await using own = await Scene.open({ directory: path.join(folder.path, 'state'), clock: new VirtualClock(Date.now()) });
  await own.use(
    [good, revoked, stranger].map((issued) => stapledLeaf(issued, authority)),
    { responder: responder.url },
  );
  assert.deepEqual(
    own.stapler.status().map(({ state, lastError }) => [state, lastError?.code]),
    [
      ['good', undefined],
      ['revoked', undefined],
      ['failing', 'status_unknown'],
    ],
  );
});
