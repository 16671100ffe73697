import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import test from 'node:test';
import { parseRequest } from '../src/ocsp/request.ts';
import type { ReceivedRequest } from './support/faulty-responder.ts';
import { Scene, scene } from './support/stapler-scene.ts';

const minute = 60_000;
const hour = 60 * minute;

const hashOf = ({ der }: ReceivedRequest): unknown => parseRequest(der).certIds[0]?.hashAlgorithm;
const nonceOf = ({ der }: ReceivedRequest): Buffer | undefined => parseRequest(der).nonce;

test('ocsp.min_delay: however short the HTTP freshness, no refresh comes sooner', async () => {
  await using s = await scene();
  s.responder.headers = { 'cache-control': 'max-age=1' };
  const leaf = await s.scene.issue(s.responder.url);
  await s.scene.use([leaf], { minDelay: 20 * minute });
  assert.equal(s.scene.status().nextRefresh, s.clock.now() + 20 * minute);
  await s.scene.use([leaf], { minDelay: minute });
  await s.scene.stapler.refresh(leaf.fingerprint);
  assert.equal(s.scene.status().nextRefresh, s.clock.now() + minute);
});

test('ocsp.min_delay: a response that lives shorter is refreshed at half of its life all the same', async () => {
  await using s = await scene();
  s.responder.lifetime = 4 * minute;
  await s.scene.use([await s.scene.issue(s.responder.url)], { minDelay: hour });
  assert.equal(Math.abs((s.scene.status().nextRefresh ?? 0) - s.clock.now() - 2 * minute) < 2000, true);
});

test('ocsp.sha1_signatures: accepted with one warning, or refused', async () => {
  await using s = await scene('signs_with_sha1');
  const leaf = await s.scene.issue(s.responder.url);
  await s.scene.use([leaf]);
  assert.deepEqual([s.scene.status().state, s.scene.codes('warn')], ['good', ['weak_signature']]);
  await s.scene.use([leaf], { sha1Signatures: 'refuse' });
  await s.scene.stapler.refresh(leaf.fingerprint);
  assert.deepEqual([s.scene.status().serving, s.scene.status().lastError?.code], [false, 'weak_signature']);
});

test('ocsp.cert_id_hash: sha1 and sha256 ask by that hash and no other', async () => {
  await using s = await scene('sha256_only');
  const leaf = await s.scene.issue(s.responder.url);
  await s.scene.use([leaf]);
  assert.equal(s.scene.status().lastError?.code, 'response_status');
  assert.deepEqual(s.responder.requests.map(hashOf), ['sha1', 'sha1']);
  s.responder.requests.length = 0;
  await s.scene.use([leaf], { certIdHash: 'sha256' });
  assert.equal(s.scene.status().state, 'good');
  assert.deepEqual(s.responder.requests.map(hashOf), ['sha256']);
});

test('ocsp.cert_id_hash auto: the other hash is tried where the first is not known, and remembered over a restart', async () => {
  await using s = await scene('sha256_only');
  const leaf = await s.scene.issue(s.responder.url);
  await s.scene.use([leaf], { certIdHash: 'auto' });
  assert.equal(s.scene.status().state, 'good');
  // GET and POST by the one, then GET by the other.
  assert.deepEqual(s.responder.requests.map(hashOf), ['sha1', 'sha1', 'sha256']);
  await s.scene.stapler.refresh(leaf.fingerprint);
  assert.deepEqual(s.responder.requests.slice(3).map(hashOf), ['sha256']);
  const { certIdHash } = JSON.parse(await readFile(path.join(s.files, `${leaf.fingerprint}-${leaf.issuerFingerprint}.json`), 'utf8')) as { certIdHash: string };
  assert.equal(certIdHash, 'sha256');
  await s.scene.stapler.close();

  await using after = await Scene.open({ directory: s.directory, clock: s.clock });
  await after.use([leaf], { certIdHash: 'auto' });
  await after.stapler.refresh(leaf.fingerprint);
  assert.deepEqual(s.responder.requests.slice(4).map(hashOf), ['sha256']);
});

test('ocsp.cert_id_hash auto: an answer about another certificate is a reason to try the other hash, an outage is none', async () => {
  await using s = await scene('wrong_certificate');
  const leaf = await s.scene.issue(s.responder.url);
  await s.scene.use([leaf], { certIdHash: 'auto' });
  assert.deepEqual(s.responder.requests.map(hashOf), ['sha1', 'sha1', 'sha256', 'sha256']);
  assert.equal(s.scene.status().lastError?.code, 'no_matching_entry');

  s.responder.fault = 'http_500';
  s.responder.requests.length = 0;
  await s.scene.stapler.refresh(leaf.fingerprint);
  assert.deepEqual(s.responder.requests.map(hashOf), ['sha1', 'sha1']);
});

test('ocsp.cert_id_hash auto: both hashes share one deadline', async () => {
  await using s = await scene('unauthorized');
  const leaf = await s.scene.issue(s.responder.url);
  const asked = s.scene.use([leaf], { certIdHash: 'auto', timeout: 10_000 });
  await s.responder.asked(1);
  s.clock.advance(6000);
  await s.responder.asked(2);
  s.responder.fault = 'hangs_before_head';
  await s.responder.asked(3);
  s.clock.advance(3999);
  assert.equal(s.scene.status().failures, 0);
  s.clock.advance(1);
  await asked;
  assert.equal(s.scene.status().failures, 1);
  assert.equal(s.scene.log.of('warn')[0]?.facts.duration_ms, 10_000);
});

test('ocsp.nonce: 32 random bytes, new for every question, with POST only', async () => {
  await using s = await scene('echoes_nonce');
  const leaf = await s.scene.issue(s.responder.url);
  await s.scene.use([leaf], { nonce: true });
  await s.scene.stapler.refresh(leaf.fingerprint);
  assert.equal(s.scene.status().state, 'good');
  const nonces = s.responder.requests.map(nonceOf);
  assert.deepEqual(
    [s.responder.methods, nonces.map((nonce) => nonce?.length)],
    [
      ['POST', 'POST'],
      [32, 32],
    ],
  );
  assert.notDeepEqual(nonces[0], nonces[1]);
});

test('ocsp.nonce: that of another question is refused; none at all, and one that was not asked for, are tolerated', async () => {
  await using s = await scene('wrong_nonce');
  const leaf = await s.scene.issue(s.responder.url);
  await s.scene.use([leaf], { nonce: true });
  assert.deepEqual([s.scene.status().serving, s.scene.status().lastError?.code], [false, 'nonce_mismatch']);
  s.responder.fault = 'good';
  await s.scene.stapler.refresh(leaf.fingerprint);
  assert.equal(s.scene.status().state, 'good');

  s.responder.fault = 'wrong_nonce';
  await s.scene.use([leaf], { nonce: false });
  await s.scene.stapler.refresh(leaf.fingerprint);
  assert.equal(s.scene.status().state, 'good');
  assert.equal(nonceOf(s.responder.requests.at(-1)!), undefined);
});

test('ocsp.no_next_update: for how long a response without an end is used; 0 is never', async () => {
  await using s = await scene('no_next_update');
  const leaf = await s.scene.issue(s.responder.url);
  await s.scene.use([leaf], { noNextUpdate: 6 * hour });
  assert.ok(Math.abs((s.scene.status().validUntil ?? 0) - s.clock.now() - 6 * hour) < 2000);
  assert.ok(Math.abs((s.scene.status().nextRefresh ?? 0) - s.clock.now() - 3 * hour) < 2000);
  await s.scene.use([leaf], { noNextUpdate: 0 });
  await s.scene.stapler.refresh(leaf.fingerprint);
  assert.deepEqual([s.scene.status().serving, s.scene.status().lastError?.code], [false, 'no_next_update']);
});

test('counters: how questions ended, for each responder, with bytes; updates; writes that failed', async () => {
  await using s = await scene();
  const leaf = await s.scene.issue([`${s.responder.url}/a`, `${s.responder.url}/b`]);
  await s.scene.use([leaf]);
  s.responder.fault = 'http_500';
  await s.scene.stapler.refresh(leaf.fingerprint);
  s.responder.fault = 'revoked';
  await s.scene.stapler.refresh(leaf.fingerprint);
  const size = (await readFile(path.join(s.files, `${leaf.fingerprint}-${leaf.issuerFingerprint}.der`))).length;
  const { updates, cacheWriteFailures, responders } = s.scene.stapler.counters;
  assert.deepEqual([updates, cacheWriteFailures, Object.keys(responders)], [2, 0, [s.responder.url]]);
  const { results, bytes } = responders[s.responder.url]!;
  assert.deepEqual(results, { good: 1, responder_http_status: 2, revoked: 1 });
  assert.ok(bytes > size && bytes < 3 * size, String(bytes));
});
