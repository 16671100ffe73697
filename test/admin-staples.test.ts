import assert from 'node:assert/strict';
import { once } from 'node:events';
import * as http from 'node:http';
import test from 'node:test';
import { askSupervisor, askSupervisorForEach, serveControl } from '../src/admin/control.ts';
import { type Refreshed, stapleHandlers } from '../src/admin/staples.ts';
import type { CertificateStatus } from '../src/admin/status.ts';
import { OcspRefusal } from '../src/ocsp/refusal.ts';
import type { StapleStatus } from '../src/ocsp/staple-status.ts';
import { temporaryFolder } from './support/program.ts';

function certificate(fingerprint: string, ...names: string[]): CertificateStatus {
  const staple: StapleStatus = { fingerprint, names, mustStaple: false, state: 'pending', serving: false, failures: 0 };
  return { file: `${fingerprint}.pem`, keyType: 'ecdsa', fingerprint, notAfter: 0, staple };
}

const shared = certificate('aa', 'a.test', 'b.test');
const wildcard = certificate('cc', '*.c.test');
const virtualHosts = [
  { serverName: 'a.test', aliases: ['www.a.test'], certificates: [shared], problems: [] },
  { serverName: 'b.test', aliases: [], certificates: [shared, certificate('bb', 'b.test')], problems: [] },
  { serverName: 'x.c.test', aliases: [], certificates: [wildcard], problems: [] },
];

const unused = { offer: () => assert.fail(), refresh: () => assert.fail() };

test('refresh: what a name means, each certificate once, as each ends', async () => {
  await using folder = await temporaryFolder();
  const asked: string[] = [];
  const gates = new Map(['aa', 'bb', 'cc'].map((fingerprint) => [fingerprint, Promise.withResolvers<void>()]));
  const refresh = async (fingerprint: string): Promise<StapleStatus> => {
    asked.push(fingerprint);
    await gates.get(fingerprint)!.promise;
    if (fingerprint === 'bb') throw new Error('must not end the others');
    return { ...shared.staple!, fingerprint, state: 'good' };
  };
  const control = await serveControl(
    folder.path,
    stapleHandlers({ ...unused, refresh }, () => ({ virtualHosts })),
  );
  const all = askSupervisorForEach(folder.path, 'POST', '/ocsp/refresh?name=all');
  const ended: unknown[] = [];
  for (const fingerprint of ['cc', 'bb', 'aa']) {
    const next = all.next();
    gates.get(fingerprint)!.resolve();
    const { certificate, done, total } = (await next).value as Refreshed;
    ended.push([certificate.fingerprint, certificate.staple?.state, done, total]);
  }
  assert.equal((await all.next()).done, true);
  assert.deepEqual(ended, [
    ['cc', 'good', 1, 3],
    ['bb', 'pending', 2, 3],
    ['aa', 'good', 3, 3],
  ]);
  for (const [name, expected] of [
    ['A.test', ['aa']],
    ['www.a.test', ['aa']],
    ['b.test', ['aa', 'bb']],
    ['x.c.test', ['cc']],
    ['*.c.test', ['cc']],
    ['bb', ['bb']],
  ] as const) {
    asked.length = 0;
    for await (const _ of askSupervisorForEach(folder.path, 'POST', `/ocsp/refresh?name=${name}`));
    assert.deepEqual(asked, expected, name);
  }
  await assert.rejects(askSupervisorForEach(folder.path, 'POST', '/ocsp/refresh?name=d.test').next(), { name: 'ControlError', code: 'unknown_name' });
  await assert.rejects(askSupervisorForEach(folder.path, 'POST', '/ocsp/refresh').next(), { code: 'unknown_name' });
  await control.close();
});

test('a supervisor that ends in the middle is said to have ended', async () => {
  await using folder = await temporaryFolder();
  const refresh = (fingerprint: string) => (fingerprint === 'aa' ? Promise.resolve(shared.staple) : new Promise<undefined>(() => {}));
  const control = await serveControl(
    folder.path,
    stapleHandlers({ ...unused, refresh }, () => ({ virtualHosts })),
  );
  const all = askSupervisorForEach(folder.path, 'POST', '/ocsp/refresh?name=all');
  assert.equal(((await all.next()).value as Refreshed).done, 1);
  const rest = all.next();
  await Promise.all([assert.rejects(rest, { name: 'NotRunning', message: /ended before/ }), control.close()]);
});

test('import: the body as it came, and the refusal with its code', async () => {
  await using folder = await temporaryFolder();
  const offered: Buffer[] = [];
  const offer = (der: Buffer): StapleStatus[] => {
    offered.push(der);
    if (der.length === 1) throw new OcspRefusal('expired', 'the response ran out');
    return [shared.staple!];
  };
  const control = await serveControl(
    folder.path,
    stapleHandlers({ ...unused, offer }, () => ({ virtualHosts })),
  );
  const der = Buffer.from(Array.from({ length: 70_000 }, (_, i) => i % 256));
  assert.deepEqual(await askSupervisor(folder.path, 'POST', '/ocsp/import', der), [shared.staple]);
  assert.deepEqual(offered, [der]);
  await assert.rejects(askSupervisor(folder.path, 'POST', '/ocsp/import', Buffer.of(1)), {
    name: 'ControlError',
    code: 'expired',
    message: 'the response ran out',
  });
  await control.close();
});

test('a body without end is cut off', async () => {
  await using folder = await temporaryFolder();
  const control = await serveControl(folder.path, { 'POST /': () => assert.fail() });
  const request = http.request({ socketPath: folder.file('control.sock'), method: 'POST', path: '/' });
  request.on('error', () => {}); // it may still be writing when the answer comes
  request.write(Buffer.alloc(2 * 1024 * 1024));
  const [response] = (await once(request, 'response')) as [http.IncomingMessage];
  assert.equal(response.statusCode, 400);
  request.destroy();
  await control.close();
});
