import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdir, rm, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import test from 'node:test';
import { ocspDefaults } from '../src/config/policies.ts';
import { signResponse } from '../src/demo/ocsp-signer.ts';
import type { ResponseFile } from '../src/ocsp/given-response.ts';
import type { OcspRefusal } from '../src/ocsp/refusal.ts';
import type { StapledLeaf } from '../src/ocsp/staple-status.ts';
import { authority, Scene, scene as openScene } from './support/stapler-scene.ts';

const minute = 60_000;
const hour = 60 * minute;
const day = 24 * hour;

async function scene() {
  const s = await openScene();
  const file: ResponseFile = { path: path.join(s.directory, 'response.der'), configured: true };
  /** A response about the certificate, made `age` ago for a day. */
  const response = ({ leaf, issuer }: StapledLeaf, { age = 0, revoked = false } = {}): Buffer => {
    const thisUpdate = new Date(s.clock.now() - age);
    const certStatus = revoked ? { revokedAt: thisUpdate } : 'good';
    const nextUpdate = new Date(thisUpdate.getTime() + day);
    return signResponse({ signer: authority, producedAt: thisUpdate, entries: [{ certId: { leaf, issuer: issuer! }, certStatus, thisUpdate, nextUpdate }] });
  };
  return { ...s, file, response };
}

test('a certificate with nobody to ask is stapled from the file: until it runs out, and again with a newer one', async () => {
  await using s = await scene();
  const leaf = await s.scene.issue([]);
  const der = s.response(leaf);
  await writeFile(s.file.path, der);
  await s.scene.use([leaf], {}, s.file);
  assert.deepEqual(s.scene.stapler.current(leaf.fingerprint)?.der, der);
  const { state, nextRefresh, responder } = s.scene.status();
  assert.deepEqual([state, nextRefresh, responder], ['good', undefined, s.file.path]);
  assert.deepEqual(s.scene.log.lines, [
    {
      level: 'info',
      message: 'OCSP update',
      facts: { certificate: 'www.example.org', responder: s.file.path, method: 'file', result: 'good', next: undefined },
    },
  ]);

  await s.scene.pass(2 * day);
  assert.deepEqual([s.scene.status().state, s.scene.status().serving, s.scene.codes('warn')], ['failing', false, ['staple_expired']]);

  await writeFile(s.file.path, s.response(leaf));
  await s.scene.stapler.reread([s.file.path]);
  assert.deepEqual([s.scene.status().state, s.scene.status().serving], ['good', true]);
  assert.equal(s.responder.requests.length, 0);
});

test('of file, disk cache and responder the newest response counts', async () => {
  await using s = await scene();
  const leaf = await s.scene.issue(s.responder.url);
  await writeFile(s.file.path, s.response(leaf, { age: 2 * hour }));
  await s.scene.use([leaf], {}, s.file);
  // Good for another ten hours, so nobody is asked yet.
  assert.deepEqual([s.scene.status().serving, s.responder.requests.length], [true, 0]);
  assert.equal(s.scene.status().nextRefresh, s.clock.now() + 10 * hour);

  await s.scene.stapler.refresh(leaf.fingerprint);
  const fetched = s.scene.stapler.current(leaf.fingerprint);
  await writeFile(s.file.path, s.response(leaf, { age: hour }));
  await s.scene.stapler.reread([s.file.path]);
  assert.equal(s.scene.stapler.current(leaf.fingerprint), fetched);
  assert.deepEqual([s.scene.codes('debug'), s.scene.codes('warn')], [['superseded'], []]);

  s.clock.advance(hour);
  const newest = s.response(leaf);
  await writeFile(s.file.path, newest);
  await s.scene.stapler.reread([s.file.path]);
  assert.deepEqual(s.scene.stapler.current(leaf.fingerprint)?.der, newest);
  assert.equal(s.scene.status().nextRefresh, s.clock.now() + 12 * hour);
});

test('a response from a file is kept on disk: it is served after a restart without the file', async () => {
  await using s = await scene();
  const leaf = await s.scene.issue([]);
  await writeFile(s.file.path, s.response(leaf));
  await s.scene.use([leaf], {}, s.file);
  await s.scene.stapler.close();
  await rm(s.file.path);
  await using after = await Scene.open({ directory: s.directory, clock: s.clock });
  await after.use([leaf], {}, { ...s.file, configured: false });
  assert.deepEqual([after.status().state, after.status().serving, after.log.lines], ['good', true, []]);
});

test('a file that says revoked is as loud as a responder that does', async () => {
  await using s = await scene();
  const leaf = await s.scene.issue(s.responder.url);
  await s.scene.use([leaf], {}, s.file);
  await writeFile(s.file.path, s.response(leaf, { revoked: true }));
  await s.scene.stapler.reread([s.file.path]);
  assert.deepEqual([s.scene.status().state, s.scene.status().serving, s.scene.codes('error')], ['revoked', false, ['status_revoked']]);
});

test('what is wrong with a file is said once for each content, with its code, and stops nothing', async () => {
  await using s = await scene();
  const leaf = await s.scene.issue([]);
  const other = await s.scene.issue([]);
  const { path: file } = s.file;
  await s.scene.use([leaf], {}, s.file);
  const troubles: [code: string, make: () => Promise<void>][] = [
    ['no_matching_entry', () => writeFile(file, s.response(other))],
    ['malformed', () => writeFile(file, '-----BEGIN OCSP RESPONSE-----')],
    ['malformed', () => writeFile(file, '')],
    ['expired', () => writeFile(file, s.response(leaf, { age: 2 * day }))],
    ['response_file_unreadable', () => writeFile(file, Buffer.alloc(70_000))],
    ['response_file_unreadable', () => rm(file).then(() => mkdir(file))],
    ['response_file_unreadable', () => rm(file, { recursive: true }).then(() => void execFileSync('mkfifo', [file]))],
  ];
  const expected = ['response_file_unreadable'];
  assert.match(s.scene.log.of('warn')[0]?.message ?? '', /response\.der does not exist \(certificates\[\]\.ocsp_response\)$/);
  for (const [code, make] of troubles) {
    await make();
    await s.scene.stapler.reread([file]);
    await s.scene.stapler.reread([file]);
    // A folder and a pipe are the same to an administrator.
    if (s.scene.log.of('warn').length > expected.length) expected.push(code);
    assert.deepEqual(s.scene.codes('warn'), expected);
    assert.deepEqual([s.scene.status().state, s.scene.status().lastError?.code, s.scene.status().serving], ['failing', code, false]);
  }
  assert.equal(expected.length, troubles.length);
  await rm(file);
  await writeFile(file, s.response(leaf));
  await s.scene.stapler.reread([file]);
  assert.deepEqual([s.scene.status().state, s.scene.status().lastError], ['good', undefined]);
});

test('where a responder is asked, a bad file is a warning and no failure', async () => {
  await using s = await scene();
  const leaf = await s.scene.issue(s.responder.url);
  await writeFile(s.file.path, 'no response');
  await s.scene.use([leaf], {}, s.file);
  assert.deepEqual([s.scene.codes('warn'), s.scene.status().state, s.responder.requests.length], [['malformed'], 'good', 1]);
});

test('a file that only may be there costs nothing while it is not, is used when it comes, and may be a link', async () => {
  await using s = await scene();
  const leaf = await s.scene.issue([]);
  await s.scene.use([leaf], {}, { ...s.file, configured: false });
  assert.deepEqual([s.scene.status().state, s.scene.stapler.isSettled(leaf.fingerprint)], ['no_responder', true]);
  assert.deepEqual(
    s.scene.log.lines.map(({ level, facts }) => [level, facts.code]),
    [['info', 'no_responder']],
  );
  const target = path.join(s.directory, 'elsewhere');
  await writeFile(target, s.response(leaf));
  await symlink(target, s.file.path);
  await s.scene.stapler.reread(['some/other/file', s.file.path]);
  assert.deepEqual([s.scene.status().state, s.scene.events.length], ['good', 1]);
  assert.deepEqual(s.scene.stapler.files(), [s.file.path]);
});

test('ocsp.responder none: nobody is asked, whatever the certificate names', async () => {
  await using s = await scene();
  const leaf = await s.scene.issue(s.responder.url);
  await s.scene.use([leaf], { responder: 'none' }, { ...s.file, configured: false });
  assert.match(s.scene.log.of('info')[0]?.message ?? '', /ocsp\.responder is none and no response was given$/);
  await writeFile(s.file.path, s.response(leaf));
  await s.scene.stapler.reread([s.file.path]);
  await s.scene.pass(2 * day);
  await s.scene.stapler.refresh(leaf.fingerprint);
  assert.deepEqual([s.responder.requests.length, s.scene.status().state], [0, 'failing']);
});

test('with ocsp.responder none, what came of asking before is history', async () => {
  await using s = await scene();
  const leaf = await s.scene.issue(s.responder.url);
  await s.scene.use([leaf]);
  s.responder.fault = 'http_500';
  await s.scene.stapler.refresh(leaf.fingerprint);
  await s.scene.stapler.idle();
  assert.equal(s.scene.status().state, 'failing');
  await s.scene.use([leaf], { responder: 'none' }, { ...s.file, configured: false });
  assert.deepEqual([s.scene.status().state, s.scene.status().failures, s.scene.status().serving], ['good', 0, true]);
});

test('of two virtual hosts with the same certificate, the file that one of them names is used', async () => {
  await using s = await scene();
  const leaf = await s.scene.issue([]);
  await writeFile(s.file.path, s.response(leaf));
  s.scene.stapler.setCertificates([
    { certificate: leaf, policy: ocspDefaults, file: { path: `${s.file.path}.ocsp`, configured: false } },
    { certificate: leaf, policy: ocspDefaults, file: s.file },
    { certificate: leaf, policy: ocspDefaults, file: { path: `${s.file.path}.ocsp`, configured: false } },
  ]);
  await s.scene.settle();
  assert.deepEqual([s.scene.stapler.files(), s.scene.status().state], [[s.file.path], 'good']);
});

test('a response that is offered is taken for the certificate it speaks of, and judged like any other', async () => {
  await using s = await scene();
  const [leaf, other] = [await s.scene.issue(s.responder.url), await s.scene.issue(s.responder.url)];
  await s.scene.use([other, leaf]);
  s.clock.advance(hour);
  const der = s.response(leaf);
  const taken = s.scene.stapler.offer(der, 'import');
  assert.deepEqual(
    taken.map(({ fingerprint, responder, state }) => [fingerprint, responder, state]),
    [[leaf.fingerprint, 'import', 'good']],
  );
  assert.deepEqual(s.scene.events.at(-1)?.staple?.der, der);
  const refusal = (bad: Buffer): unknown => {
    try {
      return s.scene.stapler.offer(bad, 'import');
    } catch (error) {
      return (error as OcspRefusal).code;
    }
  };
  assert.equal(refusal(s.response(leaf, { age: hour })), 'superseded');
  assert.equal(refusal(der.subarray(0, -1)), 'malformed');
  assert.equal(refusal(s.response(await s.scene.issue([]))), 'no_matching_entry');
  await s.scene.use([]);
  assert.equal(refusal(der), 'no_matching_entry');
});
