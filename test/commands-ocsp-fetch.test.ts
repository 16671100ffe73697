import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { once } from 'node:events';
import https from 'node:https';
import net from 'node:net';
import * as tls from 'node:tls';
import test, { type TestContext } from 'node:test';
import { fetch } from '../src/commands/ocsp/fetch.ts';
import { parseHost, visit } from '../src/commands/ocsp/host.ts';
import { probe } from '../src/commands/ocsp/probe.ts';
import { uris } from '../src/commands/ocsp/uris.ts';
import { verify } from '../src/commands/ocsp/verify.ts';
import { errorResponse, signResponse } from '../src/demo/ocsp-signer.ts';
import { FaultyResponder, unreachableUrl } from './support/faulty-responder.ts';
import { startOpensslResponder } from './support/openssl-responder.ts';
import { staplegate, staplegateIn } from './support/program.ts';
import { Site } from './support/site.ts';
import { needs } from './support/tools.ts';

interface Json {
  result: string;
  code: string | null;
  responder?: string;
  method?: string;
  milliseconds?: number;
  certStatus: string | null;
  signer: { name: string } | null;
  out?: string;
}

test('fetch: from openssl ocsp, kept, and judged again', needs('openssl'), async (t) => {
  const site = await Site.create(t);
  const [good, revoked] = [await site.issue('good.test'), await site.issue('revoked.test')];
  const responder = await site.use(startOpensslResponder({ authority: site.authority, issued: [good, revoked], revoked: [revoked], folder: site.folder }));
  const goodPair = await site.write('good', good);
  const revokedPair = await site.write('revoked', revoked);
  const out = site.file('out.der');
  const yes = await fetch({ cert: site.file(goodPair.certificate), url: responder.url, out });
  const { responder: asked, method, milliseconds, certStatus, signer } = yes.json as Json;
  assert.deepEqual([yes.ok, asked, method, certStatus, signer?.name], [true, responder.url, 'GET', 'good', 'CN=End-to-end issuer'], yes.lines[0]);
  assert.ok(Number.isInteger(milliseconds));
  // The issuer's certificate is ca.pem, which the responder wrote.
  assert.ok((await verify({ issuer: site.file('ca.pem'), cert: site.file(goodPair.certificate), response: out })).ok);

  const no = await fetch({ cert: site.file(revokedPair.certificate), url: responder.url, out: site.file('no.der') });
  assert.deepEqual([no.ok, (no.json as Json).code, (no.json as Json).certStatus, (no.json as Json).out], [false, 'status_revoked', 'revoked', 'not written']);
  assert.ok(!existsSync(site.file('no.der')));
});

test('fetch: the URLs of the certificate, in turn; the issuer in the file, beside it, or named', async (t) => {
  const site = await Site.create(t);
  const responder = await site.use(FaultyResponder.start(site.authority));
  const leaf = await site.issue('a.test', { ocsp: [await unreachableUrl(), responder.url] });
  await site.write('chain', leaf);
  await site.write('bare', { ...leaf, chainPem: leaf.pem });
  const first = await fetch({ cert: site.file('chain.pem') });
  assert.deepEqual([first.ok, (first.json as Json).responder], [true, responder.url]);
  // chain.pem beside it is where certbot keeps the issuer.
  assert.ok((await fetch({ cert: site.file('bare.pem') })).ok);
  await site.write('elsewhere/bare', { ...leaf, chainPem: leaf.pem });
  await assert.rejects(fetch({ cert: site.file('elsewhere/bare.pem') }), { code: 'issuer_mismatch', message: /--issuer/ });
  assert.ok((await fetch({ cert: site.file('elsewhere/bare.pem'), issuer: site.file('chain.pem') })).ok);
  await site.write('silent', await site.issue('b.test'));
  await assert.rejects(fetch({ cert: site.file('silent.pem') }), { code: 'no_responder', message: /--url/ });
});

test('fetch and request: what keeps --out from being written, in words', async (t) => {
  const site = await Site.create(t);
  const responder = await site.use(FaultyResponder.start(site.authority));
  await site.write('a', await site.issue('a.test', { ocsp: responder.url }));
  const cert = site.file('a.pem');
  for (const [out, words] of [
    [site.file('nowhere', 'x.der'), `the folder ${site.file('nowhere')} does not exist`],
    [site.file('a.pem', 'x.der'), `${site.file('a.pem')} is not a folder`],
    [site.folder, 'it is a folder; name a file in it'],
    ['/dev/full', 'the disk is full'],
  ] as const) {
    const message = `${out} cannot be written (--out): ${words}`;
    await assert.rejects(fetch({ cert, out }), { code: 'file_not_writable', message });
    const { code, stderr } = await staplegate('ocsp', 'request', '--cert', cert, '--issuer', cert, '--out', out);
    assert.deepEqual([code, stderr.includes(message)], [1, true], stderr);
  }
});

test('fetch: an https responder of a private authority is believed when NODE_EXTRA_CA_CERTS names it', async (t) => {
  const site = await Site.create(t);
  const web = await site.root.issue({ names: ['127.0.0.1'] });
  await site.write('a', await site.issue('a.test', { ocsp: 'http://127.0.0.1:9/' }));
  const leaf = new X509Certificate(await readFile(site.file('a.pem')));
  const der = signResponse({ signer: site.authority, entries: [{ certId: { leaf, issuer: site.authority.certificate } }] });
  const server = https.createServer({ cert: web.chainPem, key: web.keyPem }, (_, response) => {
    response.writeHead(200, { 'content-type': 'application/ocsp-response' }).end(der);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  const args = ['ocsp', 'fetch', '--cert', site.file('a.pem'), '--url', `https://127.0.0.1:${(server.address() as net.AddressInfo).port}/`];
  const { NODE_EXTRA_CA_CERTS: _, ...env } = process.env;
  const wary = await staplegateIn(env, ...args);
  assert.deepEqual([wary.code, /responder_unreachable/.test(wary.stdout)], [1, true], wary.stdout);
  const trusting = await staplegateIn({ ...env, NODE_EXTRA_CA_CERTS: site.ca }, ...args);
  assert.equal(trusting.code, 0, trusting.stdout);
});

test('fetch: each way in which a responder fails, in time and with its code', async (t) => {
  const site = await Site.create(t);
  const responder = await site.use(FaultyResponder.start(site.authority));
  await site.write('a', await site.issue('a.test', { ocsp: responder.url }));
  for (const [fault, code] of [
    ['hangs_before_head', 'responder_timeout'],
    ['http_500', 'responder_http_status'],
    ['garbage', 'malformed'],
    ['unauthorized', 'response_status'],
    ['wrong_certificate', 'no_matching_entry'],
    ['expired', 'expired'],
    ['huge', 'response_too_large'],
  ] as const) {
    responder.fault = fault;
    const { ok, json, lines } = await fetch({ cert: site.file('a.pem'), timeout: fault === 'hangs_before_head' ? 100 : undefined });
    assert.deepEqual([ok, (json as Json).result, (json as Json).code], [false, 'refused', code]);
    assert.ok(lines[0]!.startsWith(`refused: ${code}: `), lines[0]);
  }
  responder.fault = 'good';
  const { code, stdout } = await staplegate('ocsp', 'fetch', '--cert', site.file('a.pem'), '--timeout', '5s');
  assert.equal(code, 0);
  assert.match(stdout, /^good: valid until .*\n[^]* responder +http:\/\/127\.0\.0\.1:\d+\n +method +GET\n/);
});

/** A TLS server that staples what it is told. */
async function serve(t: TestContext, { chainPem, keyPem }: { chainPem: string; keyPem: string }, staple?: Buffer, options: tls.TlsOptions = {}) {
  const server = tls.createServer({ cert: chainPem, key: keyPem, ...options });
  server.on('OCSPRequest', (_certificate: Buffer, _issuer: Buffer, done: (error: Error | null, response: Buffer) => void) => done(null, staple as Buffer));
  server.on('tlsClientError', () => {});
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  return { host: '127.0.0.1', port: (server.address() as net.AddressInfo).port, server };
}

test('probe: what a client sees, and a verdict about the staple alone', async (t) => {
  const site = await Site.create(t);
  const leaf = await site.issue('a.test', { ocsp: 'http://ocsp.test/', mustStaple: true });
  const certId = { leaf: leaf.certificate, issuer: site.authority.certificate };
  const staple = signResponse({ signer: site.authority, entries: [{ certId }] });
  const host = await serve(t, leaf, staple);
  const { ok, json, lines } = await probe(host, { servername: 'a.test', cafile: site.ca });
  assert.ok(ok, lines.join('\n'));
  const seen = json as { connection: object; certificate: Record<string, unknown>; chain: string[]; staple: { responses: object[] }; result: string };
  assert.deepEqual(seen.connection, { protocol: 'TLSv1.3', group: 'X25519MLKEM768', cipher: 'TLS_AES_256_GCM_SHA384' });
  assert.deepEqual(
    [seen.certificate['names'], seen.certificate['publicKey'], seen.certificate['mustStaple'], seen.certificate['trusted'], seen.chain],
    [['a.test'], 'ECDSA P-256', true, true, ['CN=End-to-end issuer']],
  );
  assert.equal(seen.staple.responses.length, 1);
  assert.match(lines[0]!, /^good: valid until /);

  const old = await serve(t, leaf, staple, { minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT:@SECLEVEL=0' });
  const { ok: stillGood, json: oldJson } = await probe(old, { servername: 'other.test' });
  const { connection, certificate } = oldJson as { connection: { protocol: string }; certificate: { trusted: boolean; trustError: string } };
  assert.deepEqual([stillGood, connection.protocol, certificate.trusted], [true, 'TLSv1.1', false]);

  const { stdout, code } = await staplegate('ocsp', 'probe', `127.0.0.1:${host.port}`, '--servername', 'a.test', '--cafile', site.ca);
  assert.equal(code, 0);
  assert.match(stdout, /^good: [^]*protocol +TLSv1\.3\n[^]*trusted +true\n[^]*certStatus +good\n/);
});

test('probe: no staple, and each bad one', async (t) => {
  const site = await Site.create(t);
  const leaf = await site.issue('a.test');
  const certId = { leaf: leaf.certificate, issuer: site.authority.certificate };
  const day = 86_400_000;
  const sign = (entry: object) => signResponse({ signer: site.authority, entries: [{ certId, ...entry }], producedAt: new Date(Date.now() - 2 * day) });
  for (const [code, staple] of [
    ['no_staple', undefined],
    ['malformed', Buffer.from('not a staple')],
    ['response_status', errorResponse('tryLater')],
    ['expired', sign({ thisUpdate: new Date(Date.now() - 2 * day), nextUpdate: new Date(Date.now() - day) })],
    ['status_revoked', sign({ thisUpdate: new Date(Date.now() - day), certStatus: { revokedAt: new Date() } })],
    ['signer_not_authorized', signResponse({ signer: site.root, entries: [{ certId }] })],
  ] as const) {
    const { ok, json, lines } = await probe(await serve(t, leaf, staple), {});
    assert.deepEqual([ok, (json as Json).code], [false, code], lines[0]);
    assert.ok(lines[0]!.startsWith(`refused: ${code}: `));
    assert.ok(lines.some((line) => /subject +CN=a\.test/.test(line)));
  }
  // The issuer is not sent: --cafile may hold it.
  const bare = await serve(t, { ...leaf, chainPem: leaf.pem }, sign({ thisUpdate: new Date(Date.now() - day) }));
  assert.equal(((await probe(bare, {})).json as Json).code, 'issuer_mismatch');
  await site.write('issuer', { ...leaf, chainPem: site.authority.pem });
  assert.ok((await probe(bare, { cafile: site.file('issuer.pem') })).ok);
});

test('uris: of a server and of a file', async (t) => {
  const site = await Site.create(t);
  const leaf = await site.issue('a.test', { ocsp: ['http://one.test/', 'https://two.test/x'] });
  const { port } = await serve(t, leaf);
  await site.write('a', leaf);
  const expected = ['CN=a.test', '  http://one.test/', '  https://two.test/x', 'CN=End-to-end issuer', '  (none)'];
  assert.deepEqual((await uris(`127.0.0.1:${port}`)).lines, expected);
  const { ok, lines, json } = await uris(site.file('a.pem'));
  assert.deepEqual([ok, lines], [true, expected]);
  assert.deepEqual(
    (json as { certificates: { responders: string[] }[] }).certificates.map(({ responders }) => responders),
    [['http://one.test/', 'https://two.test/x'], []],
  );
  assert.equal((await uris(site.ca)).ok, false);
  await assert.rejects(uris(site.file('missing.pem')), { code: 'file_missing' });
  assert.equal((await staplegate('ocsp', 'uris', 'not a host')).code, 2);
});

test('a server sees handshakes that were ended, with the name that was asked for', async (t) => {
  const site = await Site.create(t);
  const leaf = await site.issue('a.test', { ocsp: 'http://one.test/' });
  for (const maxVersion of ['TLSv1.3', 'TLSv1.2'] as const) {
    const { port, server } = await serve(t, leaf, undefined, { maxVersion });
    const [connected] = await Promise.all([once(server, 'secureConnection'), uris(`127.0.0.1:${port}`, { servername: 'a.test' })]);
    assert.equal((connected as [tls.TLSSocket & { servername: string }])[0].servername, 'a.test');
  }
  const refuse = (_name: string, done: (error: Error) => void): void => done(new Error('unknown'));
  const { port } = await serve(t, leaf, undefined, { SNICallback: refuse });
  const { code, stderr } = await staplegate('ocsp', 'uris', `127.0.0.1:${port}`, '--servername', 'b.test');
  assert.equal(code, 1);
  assert.match(stderr, /^staplegate: handshake_failed: /);
});

test('a host that is not there, says nothing TLS, or refuses the name', async (t) => {
  const { port } = new URL(await unreachableUrl());
  await assert.rejects(visit({ host: '127.0.0.1', port: Number(port) }), { code: 'host_unreachable', message: /ECONNREFUSED/ });
  const plain = net.createServer((socket) => socket.end('SSH-2.0-OpenSSH_9.9\r\n')).listen(0, '127.0.0.1');
  await once(plain, 'listening');
  t.after(() => plain.close());
  const address = plain.address() as net.AddressInfo;
  await assert.rejects(visit({ host: '127.0.0.1', port: address.port }), { code: 'handshake_failed' });
  const { code, stderr } = await staplegate('ocsp', 'probe', `127.0.0.1:${address.port}`);
  assert.equal(code, 1);
  assert.match(stderr, /^staplegate: handshake_failed: .*127\.0\.0\.1:\d+.*\n$/);
});

test('a host that accepts and is silent costs ten seconds, not for ever', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const silent = net.createServer(() => {}).listen(0, '127.0.0.1');
  await once(silent, 'listening');
  t.after(() => silent.close());
  const visiting = assert.rejects(visit({ host: '127.0.0.1', port: (silent.address() as net.AddressInfo).port }), {
    code: 'host_timeout',
    message: /within 10 s/,
  });
  t.mock.timers.tick(10_000);
  await visiting;
});

test('how hosts are written', () => {
  const host = (text: string) => {
    const parsed = parseHost(text);
    return parsed && `${parsed.host} ${parsed.port}`;
  };
  assert.deepEqual(['a.test', 'a.test:8443', '127.0.0.1', '::1', '[::1]', '[::1]:8443', 'localhost:1'].map(host), [
    'a.test 443',
    'a.test 8443',
    '127.0.0.1 443',
    '::1 443',
    '::1 443',
    '::1 8443',
    'localhost 1',
  ]);
  assert.deepEqual(
    ['', ':443', 'a:0', 'a:65536', 'a:b', '[a]:1', '[::1', 'a b', 'https://a.test/', 'user@a.test', '1:2:3'].map(host),
    Array.from({ length: 11 }, () => undefined),
  );
});
