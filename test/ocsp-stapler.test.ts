import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import test from 'node:test';
import { ocspDefaults, type OcspPolicy } from '../src/config/policies.ts';
import type { StapledLeaf } from '../src/ocsp/staple-status.ts';
import { FaultyResponder } from './support/faulty-responder.ts';
import { startOpensslResponder } from './support/openssl-responder.ts';
import { temporaryFolder } from './support/program.ts';
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

test('a wrong content type is warned about once for all certificates of a responder', async () => {
  await using s = await scene('wrong_type');
  await s.scene.use([await s.scene.issue(s.responder.url), await s.scene.issue(s.responder.url)]);
  await s.scene.pass(3 * day);
  assert.deepEqual(s.scene.codes('warn'), ['responder_content_type']);
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
  await using own = await Scene.open({ directory: folder.file('state'), clock: new VirtualClock(Date.now()) });
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
