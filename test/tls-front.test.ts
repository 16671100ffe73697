import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import * as net from 'node:net';
import { Duplex } from 'node:stream';
import test, { before } from 'node:test';
import * as tls from 'node:tls';
import { Authority, type IssueOptions } from '../src/demo/authority.ts';
import type { Identity, Snapshot } from '../src/snapshot.ts';
import type { Keys } from './support/config.ts';
import { buildHello, serverNameExtension } from './support/hello.ts';
import { execute } from './support/program.ts';
import { connectAs } from './support/renaming-client.ts';
import { exchange, issueIdentity, snapshotOf, startTlsFront } from './support/tls-front.ts';
import { needs } from './support/tools.ts';

let authority: Authority;
before(async () => {
  authority = await Authority.root('TLS front test');
});

const identity = (virtualHost: string, options: IssueOptions): Promise<Identity> => issueIdentity(authority, virtualHost, options);
const snapshot = (hosts: Keys[], identities: Identity[], top?: Keys): Snapshot => snapshotOf(authority, hosts, identities, top);

async function connect(
  port: number,
  options: tls.ConnectionOptions = {},
): Promise<{ greeting: string; socket: tls.TLSSocket; subject: string; session: Promise<Buffer> }> {
  const socket = tls.connect({ port, host: '127.0.0.1', ca: authority.pem, checkServerIdentity: () => undefined, ...options });
  const session = new Promise<Buffer>((resolve) => socket.once('session', resolve));
  let greeting = '';
  socket.setEncoding('utf8').on('data', (text: string) => (greeting += text));
  const ended = once(socket, 'end'); // it may come with the end of the handshake
  ended.catch(() => {});
  await once(socket, 'secureConnect');
  const subject = socket.getPeerX509Certificate()?.subjectAltName ?? '';
  await ended;
  return { greeting: greeting.trim(), socket, subject, session };
}

const alertOf = (port: number, options: tls.ConnectionOptions): Promise<string> =>
  connect(port, options).then(
    () => 'connected',
    (error: NodeJS.ErrnoException) => error.code ?? error.message,
  );

test('exact names, one-label wildcards and the default each get their own certificate', async (t) => {
  const hosts = [{ server_name: 'shop.test', aliases: ['*.shop.test'] }, { server_name: 'a.shop.test' }, { server_name: 'other.test', default: true }];
  const identities = await Promise.all(hosts.map(({ server_name: name, aliases = [] }) => identity(name, { names: [name, ...aliases] })));
  const { port } = await startTlsFront(t, snapshot(hosts, identities));
  const asked: [servername: string, host: string][] = [
    ['shop.test', 'shop.test'],
    ['b.shop.test', 'shop.test'],
    ['a.shop.test', 'a.shop.test'],
    ['A.SHOP.test', 'a.shop.test'],
    ['x.b.shop.test', 'other.test'],
    ['unknown.test', 'other.test'],
    ['', 'other.test'],
  ];
  for (const [servername, host] of asked) {
    const { greeting, subject } = await connect(port, { servername });
    assert.equal(greeting, `${host} 127.0.0.1`, servername);
    assert.match(subject, new RegExp(`DNS:${host}`));
  }
});

test('without a default, unknown and missing names are refused with unrecognized_name', async (t) => {
  const { port } = await startTlsFront(t, snapshot([{ server_name: 'a.test' }], [await identity('a.test', { names: ['a.test'] })]));
  assert.equal(await alertOf(port, { servername: 'b.test' }), 'ERR_SSL_TLSV1_UNRECOGNIZED_NAME');
  assert.equal(await alertOf(port, { servername: '' }), 'ERR_SSL_TLSV1_UNRECOGNIZED_NAME');
  assert.equal(await alertOf(port, { servername: 'a.test' }), 'connected');
});

test('a virtual host without a certificate refuses, the others serve', async (t) => {
  const { port } = await startTlsFront(t, snapshot([{ server_name: 'a.test' }, { server_name: 'b.test' }], [await identity('a.test', { names: ['a.test'] })]));
  assert.match(await alertOf(port, { servername: 'b.test' }), /HANDSHAKE_FAILURE/);
  assert.equal(await alertOf(port, { servername: 'a.test' }), 'connected');
});

test('the key type goes by what the client can verify, and the staple with it', async (t) => {
  const identities = [await identity('a.test', { names: ['a.test'], keyType: 'rsa' }), await identity('a.test', { names: ['a.test'], keyType: 'ecdsa' })];
  const { port, staples } = await startTlsFront(t, snapshot([{ server_name: 'a.test' }], identities));
  for (const { fingerprint, keyType } of identities) staples.set(fingerprint, { der: Buffer.from(`staple of ${keyType}`), validUntil: Date.now() + 60_000 });
  const stapled = async (options: tls.ConnectionOptions) => {
    let staple: Buffer | null | undefined;
    const socket = tls.connect({ port, host: '127.0.0.1', servername: 'a.test', requestOCSP: true, rejectUnauthorized: false, ...options });
    socket.on('OCSPResponse', (response: Buffer | null) => (staple = response));
    await once(socket, 'secureConnect');
    socket.destroy();
    return staple?.toString();
  };
  assert.equal(await stapled({}), 'staple of ecdsa');
  assert.equal(await stapled({ sigalgs: 'RSA-PSS+SHA256:RSA+SHA256' }), 'staple of rsa');
  assert.equal(await stapled({ maxVersion: 'TLSv1.2', ciphers: 'ECDHE-RSA-AES128-GCM-SHA256' }), 'staple of rsa');
  assert.equal(await stapled({ maxVersion: 'TLSv1.2' }), 'staple of ecdsa');

  staples.set(identities[1]!.fingerprint, { der: Buffer.from('too old'), validUntil: Date.now() - 1 });
  assert.equal(await stapled({}), undefined, 'an expired staple is not served, and none is not an empty one');
});

test('each virtual host has its own protocol versions; TLS 1.0 only where the profile says so', needs('openssl'), async (t) => {
  const hosts = [
    { server_name: 'modern.test', tls: { profile: 'modern' } },
    { server_name: 'intermediate.test' },
    { server_name: 'old.test', tls: { profile: 'old' } },
    { server_name: 'capped.test', tls: { max_version: 'TLSv1.2' } },
  ];
  const identities = await Promise.all(hosts.map(({ server_name: name }) => identity(name, { names: [name], keyType: 'rsa' })));
  const { port } = await startTlsFront(t, snapshot(hosts, identities));
  const accepted = async (name: string) => {
    const flags = ['-tls1', '-tls1_1', '-tls1_2', '-tls1_3'];
    const results: string[] = [];
    for (const flag of flags) {
      const { stdout } = await execute('openssl', ['s_client', '-connect', `127.0.0.1:${port}`, '-servername', name, flag, '-cipher', 'DEFAULT@SECLEVEL=0']);
      if (/Cipher is (?!\(NONE\))/.test(stdout)) results.push(flag);
    }
    return results.join(' ');
  };
  assert.equal(await accepted('modern.test'), '-tls1_3');
  assert.equal(await accepted('intermediate.test'), '-tls1_2 -tls1_3');
  assert.equal(await accepted('old.test'), '-tls1 -tls1_1 -tls1_2 -tls1_3');
  assert.equal(await accepted('capped.test'), '-tls1_2');
});

test('client certificates are required, asked for, or neither, as each virtual host says', async (t) => {
  const clientAuth = (mode: string) => ({ client_auth: { mode, ca: 'clients.pem' } });
  const hosts = [
    { server_name: 'require.test', tls: clientAuth('require') },
    { server_name: 'request.test', tls: clientAuth('request') },
    { server_name: 'none.test' },
  ];
  const identities = await Promise.all(hosts.map(({ server_name: name }) => identity(name, { names: [name] })));
  const { port, log } = await startTlsFront(t, snapshot(hosts, identities));
  const failures = () => log.of('debug').map(({ message }) => message);
  const stranger = await (await Authority.root('Stranger')).issue({ commonName: 'client', clientAuth: true });
  const client = await authority.issue({ commonName: 'client', clientAuth: true });
  const good = { cert: client.pem, key: client.keyPem };
  const greeted = (servername: string, options: tls.ConnectionOptions = {}) =>
    connect(port, { servername, ...options })
      .then(({ greeting }) => greeting !== '')
      .catch(() => false);

  assert.equal(await greeted('require.test'), false);
  assert.equal(failures().at(-1), 'handshake failed: peer did not return a certificate');
  assert.equal(await greeted('require.test', { cert: stranger.pem, key: stranger.keyPem }), false);
  assert.equal(failures().at(-1), "handshake failed: the client's certificate is refused (unable to verify the first certificate)");
  assert.equal(await greeted('require.test', good), true);
  assert.equal(await greeted('request.test'), true);
  assert.equal(await greeted('none.test'), true);

  // CVE-2025-23419: a session of a virtual host without client certificates must not open the one that requires them.
  const { session } = await connect(port, { servername: 'none.test' });
  const resumed = await greeted('require.test', { session: await session });
  assert.equal(resumed, false);
});

/** A connection that says nothing after its ClientHello until it is released; `answered` when the server has said its part. */
function stopped(port: number): { socket: Duplex; answered: Promise<unknown>; release: () => void } {
  const raw = net.connect(port, '127.0.0.1');
  const { promise: released, resolve: release } = Promise.withResolvers<void>();
  let isFirst = true;
  const socket = new Duplex({
    read: () => {},
    write: (bytes: Buffer, _, done) => {
      void (isFirst ? Promise.resolve() : released).then(() => raw.write(bytes, done));
      isFirst = false;
    },
    final: (done) => void raw.end(done),
  });
  const answered = once(raw, 'data');
  raw.on('data', (bytes) => socket.push(bytes));
  raw.on('error', () => {}).on('close', () => socket.push(null));
  return { socket, answered, release };
}

test('a handshake that a reload of the client-certificate rules overtakes lets nobody in; one of any other reload does', async (t) => {
  const hosts = (tightened: boolean) => [
    { server_name: 'a.test', tls: tightened ? { client_auth: { mode: 'require', ca: 'clients.pem' } } : {} },
    { server_name: 'b.test' },
  ];
  const identities = await Promise.all(['a.test', 'b.test'].map((name) => identity(name, { names: [name] })));
  const { front, port, counters } = await startTlsFront(t, snapshot(hosts(false), identities));
  for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
    assert.deepEqual(front.update(snapshot(hosts(false), identities)), new Set(counters.accepted > 0 ? ['a.test'] : []));
    const under = ['a.test', 'b.test'].map((servername) => {
      const { socket, answered, release } = stopped(port);
      const greeting = connect(port, { servername, socket, maxVersion }).then(({ greeting }) => greeting, String);
      return { greeting, answered, release };
    });
    await Promise.all(under.map(({ answered }) => answered));
    assert.deepEqual(front.update(snapshot(hosts(true), identities)), new Set(['a.test']));
    for (const { release } of under) release();
    const [a, b] = await Promise.all(under.map(({ greeting }) => greeting));
    assert.doesNotMatch(a!, /a\.test/, maxVersion);
    assert.equal(b, 'b.test 127.0.0.1', maxVersion);
  }
  assert.deepEqual(counters.refused, { client_rules_changed: 2 });
});

test('the second hello after a HelloRetryRequest must ask for the name of the first', needs('/usr/bin/python3'), async (t) => {
  const hosts = [{ server_name: 'a.test', aliases: ['alias.test'] }, { server_name: 'b.test' }];
  const identities = await Promise.all(hosts.map(({ server_name: name }) => identity(name, { names: [name] })));
  const { port, counters, log } = await startTlsFront(t, snapshot(hosts, identities));
  const retried = 'P-521:P-256'; // the server has the second only
  assert.deepEqual(await connectAs(port, retried, 'a.test', 'A.test.'), { connected: true, greeting: 'a.test 127.0.0.1' });
  for (const other of ['b.test', 'alias.test', 'unknown.test']) assert.equal((await connectAs(port, retried, 'a.test', other)).greeting, '', other);
  assert.deepEqual(counters.refused, { server_name_changed: 3 });
  assert.deepEqual([log.of('warn'), log.of('error')], [[], []], 'strangers do not fill the log');
});

test('sessions are resumed under the same name, across fronts that share the ticket secret', async (t) => {
  const shared = snapshot([{ server_name: 'a.test' }], [await identity('a.test', { names: ['a.test'] })]);
  const [one, two] = [await startTlsFront(t, shared), await startTlsFront(t, shared)];
  const session = await (await connect(one.port, { servername: 'a.test' })).session;
  assert.equal((await connect(two.port, { servername: 'a.test', session })).socket.isSessionReused(), true);
  two.front.setTicketSecret(Buffer.alloc(32, 8));
  assert.equal((await connect(two.port, { servername: 'a.test', session })).socket.isSessionReused(), false);
});

test('new ticket keys cut no handshake', async (t) => {
  const { front, port } = await startTlsFront(t, snapshot([{ server_name: 'a.test' }], [await identity('a.test', { names: ['a.test'] })]));
  const rotating = setInterval(() => front.setTicketSecret(randomBytes(32)), 1);
  t.after(() => clearInterval(rotating));
  for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
    let session: Buffer | undefined;
    for (let i = 0; i < 20; i += 1) {
      const connected = await connect(port, { servername: 'a.test', maxVersion, ...(session && { session }) });
      assert.equal(connected.greeting, 'a.test 127.0.0.1');
      // One that was resumed in TLS 1.2 may go on with its ticket.
      session = (await Promise.race([connected.session, Promise.resolve(undefined)])) ?? session;
    }
  }
});

test('a new identity serves the next handshake; an open connection goes on', async (t) => {
  const old = await identity('a.test', { names: ['a.test', 'old.test'] });
  const { front, port } = await startTlsFront(t, snapshot([{ server_name: 'a.test' }], [old]));
  const before = await connect(port, { servername: 'a.test' });
  assert.match(before.subject, /old\.test/);
  front.setIdentities(['a.test'], [await identity('a.test', { names: ['a.test', 'new.test'] })]);
  assert.match((await connect(port, { servername: 'a.test' })).subject, /new\.test/);
  front.setIdentities(['a.test'], []);
  assert.match(await alertOf(port, { servername: 'a.test' }), /HANDSHAKE_FAILURE/);
});

test('at the start a handshake waits for the certificates of its virtual host, and for no other', async (t) => {
  const hosts = ['a.test', 'b.test', 'c.test'].map((name) => ({ server_name: name }));
  const first = { ...snapshot(hosts, [await identity('b.test', { names: ['b.test'] })]), awaited: ['a.test', 'c.test'] };
  const { front, port } = await startTlsFront(t, first);
  const early = connect(port, { servername: 'a.test' });
  const broken = alertOf(port, { servername: 'c.test' });
  assert.match((await connect(port, { servername: 'b.test' })).greeting, /^b\.test/);
  front.setIdentities(['a.test'], [await identity('a.test', { names: ['a.test'] })]);
  assert.match((await early).greeting, /^a\.test/);
  // Its certificates turned out to be of no use.
  front.setIdentities(['c.test'], []);
  assert.match(await broken, /HANDSHAKE_FAILURE/);
});

test('what waits for certificates at the start is dropped after timeouts.handshake, or goes on with a new configuration', async (t) => {
  const site = [{ server_name: 'a.test' }];
  const ready = snapshot(site, [await identity('a.test', { names: ['a.test'] })]);
  const hasty = { ...snapshot(site, [], { timeouts: { handshake: '50ms' } }), awaited: ['a.test'] };
  const { port } = await startTlsFront(t, hasty);
  await assert.rejects(connect(port, { servername: 'a.test' }), /disconnected before secure TLS connection/);
  const { front, port: other } = await startTlsFront(t, { ...ready, identities: [], awaited: ['a.test'] });
  const early = connect(other, { servername: 'a.test' });
  front.update(ready);
  assert.match((await early).greeting, /^a\.test/);
});

test('plain HTTP on a TLS port is told so', needs('curl'), async (t) => {
  const { port } = await startTlsFront(t, snapshot([{ server_name: 'a.test' }], [await identity('a.test', { names: ['a.test'] })]));
  const { stdout } = await execute('curl', ['-si', `http://127.0.0.1:${port}/`]);
  assert.match(stdout, /^HTTP\/1\.1 400 Bad Request[^]*https:\/\//);
  assert.match((await exchange(port, 'G', 'E', 'T', ' / HTTP/1.0\r\n\r\n')).toString(), /^HTTP\/1\.1 400 /);
});

test('a hello that never ends is dropped after timeouts.handshake, a broken one at once with an alert', async (t) => {
  const { port } = await startTlsFront(
    t,
    snapshot([{ server_name: 'a.test' }], [await identity('a.test', { names: ['a.test'] })], { timeouts: { handshake: '50ms' } }),
  );
  const raw = async (bytes: Buffer) => (await exchange(port, bytes)).toString('hex');
  assert.equal(await raw(Buffer.of(22, 3, 1)), '');
  assert.equal(await raw(buildHello({ extensions: [[0, serverNameExtension('a.test')]] }).subarray(0, 40)), '');
  assert.equal(await raw(Buffer.from('80000000', 'hex')), '1503030002020a');
  assert.equal(await raw(Buffer.from('802e0100020015', 'hex')), '15030300020246', 'SSL 2.0');
});

test('the PROXY header gives the client address, from trusted proxies only', async (t) => {
  const listen = { listen: [{ address: '127.0.0.1:0', proxy_protocol: true }] };
  const identities = [await identity('a.test', { names: ['a.test'] })];
  const through = async (trusted: string) => {
    const { port, log } = await startTlsFront(t, snapshot([{ server_name: 'a.test' }], identities, { ...listen, trusted_proxies: [trusted] }));
    const raw = net.connect(port, '127.0.0.1');
    raw.on('error', () => {});
    raw.write('PROXY TCP4 192.0.2.7 10.0.0.1 5000 443\r\n');
    const greeting = await connect(port, { socket: raw, servername: 'a.test' }).then(
      (connected) => connected.greeting,
      () => 'refused',
    );
    return { greeting, warned: log.of('warn').length };
  };
  assert.deepEqual(await through('127.0.0.0/8'), { greeting: 'a.test 192.0.2.7', warned: 0 });
  assert.deepEqual(await through('10.0.0.0/8'), { greeting: 'refused', warned: 1 });
});

test('ten thousand identities leave nothing behind; each handshake has the newest with its own staple, and an open connection goes on', async () => {
  const program = new URL('support/identity-swaps.ts', import.meta.url).pathname;
  const { stdout, stderr } = await execute(process.execPath, ['--expose-gc', program, '10000'], { timeoutMs: 60_000 });
  assert.notEqual(stdout, '', stderr);
  const { before, after, ...rest } = JSON.parse(stdout) as Record<'before' | 'after', Record<string, number>>;
  const { heap, memory, ...objects } = after;
  assert.deepEqual(rest, { handshakes: 1201, wrong: 0, echo: 'still here', opened: 'DNS:a.test, DNS:even.test' });
  for (const [kind, count] of Object.entries(objects)) assert.ok(count <= before[kind]!, `${kind}: ${before[kind]}, then ${count}`);
  assert.ok(heap! < before['heap']! + 3, `heap ${before['heap']}, then ${heap} MB`);
  // A thousand contexts that stayed would be 40 MB; the system gets freed memory back in pieces.
  assert.ok(memory! < before['memory']! + 30, `memory ${before['memory']}, then ${memory} MB`);
});

test('the TLS contexts in memory are bounded: the one used longest ago goes, and is made anew when it is asked for', async (t) => {
  const names = ['a.test', 'b.test', 'c.test', 'd.test'];
  const identities = await Promise.all(names.map((name) => identity(name, { names: [name] })));
  const { port, counters } = await startTlsFront(
    t,
    snapshot(
      names.map((name) => ({ server_name: name })),
      identities,
    ),
    { mostContexts: 2 },
  );
  const session = await (await connect(port, { servername: 'a.test' })).session;
  for (const name of [...names, ...names.toReversed()]) {
    assert.match((await connect(port, { servername: name })).subject, new RegExp(`DNS:${name}`));
    assert.ok(counters.now.contexts <= 2);
  }
  assert.equal(
    (await connect(port, { servername: 'a.test', session })).socket.isSessionReused(),
    true,
    'its ticket keys are derived, so they are the same again',
  );
});
