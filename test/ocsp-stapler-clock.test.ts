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

test('what is due already rings, and Node finds nothing to warn of', async () => {
  const warnings: Error[] = [];
  const warned = (warning: Error): unknown => warnings.push(warning);
  process.on('warning', warned);
  const { promise: rang, resolve } = Promise.withResolvers<void>();
  systemClock.setTimeout(resolve, -1000);
  await rang;
  process.off('warning', warned);
  assert.deepEqual(warnings, []);
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

test('a clock that is set back prolongs no wait', (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  let wall = Date.UTC(2030, 0);
  t.mock.method(Date, 'now', () => wall);
  let rang = false;
  systemClock.setTimeout(() => (rang = true), 60 * 60_000);
  wall = Date.UTC(2026, 10, 22);
  for (let minutes = 0; minutes < 59; minutes += 1) t.mock.timers.tick(60_000);
  assert.equal(rang, false);
  t.mock.timers.tick(60_000);
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

test('a clock that is set back drops no staple early', async () => {
  await using s = await scene();
  const leaf = await s.scene.issue(s.responder.url);
  await s.scene.use([leaf]);
  const { validUntil = 0 } = s.scene.stapler.current(leaf.fingerprint) ?? {};
  s.responder.fault = 'http_500';
  const sixHours = day / 4;
  s.clock.set(s.clock.now() - sixHours);
  await s.scene.pass(validUntil - s.clock.now() - 1);
  assert.equal(s.scene.status().serving, true);
  assert.ok(!s.scene.codes('warn').includes('staple_expired'));
  await s.scene.pass(1);
  assert.equal(s.scene.status().serving, false);
  assert.ok(s.scene.codes('warn').includes('staple_expired'));
});

test('a certificate that has run out only by a wrong clock is stapled within the hour in which the clock is right again', async () => {
  await using s = await scene();
  const { responder, clock } = s;
  const now = clock.now();
  const leaf = await s.scene.issue(responder.url, { notAfter: new Date(now + 30 * day) });
  clock.set(now + 40 * day);
  await s.scene.use([leaf]);
  assert.deepEqual([s.scene.status().state, s.scene.codes('info'), s.scene.stapler.isSettled(leaf.fingerprint)], ['expired', ['expired'], true]);
  await s.scene.pass(day);
  assert.deepEqual([responder.requests.length, s.scene.status().nextRefresh], [0, undefined]);
  clock.set(now);
  await s.scene.pass(day / 24);
  assert.deepEqual([s.scene.status().state, responder.requests.length], ['good', 1]);
});
