import assert from 'node:assert/strict';
import test from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { ocspDefaults } from '../src/config/policies.ts';
import { type Scene, scene } from './support/stapler-scene.ts';

const hour = 3_600_000;

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

/** Lets time pass for someone who waits for it outside the Stapler, with what they then ask for. */
async function passAwaited({ scene: { clock, stapler } }: { scene: Scene }, duration: number): Promise<void> {
  await setImmediate();
  clock.advance(duration);
  await setImmediate();
  await stapler.idle();
  await setImmediate();
}

test('a must-staple certificate whose responder is out of reach at the start is asked about again while start-up waits', async () => {
  await using s = await scene('breaks_off');
  const leaf = await s.scene.issue(s.responder.url, { mustStaple: true });
  await s.scene.use([leaf]);
  assert.equal(s.scene.status().state, 'failing');
  const asked: number[] = [];
  let arrived = false;
  const start = s.clock.now();
  const waiting = s.scene.stapler.firstStaple(leaf.fingerprint, 10_000).then(() => (arrived = true));
  const second = async (): Promise<void> => {
    const before = s.responder.requests.length;
    await passAwaited(s, 1_000);
    if (s.responder.requests.length > before) asked.push(s.clock.now() - start);
  };
  for (let i = 0; i < 4; i += 1) await second();
  assert.deepEqual([asked, arrived], [[1_000, 3_000], false]);
  s.responder.fault = 'good';
  for (let i = 0; i < 4; i += 1) await second();
  await waiting;
  assert.deepEqual([asked, s.scene.status().serving], [[1_000, 3_000, 7_000], true]);
});

test('a start waits no longer for a responder that has answered no, nor past ocsp.startup_wait, nor when it is ended', async () => {
  for (const fault of ['http_500', 'http_429', 'unauthorized'] as const) {
    await using s = await scene(fault);
    const leaf = await s.scene.issue(s.responder.url, { mustStaple: true });
    await s.scene.use([leaf]);
    const { length } = s.responder.requests;
    await s.scene.stapler.firstStaple(leaf.fingerprint, 10_000);
    assert.equal(s.responder.requests.length, length, fault);
  }
  await using s = await scene('breaks_off');
  const leaf = await s.scene.issue(s.responder.url, { mustStaple: true });
  await s.scene.use([leaf]);
  const waiting = s.scene.stapler.firstStaple(leaf.fingerprint, 2_500);
  await passAwaited(s, 1_000);
  await waiting;
  const ended = s.scene.stapler.firstStaple(leaf.fingerprint, 10_000);
  await s.scene.stapler.close();
  await ended;
});
