import assert from 'node:assert/strict';
import { once } from 'node:events';
import * as net from 'node:net';
import test, { before, type TestContext } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import * as tls from 'node:tls';
import { Authority } from '../src/demo/authority.ts';
import type { Identity, WorkerLimits } from '../src/snapshot.ts';
import { noConnections } from '../src/connection-counters.ts';
import { Admission, network } from '../src/tls/admission.ts';
import type { Keys } from './support/config.ts';
import { buildHello, serverNameExtension } from './support/hello.ts';
import { recordedLog } from './support/stapling.ts';
import { exchange, issueIdentity, type RunningFront, snapshotOf, startTlsFront } from './support/tls-front.ts';

let authority: Authority;
let identity: Identity;
before(async () => {
  authority = await Authority.root('Admission test');
  identity = await issueIdentity(authority, 'a.test', { names: ['a.test'] });
});

/** A front whose connections stay open. */
function front(t: TestContext, { limits = {}, top = {}, host = {} }: { limits?: Partial<WorkerLimits>; top?: Keys; host?: Keys } = {}): Promise<RunningFront> {
  return startTlsFront(t, snapshotOf(authority, [{ server_name: 'a.test', ...host }], [identity], top, limits), {
    onSecure: ({ socket }) => socket.on('error', () => {}).resume(),
  });
}

function dial(t: TestContext, port: number): net.Socket {
  const socket = net.connect(port, '127.0.0.1').on('error', () => {});
  t.after(() => socket.destroy());
  return socket;
}

async function secure(t: TestContext, port: number, options: tls.ConnectionOptions = {}): Promise<tls.TLSSocket> {
  const socket = tls.connect({ port, host: '127.0.0.1', servername: 'a.test', ca: authority.pem, ...options });
  socket.on('error', () => {}).resume();
  t.after(() => socket.destroy());
  await once(socket, 'secureConnect');
  return socket;
}

/** Waits for what other turns of the event loop bring about. */
async function until(condition: () => boolean): Promise<void> {
  const patience = AbortSignal.timeout(15_000);
  while (!condition()) {
    patience.throwIfAborted();
    await turn();
  }
}

async function turns(count: number): Promise<void> {
  for (let i = 0; i < count; i += 1) await turn();
}

test('at limits.connections newcomers wait in the queue, and come in when others end', async (t) => {
  const { port, counters, log } = await front(t, { limits: { connections: 3 } });
  const inside = [await secure(t, port), await secure(t, port), await secure(t, port)];
  await Promise.all([dial(t, port), dial(t, port)].map((socket) => once(socket, 'connect'))); // the kernel has them
  const late = secure(t, port);
  await turns(50);
  assert.deepEqual([counters.accepted, counters.now.open, counters.limitReached], [3, 3, 1]);
  assert.deepEqual(
    log.of('warn').map(({ facts }) => facts['code']),
    ['connection_limit'],
  );
  for (const socket of inside) socket.destroy();
  await late;
  assert.deepEqual([counters.accepted, counters.now.open], [6, 3]);
});

test('with the last of limits.connections one that is idle makes room, and if none is, one that will be', async (t) => {
  const inside: tls.TLSSocket[] = [];
  let idle: tls.TLSSocket | undefined;
  const { port, counters } = await startTlsFront(t, snapshotOf(authority, [{ server_name: 'a.test' }], [identity], {}, { connections: 3 }), {
    onSecure: ({ socket }) => inside.push(socket.on('error', () => {}).resume()),
    makeRoom: () => idle?.destroy(),
  });
  await secure(t, port);
  await secure(t, port);
  idle = inside[0];
  await secure(t, port);
  await until(() => counters.now.open === 2);
  idle = undefined;
  await secure(t, port);
  const late = secure(t, port);
  await turns(50);
  assert.deepEqual([counters.accepted, counters.now.open], [4, 3], 'nobody is idle');
  [, , idle] = inside;
  await late;
  assert.deepEqual([idle!.destroyed, counters.accepted], [true, 5]);
});

test('a burst is not accepted beyond the limit, on any listener', async (t) => {
  const { port, counters } = await front(t, { limits: { connections: 5 } });
  const burst = Array.from({ length: 40 }, () => dial(t, port));
  await Promise.all(burst.map((socket) => once(socket, 'connect')));
  await turns(50);
  assert.deepEqual([counters.accepted, counters.now.open], [5, 5]);
  for (const socket of burst) socket.destroy();
  await until(() => counters.accepted === 40 && counters.now.open === 0);
});

test('a reload changes the limits for those who come', async (t) => {
  const { port, counters, admission } = await front(t, { limits: { connections: 1 } });
  await secure(t, port);
  const second = secure(t, port);
  await turns(20);
  assert.equal(counters.accepted, 1);
  admission.limits = { connections: 2, handshakes: 1, connectionsPerAddress: undefined };
  await second;
  admission.limits = { connections: 1, handshakes: 1, connectionsPerAddress: undefined };
  assert.equal(counters.now.open, 2, 'nobody is sent away');
});

test('of too many unfinished handshakes the oldest makes room, so that a client that goes on is served', async (t) => {
  const { port, counters } = await front(t, { limits: { handshakes: 4 } });
  const half = buildHello({ extensions: [[0, serverNameExtension('a.test')]] }).subarray(0, 30);
  const flood: net.Socket[] = [];
  const begin = async (): Promise<void> => {
    const socket = dial(t, port);
    flood.push(socket.resume());
    socket.write(half);
    await once(socket, 'connect');
  };
  for (let i = 0; i < 10; i += 1) await begin();
  await until(() => counters.accepted === 10 && counters.now.open === 4);
  assert.deepEqual([counters.refused, counters.now], [{ crowded_out: 6 }, { open: 4, arriving: 4, contexts: 0 }]);
  const client = await secure(t, port);
  assert.equal(client.authorized, true);
  await until(() => counters.now.arriving === 3);
  await begin();
  await begin();
  await until(() => counters.accepted === 13);
  assert.equal(client.destroyed, false, 'who has finished is not asked to make room');
});

test('as many make room as have come, when several listeners accept in one turn of the event loop', async (t) => {
  const { admission, counters } = await front(t, { limits: { handshakes: 4 } });
  for (let i = 0; i < 10; i += 1) admission.enter(new net.Socket(), 10_000, { arrived: () => {} });
  await turns(5);
  assert.deepEqual([counters.now.arriving, counters.refused], [4, { crowded_out: 6 }]);
});

test('a shorter timeouts.handshake counts at once, for those on their way too', async (t) => {
  const { admission, counters } = await front(t);
  const listener = { arrived: () => {} };
  admission.enter(new net.Socket(), 3_600_000, listener);
  admission.enter(new net.Socket(), 20, listener);
  await until(() => counters.now.arriving === 0);
  assert.deepEqual(counters.refused, { handshake_timeout: 2 });
});

test('limits.connections_per_address counts clients, not the proxies in front of them', async (t) => {
  const limits = { connectionsPerAddress: 2 };
  const plain = await front(t, { limits });
  const [first] = [await secure(t, plain.port), await secure(t, plain.port)];
  await assert.rejects(secure(t, plain.port));
  assert.deepEqual(plain.counters.refused, { client_limit: 1 });
  first.destroy();
  await until(() => plain.counters.now.open === 1);
  await secure(t, plain.port);

  const balancer = await front(t, { limits, top: { trusted_proxies: ['127.0.0.0/8'] } });
  for (let i = 0; i < 4; i += 1) await secure(t, balancer.port);

  const proxied = await front(t, { limits, top: { trusted_proxies: ['127.0.0.0/8'], listen: [{ address: '127.0.0.1:0', proxy_protocol: true }] } });
  const through = async (client: string): Promise<tls.TLSSocket> => {
    // Not `dial`: destroying a socket and at once the TLS around it crashes Node 24.21 (in the client).
    const socket = net.connect(proxied.port, '127.0.0.1').on('error', () => {});
    socket.write(`PROXY TCP6 ${client} ::1 5000 443\r\n`);
    return secure(t, proxied.port, { socket });
  };
  await through('2001:db8:1:2::1');
  await through('2001:db8:1:2:3::1');
  await assert.rejects(through('2001:db8:1:2:ffff::9'));
  await through('2001:db8:1:3::1');
});

test('an IPv6 client is its network of 64 bits', () => {
  for (const address of ['2001:db8:1:2::', '2001:db8:1:2:3:4:5:6', '2001:db8:1:2::9']) assert.equal(network(address), '2001:db8:1:2', address);
  assert.equal(network('2001:db8::1'), '2001:db8:0:0');
  assert.equal(network('::1'), '0:0:0:0');
  assert.equal(network('1::2:3:4:5'), '1:0:0:0');
  assert.equal(network('192.0.2.1'), '192.0.2.1');
});

/** What is sent, and the one thing that is counted for it. */
const openings: [code: string, bytes: Buffer[]][] = [
  ['plain_http', [Buffer.from('GET / HTTP/1.1\r\n\r\n')]],
  ['plain_http', Array.from('POST / HTTP/1.1\r\n\r\n', (byte) => Buffer.from(byte))],
  ['sslv2_hello', [Buffer.from('802e0100020015', 'hex')]],
  ['hello_malformed', [Buffer.from('SSH-2.0-OpenSSH_9.9\r\n')]],
  ['hello_malformed', [Buffer.of(22, 3, 1, 0, 4, 2, 0, 0, 0)]],
  ['hello_too_large', [Buffer.of(22, 3, 1, 0, 4, 1, 0xff, 0xff, 0xff)]],
  ['unrecognized_name', [buildHello({ extensions: [[0, serverNameExtension('b.test')]] })]],
  ['handshake_failed', [buildHello({ suites: [0x0005], extensions: [[0, serverNameExtension('a.test')]] })]],
  ['handshake_timeout', [Buffer.of(22)]],
  ['handshake_timeout', []],
];

for (const [code, bytes] of openings) {
  test(`${code} is counted once: ${JSON.stringify(Buffer.concat(bytes).toString('latin1', 0, 12))}`, async (t) => {
    const { port, counters } = await front(t, { top: { timeouts: { handshake: '200ms' } } });
    await exchange(port, ...bytes);
    await until(() => counters.now.open === 0);
    assert.deepEqual([counters.accepted, counters.refused, counters.now.arriving], [1, { [code]: 1 }, 0]);
  });
}

test('one byte at a time does not outlast timeouts.handshake', async (t) => {
  const { port, counters } = await front(t, { top: { timeouts: { handshake: '300ms' } } });
  const hello = buildHello({ extensions: [[0, serverNameExtension('a.test')]] });
  const socket = dial(t, port).resume();
  let sent = 0;
  const drip = setInterval(() => socket.write(hello.subarray(sent, ++sent)), 20);
  t.after(() => clearInterval(drip));
  // The end may come as a reset: there are bytes that nobody has read.
  socket.on('error', () => {});
  await new Promise((resolve) => socket.once('close', resolve));
  clearInterval(drip);
  assert.ok(sent < hello.length);
  assert.deepEqual(counters.refused, { handshake_timeout: 1 });
});

test('a client that leaves before the end of its handshake is not a failed handshake', async (t) => {
  const { port, counters } = await front(t);
  const hello = buildHello({ extensions: [[0, serverNameExtension('a.test')]] });
  for (const bytes of [hello.subarray(0, 9), Buffer.alloc(0)]) {
    const socket = dial(t, port);
    socket.end(bytes);
    await once(socket, 'close');
  }
  await until(() => counters.refused['handshake_abandoned'] === 2);
  assert.deepEqual(counters.refused, { handshake_abandoned: 2 });
});

test('handshakes are counted by version, full or resumed; failures by reason', async (t) => {
  const { port, counters } = await front(t, { host: { tls: { client_auth: { mode: 'require', ca: 'clients.pem' } } } });
  const { pem: cert, keyPem: key } = await authority.issue({ commonName: 'client', clientAuth: true });
  const stranger = await (await Authority.root('Stranger')).issue({ commonName: 'client', clientAuth: true });
  for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
    const socket = tls.connect({ port, host: '127.0.0.1', servername: 'a.test', ca: authority.pem, maxVersion, cert, key });
    socket.on('error', () => {}).resume();
    t.after(() => socket.destroy());
    const [session] = (await once(socket, 'session')) as [Buffer];
    await secure(t, port, { maxVersion, cert, key, session });
  }
  await until(() => counters.now.arriving === 0);
  assert.deepEqual(counters.handshakes, { full: { 'TLSv1.2': 1, 'TLSv1.3': 1 }, resumed: { 'TLSv1.2': 1, 'TLSv1.3': 1 } });
  assert.deepEqual(counters.refused, {});

  const ends = async (options: tls.ConnectionOptions): Promise<void> => {
    const socket = tls.connect({ port, host: '127.0.0.1', servername: 'a.test', ca: authority.pem, ...options });
    const { promise, resolve } = Promise.withResolvers<void>();
    socket
      .on('error', () => {})
      .on('close', () => resolve())
      .resume();
    await promise;
  };
  await ends({});
  await ends({ cert: stranger.pem, key: stranger.keyPem });
  await ends({ maxVersion: 'TLSv1.2', minVersion: 'TLSv1.2', ciphers: 'AES128-SHA' });
  await until(() => counters.now.arriving === 0 && counters.refused['handshake_failed'] === 3);
  assert.deepEqual(counters.failures, { peer_did_not_return_a_certificate: 1, unable_to_verify_the_first_certificate: 1, no_shared_cipher: 1 });
});

test('a PROXY header that is missing or not trusted is counted', async (t) => {
  const listen = [{ address: '127.0.0.1:0', proxy_protocol: true }];
  for (const trusted of ['127.0.0.0/8', '10.0.0.0/8']) {
    const { port, counters } = await front(t, { top: { listen, trusted_proxies: [trusted] } });
    await exchange(port, 'GET / HTTP/1.1\r\n\r\n'.padEnd(200));
    assert.deepEqual(counters.refused, { proxy_protocol: 1 });
  }
});

test('who resets a connection before it is accepted is believed nothing: what it sent is still there, its address is not', async (t) => {
  const listen = [{ address: '127.0.0.1:0', proxy_protocol: true }];
  const { port, counters, admission } = await front(t, { top: { listen, trusted_proxies: ['10.0.0.0/8'] } });
  const limits = { connections: 1000, handshakes: 500, connectionsPerAddress: undefined };
  admission.limits = { ...limits, connections: 0 }; // the kernel has it until it is reset
  const client = dial(t, port);
  await once(client, 'connect');
  await new Promise((resolve) => client.write('PROXY TCP4 10.0.0.9 10.0.0.1 5000 443\r\nGET / HTTP/1.1\r\n\r\n', resolve));
  client.resetAndDestroy();
  await once(client, 'close');
  admission.limits = limits;
  await until(() => counters.accepted === 1 && counters.now.open === 0);
  assert.deepEqual(counters.refused, { handshake_abandoned: 1 });
});

test('of a burst a worker takes eight connections in a millisecond, and leaves the rest to others', (t) => {
  t.mock.timers.enable({ apis: ['setTimeout', 'setInterval'] });
  let now = 0;
  t.mock.method(performance, 'now', () => now);
  const pass = (): void => {
    now += 1;
    t.mock.timers.tick(1);
  };
  const limits = { connections: 12, handshakes: 500, connectionsPerAddress: undefined };
  const admission = new Admission({ counters: noConnections(), limits, log: recordedLog(), makeRoom: () => {} });
  const told: string[] = [];
  const acceptor = { pause: () => void told.push('pause'), resume: () => void told.push('resume') };
  const enter = (count: number): void => {
    for (let i = 0; i < count; i += 1) admission.enter(new net.Socket(), 10_000, { arrived: () => {} });
  };
  const toldNow = (): string[] => told.splice(0);
  admission.add(acceptor);
  enter(7);
  assert.deepEqual(toldNow(), []);
  pass();
  enter(1);
  assert.deepEqual(toldNow(), [], 'another millisecond');
  pass();
  admission.limits = { ...limits, connections: 100 };
  enter(8);
  assert.deepEqual(toldNow(), ['pause']);
  pass();
  assert.deepEqual(toldNow(), ['resume']);
  enter(8);
  admission.limits = limits;
  pass();
  assert.deepEqual(toldNow(), ['pause'], 'no place is left');
  admission.limits = { ...limits, connections: 100 };
  assert.deepEqual(toldNow(), ['resume']);
  enter(8);
  admission.remove(acceptor);
  assert.deepEqual(toldNow(), ['pause', 'resume'], 'one that is about to close empties its queue');
});
