import assert from 'node:assert/strict';
import test from 'node:test';
import { signResponse } from '../src/demo/ocsp-signer.ts';
import { systemClock } from '../src/ocsp/clock.ts';
import { authority, Scene, scene } from './support/stapler-scene.ts';
import { VirtualClock } from './support/virtual-clock.ts';

const day = 86_400_000;

test('a wait longer than a Node timer can be ends when it should, not at once', (t) => {
  t.mock.timers.enable({ apis: ['setTimeout', 'Date'] });
  const rang: number[] = [];
  systemClock.setTimeout(() => rang.push(Date.now()), 60 * day);
  for (let days = 0; days < 61; days += 1) t.mock.timers.tick(day);
  assert.equal(rang.length, 1);
  assert.ok(rang[0]! >= 60 * day && rang[0]! <= 61 * day);
});

test('after a machine slept, what is due is noticed within minutes', (t) => {
  t.mock.timers.enable({ apis: ['setTimeout', 'Date'] });
  let rang = false;
  systemClock.setTimeout(() => (rang = true), 10 * day);
  t.mock.timers.setTime(11 * day);
  t.mock.timers.tick(15 * 60_000);
  t.mock.timers.tick(1);
  assert.equal(rang, true);
});

test('a cancelled wait does not ring, whichever piece of it is running', (t) => {
  t.mock.timers.enable({ apis: ['setTimeout', 'Date'] });
  let rang = 0;
  const cancel = systemClock.setTimeout(() => (rang += 1), 2 * day);
  t.mock.timers.tick(day);
  cancel();
  t.mock.timers.tick(3 * day);
  assert.equal(rang, 0);
});

test('a start while the clock is wrong keeps what is on disk, a response of a delegate too', async () => {
  await using s = await scene('http_500');
  const now = s.clock.now();
  const leaf = await s.scene.issue(s.responder.url);
  const delegate = await authority.issue({ ocspSigning: true, notBefore: new Date(now - 10 * day), notAfter: new Date(now + 10 * day) });
  await s.scene.use([leaf]);
  const entries = [{ certId: { leaf: leaf.leaf, issuer: authority.certificate }, thisUpdate: new Date(now) }];
  s.scene.stapler.offer(signResponse({ signer: delegate, certs: [delegate.certificate], entries, producedAt: new Date(now) }), 'test');
  await s.scene.stapler.close();
  for (const [wrong, serving] of [
    [now - 20 * day, false],
    [now + 20 * day, false],
    [now, true],
  ] as const) {
    await using after = await Scene.open({ directory: s.directory, clock: new VirtualClock(wrong) });
    await after.use([leaf]);
    assert.equal(after.status().serving, serving);
    assert.ok(!after.codes('warn').includes('cache_damaged'));
  }
});
