import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import * as https from 'node:https';
import type { AddressInfo } from 'node:net';
import test, { type TestContext } from 'node:test';
import type * as tls from 'node:tls';
import { Authority, type Issued } from '../src/demo/authority.ts';
import { closedPort, httpBackend, RawBackend } from './support/backend.ts';
import { configOf, type Keys } from './support/config.ts';
import { both, startFront } from './support/front.ts';
import { echoWebSockets } from './support/websocket.ts';

const day = 86_400_000;
const root = await Authority.root('Backends');
const other = await Authority.root('Others');
const good = await root.issue({ names: ['app.test', '127.0.0.1'] });
const files = new Map([
  ['/test/ca.pem', root.pem],
  ['/test/other.pem', other.pem],
]);
const get = 'GET / HTTP/1.1\r\nHost: a.test\r\n\r\n';

interface SecureBackend {
  url: string;
  /** Of each connection: the name that was asked for, and whether a session was resumed. */
  connections: { servername: string | false; isResumed: boolean }[];
  requests: string[];
}

/** An application that speaks TLS, and says on each request what it was asked. */
async function secureBackend(t: TestContext, issued: Pick<Issued, 'chainPem' | 'keyPem'> = good, options: https.ServerOptions = {}): Promise<SecureBackend> {
  const server = https.createServer({ cert: issued.chainPem, key: issued.keyPem, ...options });
  const backend: SecureBackend = { url: '', connections: [], requests: [] };
  server.on('secureConnection', (socket: tls.TLSSocket) => {
    backend.connections.push({ servername: (socket.servername as string | undefined) ?? false, isResumed: socket.isSessionReused() });
  });
  server.on('request', (req, res) => {
    backend.requests.push(req.url ?? '');
    const hash = createHash('sha256');
    req.on('data', (piece: Buffer) => hash.update(piece));
    req.on('end', () => {
      if (req.url === '/close') res.setHeader('Connection', 'close');
      const peer = (req.socket as tls.TLSSocket).getPeerCertificate() as Partial<tls.PeerCertificate>;
      res.end(req.url === '/large' ? Buffer.alloc(3_000_000, 'b') : `${req.method} ${hash.digest('hex')} ${String(peer.subject?.CN ?? '-')}`);
    });
  });
  server.on('tlsClientError', () => {});
  echoWebSockets(server);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  backend.url = `https://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return backend;
}

function config(engine: string, backends: string[], backendTls: Keys, top: Keys = {}): ReturnType<typeof configOf> {
  return configOf({ engine, routes: [{ path: '/', backends, backend_tls: backendTls }] }, top);
}

both('an https backend is verified, by its address or by the name that is given', async (t, engine) => {
  const backend = await secureBackend(t);
  const byAddress = await startFront(t, config(engine, [backend.url], { ca: 'ca.pem' }), {}, files);
  assert.match((await byAddress.ask(get)).body, /^GET /);
  const byName = await startFront(t, config(engine, [backend.url], { ca: 'ca.pem', server_name: 'App.Test' }), {}, files);
  assert.match((await byName.ask(get)).body, /^GET /);
  assert.deepEqual(
    backend.connections.map(({ servername }) => servername),
    [false, 'app.test'],
    'an address is no server name',
  );
});

both('bodies of any size pass, connections are kept, and the request says https nowhere', async (t, engine) => {
  const backend = await secureBackend(t);
  const front = await startFront(t, config(engine, [backend.url], { ca: 'ca.pem' }), {}, files);
  const client = await front.connect();
  const body = 'u'.repeat(3_000_000);
  client.send(`POST /up HTTP/1.1\r\nHost: a.test\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
  assert.equal((await client.answer()).body, `POST ${createHash('sha256').update(body).digest('hex')} -`);
  client.send('GET /large HTTP/1.1\r\nHost: a.test\r\n\r\n');
  assert.equal((await client.answer()).body, 'b'.repeat(3_000_000));
  assert.deepEqual(backend.requests, ['/up', '/large']);
  assert.equal(backend.connections.length, 1);
});

const flaws: Record<string, { issued: () => Promise<Issued> | Issued; tls?: Keys; setting: string; cause: RegExp }> = {
  'has another name': { issued: () => root.issue({ names: ['other.test'] }), setting: 'server_name', cause: /IP: 127\.0\.0\.1 is not in the cert's list/ },
  'has not the name that is given': {
    issued: () => good,
    tls: { server_name: 'db.test' },
    setting: 'server_name',
    cause: /Host: db\.test\. is not in the cert's altnames: DNS:app\.test/,
  },
  'was issued by somebody else': {
    issued: () => other.issue({ names: ['127.0.0.1'] }),
    setting: 'ca',
    cause: /the authority that issued its certificate is not known/,
  },
  'has expired': {
    issued: () => root.issue({ names: ['127.0.0.1'], notBefore: new Date(Date.now() - 9 * day), notAfter: new Date(Date.now() - day) }),
    setting: 'verify',
    cause: /has expired/,
  },
  'is not valid yet': {
    issued: () => root.issue({ names: ['127.0.0.1'], notBefore: new Date(Date.now() + day), notAfter: new Date(Date.now() + 9 * day) }),
    setting: 'verify',
    cause: /not valid yet/,
  },
};

for (const [flaw, { issued, tls: settings, setting, cause }] of Object.entries(flaws)) {
  both(`a certificate that ${flaw} is a 502, and nothing is sent`, async (t, engine) => {
    const backend = await secureBackend(t, await issued());
    const front = await startFront(t, config(engine, [backend.url], { ca: 'ca.pem', ...settings }), {}, files);
    assert.equal((await front.ask(get)).status, 502);
    const { level, facts } = await front.logged('backend_tls');
    assert.deepEqual([level, facts['backend'], facts['setting']], ['warn', backend.url, `virtual_hosts[].routes[].backend_tls.${setting}`]);
    assert.match(String(facts['cause']), cause);
    assert.deepEqual(backend.requests, []);
    // Nor later, when there might be a session to resume.
    assert.equal((await front.ask(get)).status, 502);
    assert.deepEqual(backend.requests, []);
  });
}

both('without `ca`, an authority that nobody knows is not believed; without `verify`, anybody is', async (t, engine) => {
  const backend = await secureBackend(t, await other.issue({ names: ['else.test'] }));
  const front = await startFront(t, config(engine, [backend.url], {}), {}, files);
  assert.equal((await front.ask(get)).status, 502);
  assert.equal((await front.logged('backend_tls')).facts['setting'], 'virtual_hosts[].routes[].backend_tls.ca');
  const careless = await startFront(t, config(engine, [backend.url], { verify: false }), {}, files);
  assert.match((await careless.ask(get)).body, /^GET /);
});

both('a backend that speaks no TLS is a 502 that says so', async (t, engine) => {
  const backend = await httpBackend(t, (_req, res) => res.end());
  const front = await startFront(t, config(engine, [backend.url.replace('http:', 'https:')], {}), {}, files);
  assert.equal((await front.ask(get)).status, 502);
  const { facts } = await front.logged('backend_tls');
  assert.deepEqual([facts['setting'], facts['cause']], ['virtual_hosts[].routes[].backends', 'it does not speak TLS there']);
});

both('timeouts.connect covers the handshake', async (t, engine) => {
  const silent = await new RawBackend(() => {}).listen(t);
  const front = await startFront(t, config(engine, [silent.url.replace('http:', 'https:')], {}, { timeouts: { connect: '150ms' } }), {}, files);
  assert.equal((await front.ask(get)).status, 504);
  assert.equal((await front.logged('backend_connect_timeout')).facts['setting'], 'timeouts.connect');
});

both('a backend whose certificate is bad is passed over while there is another', async (t, engine) => {
  const [bad, fine] = [await secureBackend(t, await other.issue({ names: ['127.0.0.1'] })), await secureBackend(t)];
  const front = await startFront(t, config(engine, [bad.url, fine.url], { ca: 'ca.pem' }), {}, files);
  for (let n = 0; n < 3; n += 1) assert.equal((await front.ask(get)).status, 200);
  assert.equal(front.log.filter(({ facts }) => facts['code'] === 'backend_tls').length, 1);
  assert.equal(fine.requests.length, 3);
});

for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
  both(`sessions are resumed on new connections, ${maxVersion}`, async (t, engine) => {
    const backend = await secureBackend(t, good, { maxVersion });
    const front = await startFront(t, config(engine, [backend.url], { ca: 'ca.pem' }), {}, files);
    for (let n = 0; n < 3; n += 1) assert.equal((await front.ask('GET /close HTTP/1.1\r\nHost: a.test\r\n\r\n')).status, 200);
    assert.deepEqual(
      backend.connections.map(({ isResumed }) => isResumed),
      [false, true, true],
    );
  });

  both(`a backend that wants a certificate gets it, and without one the log names the setting, ${maxVersion}`, async (t, engine) => {
    const client = await other.issue({ commonName: 'proxy', clientAuth: true });
    const withPair = new Map([...files, ['/test/proxy.pem', client.chainPem], ['/test/proxy.key', client.keyPem]]);
    const backend = await secureBackend(t, good, { maxVersion, requestCert: true, rejectUnauthorized: true, ca: other.pem });
    const known = await startFront(t, config(engine, [backend.url], { ca: 'ca.pem', certificate: 'proxy.pem', key: 'proxy.key' }), {}, withPair);
    assert.match((await known.ask(get)).body, / proxy$/);
    const unknown = await startFront(t, config(engine, [backend.url], { ca: 'ca.pem' }), {}, withPair);
    assert.equal((await unknown.ask(get)).status, 502);
    const line = await unknown.logged(maxVersion === 'TLSv1.2' ? 'backend_tls' : 'backend_closed');
    assert.equal(line.facts['setting'], 'virtual_hosts[].routes[].backend_tls.certificate');
    assert.match(String(line.facts['cause']), /alert/);
  });
}

both('a backend of TLS 1.0 days is spoken to where min_version allows it', async (t, engine) => {
  const backend = await secureBackend(t, good, { minVersion: 'TLSv1', maxVersion: 'TLSv1', ciphers: 'ALL:@SECLEVEL=0' });
  const strict = await startFront(t, config(engine, [backend.url], { ca: 'ca.pem' }), {}, files);
  assert.equal((await strict.ask(get)).status, 502);
  assert.equal((await strict.logged('backend_tls')).facts['setting'], 'virtual_hosts[].routes[].backend_tls.min_version');
  const lenient = await startFront(t, config(engine, [backend.url], { ca: 'ca.pem', min_version: 'TLSv1' }), {}, files);
  assert.equal((await lenient.ask(get)).status, 200);
});

test('a PROXY header comes before the handshake; a backend that cannot be reached is as without one', { timeout: 10_000 }, async (t) => {
  const backend = await new RawBackend(() => {}).listen(t);
  const route = (url: string) => ({ backends: [url.replace('http:', 'https:')], proxy_protocol: 'v1', backend_tls: { ca: 'ca.pem' } });
  const front = await startFront(t, configOf({ routes: [route(backend.url)] }), {}, files);
  const client = await front.connect();
  client.send(get);
  await backend.until(() => backend.text.includes('\r\n\x16\x03'));
  assert.match(backend.text, /^PROXY TCP4 192\.0\.2\.7 198\.51\.100\.1 \d+ 443\r\n\x16\x03/);
  backend.connections[0]?.socket.end();
  assert.equal((await client.answer()).status, 502);
  assert.equal((await front.logged('backend_tls')).facts['setting'], 'virtual_hosts[].routes[].backends');
  const nowhere = await startFront(t, configOf({ routes: [route(await closedPort())] }), {}, files);
  assert.equal((await nowhere.ask(get)).status, 502);
  await nowhere.logged('backend_unreachable');
});

both('a WebSocket passes', async (t, engine) => {
  const backend = await secureBackend(t);
  const front = await startFront(t, config(engine, [backend.url], { ca: 'ca.pem' }), {}, files);
  const client = await front.connect();
  client.send('GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n');
  await client.until(() => client.text.includes('\r\n\r\n'));
  assert.match(client.text, /^HTTP\/1\.1 101 /);
  client.text = '';
  // "hi", masked with zeros.
  client.send('\x81\x82\x00\x00\x00\x00hi');
  await client.until(() => client.text.length >= 4);
  assert.equal(client.text, '\x81\x02hi');
});

both('a file that is missing is a 502 that names it; a new configuration has it', async (t, engine) => {
  const backend = await secureBackend(t);
  const front = await startFront(t, config(engine, [backend.url], { ca: 'ca.pem' }));
  assert.equal((await front.ask(get)).status, 502);
  const { facts } = await front.logged('backend_tls');
  assert.deepEqual([facts['setting'], facts['cause']], ['virtual_hosts[].routes[].backend_tls.ca', '/test/ca.pem cannot be used']);
  front.front.update(config(engine, [backend.url], { ca: 'ca.pem' }), files);
  assert.equal((await front.ask(get)).status, 200);
});

both('an authority that is believed no more is not believed on connections that are open', async (t, engine) => {
  const backend = await secureBackend(t);
  const front = await startFront(t, config(engine, [backend.url], { ca: 'ca.pem' }), {}, files);
  assert.equal((await front.ask(get)).status, 200);
  front.front.update(config(engine, [backend.url], { ca: 'other.pem' }), files);
  assert.equal((await front.ask(get)).status, 502);
  assert.equal(backend.requests.length, 1);
});

test('routes with the same settings share connections and sessions, others do not', { timeout: 10_000 }, async (t) => {
  const backend = await secureBackend(t);
  const route = (path: string, settings: Keys) => ({ path, backends: [backend.url], backend_tls: { ca: 'ca.pem', ...settings } });
  const routes = [route('/a', {}), route('/b', {}), route('/c', { server_name: 'app.test' })];
  const front = await startFront(t, configOf({ routes }), {}, files);
  for (const path of ['/a', '/b', '/c', '/a', '/c']) assert.equal((await front.ask(`GET ${path} HTTP/1.1\r\nHost: a.test\r\n\r\n`)).status, 200);
  assert.deepEqual(backend.connections, [
    { servername: false, isResumed: false },
    { servername: 'app.test', isResumed: false },
  ]);
});
