import assert from 'node:assert/strict';
import test from 'node:test';
import { unreachableUrl } from './support/faulty-responder.ts';
import { scene } from './support/stapler-scene.ts';

const minute = 60_000;
const hour = 60 * minute;
const day = 24 * hour;

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
