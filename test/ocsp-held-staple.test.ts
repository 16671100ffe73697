import assert from 'node:assert/strict';
import test from 'node:test';
import { Scene, scene } from './support/stapler-scene.ts';

const minute = 60_000;
const hour = 60 * minute;
const day = 24 * hour;

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
