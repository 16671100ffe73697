import assert from 'node:assert/strict';
import { once } from 'node:events';
import http2 from 'node:http2';
import https from 'node:https';
import type { AddressInfo } from 'node:net';
import test, { before } from 'node:test';
import tls from 'node:tls';
import { Authority, type Issued } from '../src/demo/authority.ts';
import { type OcspStapler, openStapler } from '../src/ocsp/library.ts';
import { FolderInUse } from '../src/ocsp/lock.ts';
import { parseResponse } from '../src/ocsp/response.ts';
import { FaultyResponder } from './support/faulty-responder.ts';
import { temporaryFolder } from './support/program.ts';
import { recordedLog } from './support/stapling.ts';

let authority: Authority;
before(async () => {
  authority = await Authority.root('Library test CA');
});

async function scene(fault: FaultyResponder['fault'] = 'good') {
  const folder = await temporaryFolder();
  const responder = await FaultyResponder.start(authority, fault);
  const log = recordedLog();
  const stapler = await openStapler({ directory: folder.path, log });
  const issue = (): Promise<Issued> => authority.issue({ names: ['localhost'], ocsp: responder.url });
  const dispose = async (): Promise<void> => {
    await stapler.close();
    await responder.close();
    await folder[Symbol.asyncDispose]();
  };
  return { stapler, responder, log, directory: folder.path, issue, [Symbol.asyncDispose]: dispose };
}

/** The certificate as servers send it, with its issuer. */
const chain = ({ pem }: Issued): string => pem + authority.pem;

const kinds = {
  tls: (options: tls.TlsOptions) => tls.createServer(options, (socket) => socket.end()),
  https: (options: tls.TlsOptions) => https.createServer(options, (_, response) => response.end()),
  http2: (options: tls.TlsOptions) => http2.createSecureServer(options as http2.SecureServerOptions, (_, response) => response.end()),
};

async function serve({ chainPem, keyPem }: Issued, stapler: OcspStapler, kind: keyof typeof kinds = 'tls') {
  const server = kinds[kind]({ cert: chainPem, key: keyPem });
  server.on('OCSPRequest', stapler.answer);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return { server, port, [Symbol.dispose]: () => void server.close() };
}

/** What a client gets: the staple, or null. */
async function staple(port: number, requestOCSP = true): Promise<Buffer | null | undefined> {
  const socket = tls.connect({ port, host: '127.0.0.1', servername: 'localhost', ca: authority.pem, requestOCSP, ALPNProtocols: ['h2', 'http/1.1'] });
  let response: Buffer | null | undefined;
  socket.on('OCSPResponse', (der: Buffer | null) => (response = der));
  await once(socket, 'secureConnect');
  socket.destroy();
  return response;
}

for (const kind of Object.keys(kinds) as (keyof typeof kinds)[]) {
  test(`a ${kind} server staples from its first handshake, once the certificate is in care`, async () => {
    await using s = await scene();
    const issued = await s.issue();
    const status = await s.stapler.add({ certificate: chain(issued) });
    assert.deepEqual([status.state, status.serving, status.names], ['good', true, ['localhost']]);
    using served = await serve(issued, s.stapler, kind);
    const der = await staple(served.port);
    assert.ok(der && parseResponse(der).responseStatus === 'successful');
    assert.equal(await staple(served.port, false), undefined);
  });
}

test('without a staple nothing is sent: neither an error nor an empty message, and the handshake goes on', async () => {
  await using s = await scene('try_later');
  const issued = await s.issue();
  const { state, lastError } = await s.stapler.add({ certificate: chain(issued) });
  assert.deepEqual([state, lastError?.code], ['failing', 'response_status']);
  using served = await serve(issued, s.stapler);
  assert.equal(await staple(served.port), null);
  const calls: unknown[][] = [];
  s.stapler.answer(issued.certificate.raw, null, (...results) => calls.push(results));
  assert.deepEqual(calls, [[null, null]]);
});

test('a certificate that is not in care gets nothing, nor does one that was removed', async () => {
  await using s = await scene();
  const [issued, other] = [await s.issue(), await s.issue()];
  await s.stapler.add({ certificate: chain(issued) });
  using served = await serve(other, s.stapler);
  assert.equal(await staple(served.port), null);
  served.server.setSecureContext({ cert: issued.pem, key: issued.keyPem });
  assert.ok(await staple(served.port));
  s.stapler.remove(issued.pem);
  assert.equal(await staple(served.port), null);
  assert.deepEqual(s.stapler.status(), []);
});

test('a renewed certificate that was added first has its staple from its first handshake', async () => {
  await using s = await scene();
  const [old, renewed] = [await s.issue(), await s.issue()];
  await s.stapler.add({ certificate: chain(old) });
  using served = await serve(old, s.stapler);
  const before = await staple(served.port);
  await s.stapler.add({ certificate: chain(renewed) });
  served.server.setSecureContext({ cert: renewed.pem, key: renewed.keyPem });
  s.stapler.remove(chain(old));
  const after = await staple(served.port);
  assert.ok(before && after && !before.equals(after));
});

test('the issuer may come apart, the settings are those of the configuration, and a restart asks nobody', async () => {
  await using s = await scene('hangs_before_head');
  const { pem: certificate } = await s.issue();
  const lost = await s.stapler.add({ certificate });
  assert.equal(lost.lastError?.code, 'issuer_missing');
  const waited = await s.stapler.add({ certificate, issuer: authority.pem, ocsp: { timeout: 1 } });
  assert.equal(waited.serving, false);
  s.responder.fault = 'good';
  const settings = { certificate, issuer: Buffer.from(authority.pem), ocsp: { timeout: 10_000 } };
  assert.equal((await s.stapler.add(settings)).state, 'good');
  await assert.rejects(openStapler({ directory: s.directory }), FolderInUse);
  await s.stapler.close();

  const asked = s.responder.requests.length;
  const again = await openStapler({ directory: s.directory, log: s.log });
  assert.equal((await again.add(settings)).serving, true);
  await again.close();
  assert.equal(s.responder.requests.length, asked);
});

test('a text that is no certificate is an error with a code, and changes nothing', async () => {
  await using s = await scene();
  await assert.rejects(s.stapler.add({ certificate: '' }), { code: 'file_empty' });
  await assert.rejects(s.stapler.add({ certificate: (await s.issue()).keyPem }), TypeError);
  assert.deepEqual(s.stapler.status(), []);
});
