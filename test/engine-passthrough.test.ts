import assert from 'node:assert/strict';
import { once } from 'node:events';
import * as net from 'node:net';
import test, { type TestContext } from 'node:test';
import { parseConfig } from '../src/config/load.ts';
import type { Config } from '../src/config/schema.ts';
import { Passthrough } from '../src/engine/passthrough.ts';
import { readPrefix } from '../src/tls/read-prefix.ts';
import { closedPort, flood, RawBackend, unaccepting } from './support/backend.ts';
import type { Keys } from './support/config.ts';
import { RawClient } from './support/front.ts';
import { recordedLog } from './support/stapling.ts';

const limit = { timeout: 10_000 };
const tcp = (url: string): string => url.replace('http:', 'tcp:');

function configOf(host: Keys, top: Keys = {}): Config {
  const hosts = [{ server_name: 'a.test', tls: 'passthrough', ...host }];
  return parseConfig(JSON.stringify({ listen: [{ address: '127.0.0.1:443' }], virtual_hosts: hosts, log: { access: true }, ...top }), '/test/config.yaml');
}

/** Connections whose first bytes nobody has looked at, as they come from the TLS side. */
async function start(t: TestContext, config: Config) {
  const log = recordedLog();
  const passthrough = new Passthrough({ config, log });
  /** Settles when a connection is accounted for, in the order of the connections. */
  const finished: Promise<void>[] = [];
  const server = net.createServer((socket) => {
    socket.on('error', () => socket.destroy());
    const accepted = {
      socket,
      source: { address: '192.0.2.7', port: 5000 },
      destination: { address: '198.51.100.1', port: 443 },
      virtualHost: 'a.test',
      serverName: 'a.test',
      settled: () => {},
      refuse: () => socket.end('refused'),
    };
    readPrefix(
      socket,
      () => ({ value: undefined, consumed: 0 }),
      () => finished.push(passthrough.accept(accepted)),
    );
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(async () => {
    server.close();
    await passthrough.close(0);
  });
  const connect = (): Promise<RawClient> => RawClient.connect((server.address() as net.AddressInfo).port);
  return { passthrough, log, finished, connect };
}

const echoing = (): RawBackend =>
  new RawBackend(
    () => {},
    ({ socket }) => socket.pipe(socket),
  );

test('the end of one side is passed on, and the other may still speak', limit, async (t) => {
  const backend = await new RawBackend(() => {}).listen(t);
  const { connect, log, finished } = await start(t, configOf({ backends: [tcp(backend.url)] }));
  for (const first of ['client', 'backend']) {
    const client = await connect();
    client.send(first);
    await backend.until((connections) => connections.at(-1)?.text === first);
    const other = backend.connections.at(-1)!;
    if (first === 'client') {
      client.socket.end();
      await backend.until(() => other.ended);
      other.socket.end('the answer, after the end of the question');
      assert.equal(await client.toEnd(), 'the answer, after the end of the question');
    } else {
      other.socket.end('goodbye');
      assert.equal(await client.toEnd(), 'goodbye'); // this ends the client's side, too
      await backend.until(() => other.ended);
    }
    await finished.at(-1);
    assert.equal(other.socket.destroyed, true);
  }
  const facts = log
    .of('info')
    .map(({ message, facts: { received, bytes, client, backend: where, virtual_host: host } }) => [message, received, bytes, client, where, host]);
  assert.deepEqual(facts, [
    ['passthrough a.test', 6, 41, '192.0.2.7', tcp(backend.url), 'a.test'],
    ['passthrough a.test', 7, 7, '192.0.2.7', tcp(backend.url), 'a.test'],
  ]);
});

test('the PROXY header comes before everything else, and once', limit, async (t) => {
  const backend = await new RawBackend(() => {}).listen(t);
  const route = { backends: [tcp(await closedPort()), tcp(backend.url)], proxy_protocol: 'v1' };
  const { connect, log, finished } = await start(t, configOf({ routes: [route] }));
  const client = await connect();
  client.socket.end('hello');
  const all = 'PROXY TCP4 192.0.2.7 198.51.100.1 5000 443\r\nhello';
  await backend.until(([first]) => first?.ended === true);
  assert.equal(backend.text, all);
  backend.connections[0]?.socket.end();
  await client.toEnd();
  await finished[0];
  assert.equal(log.of('info')[0]?.facts['received'], 5, 'what came from the client');
});

test('a backend has no more connections at a time than it may; some of the others wait', limit, async (t) => {
  const backend = await echoing().listen(t);
  const route = { backends: [tcp(backend.url)], max_connections: 1, max_queue: 1 };
  const { connect, log, finished } = await start(t, configOf({ routes: [route] }));
  const [first, second, third] = [await connect(), await connect(), await connect()];
  first.send('first');
  await first.until(() => first.text === 'first');
  second.send('second');
  while (finished.length < 2) await new Promise(setImmediate);
  third.send('third');
  assert.equal(await third.toEnd(), 'refused');
  assert.equal(log.of('warn')[0]?.facts['code'], 'backend_busy');
  first.socket.end();
  await second.until(() => second.text === 'second');
  second.socket.end();
  await Promise.all(finished);
  assert.equal(backend.text, 'firstsecond');
});

test('who waits too long for a backend is refused', limit, async (t) => {
  const backend = await echoing().listen(t);
  const { connect, log } = await start(t, configOf({ routes: [{ backends: [tcp(backend.url)], max_connections: 1 }] }, { timeouts: { queue: '50ms' } }));
  const [first, second] = [await connect(), await connect()];
  first.send('first');
  await first.until(() => first.text === 'first');
  second.send('second');
  assert.equal(await second.toEnd(), 'refused');
  assert.equal(log.of('warn')[0]?.facts['code'], 'queue_timeout');
  first.socket.end();
  await first.toEnd();
});

test('a reset of one side closes the other', limit, async (t) => {
  const backend = await new RawBackend(() => {}).listen(t);
  const { connect, passthrough, finished } = await start(t, configOf({ backends: [tcp(backend.url)] }));
  for (const first of ['client', 'backend']) {
    const client = await connect();
    client.send(first);
    await backend.until((connections) => connections.at(-1)?.text === first);
    const { socket } = backend.connections.at(-1)!;
    assert.equal(passthrough.open, 1);
    (first === 'client' ? client.socket : socket).resetAndDestroy();
    if (first === 'client') await backend.until(() => backend.connections.at(-1)!.ended || socket.destroyed);
    else await client.toEnd();
    await finished.at(-1);
    assert.equal(passthrough.open, 0);
  }
});

test('a client that leaves while no backend answers yet ends the attempt', limit, async (t) => {
  const held = tcp(await unaccepting(t));
  const { connect, finished, log } = await start(t, configOf({ backends: [held] }, { timeouts: { connect: '1h' } }));
  const client = await connect();
  client.send('hello');
  client.socket.resetAndDestroy();
  await once(client.socket, 'close');
  while (finished.length === 0) await new Promise(setImmediate);
  await finished[0];
  assert.equal(log.lines[0]?.facts['code'], 'client_gone');
});

test('the next backend takes a connection that others refuse or leave waiting', limit, async (t) => {
  const dead = tcp(await closedPort());
  const held = tcp(await unaccepting(t));
  const backend = await echoing().listen(t);
  const { connect, log } = await start(t, configOf({ backends: [dead, held, tcp(backend.url)] }, { timeouts: { connect: '400ms' } }));
  for (let n = 0; n < 2; n += 1) {
    const client = await connect();
    client.send('hello');
    await client.until(() => client.text === 'hello');
    client.socket.destroy();
  }
  const warned = log.of('warn').map(({ message, facts: { code, backend } }) => ({ message, code, backend }));
  assert.deepEqual(warned, [
    { message: 'no connection to the backend; trying the next one', code: 'backend_unreachable', backend: dead },
    { message: 'the backend did not accept the connection in time; trying the next one', code: 'backend_connect_timeout', backend: held },
  ]);
});

test('without a backend the client is refused, and the log says why', limit, async (t) => {
  const dead = tcp(await closedPort());
  const { connect, log, finished } = await start(t, configOf({ backends: [dead] }));
  const client = await connect();
  client.send('hello');
  assert.equal(await client.toEnd(), 'refused');
  await finished[0];
  const [line, access] = log.lines;
  assert.deepEqual(
    [line?.level, line?.message, line?.facts['code'], line?.facts['backend'], line?.facts['virtual_host']],
    ['warn', 'no connection to the backend', 'backend_unreachable', dead, 'a.test'],
  );
  assert.equal(access?.facts['backend'], undefined);
});

test('least_conn sends a connection to the backend that has fewer of them', limit, async (t) => {
  const [one, two] = [await echoing().listen(t), await echoing().listen(t)];
  const { connect } = await start(t, configOf({ routes: [{ backends: [tcp(one.url), tcp(two.url)], balance: 'least_conn' }] }));
  for (let n = 0; n < 4; n += 1) {
    const client = await connect();
    client.send('x');
    await client.until(() => client.text === 'x');
  }
  assert.deepEqual([one.connections.length, two.connections.length], [2, 2]);
});

test('who does not read stops the other side, and in the end the connection', limit, async (t) => {
  let sent = () => 0;
  const backend = await new RawBackend(
    () => {},
    ({ socket }) => (sent = flood(socket)),
  ).listen(t);
  const { connect } = await start(t, configOf({ backends: [tcp(backend.url)] }, { timeouts: { tunnel: '200ms' } }));
  const client = await connect();
  client.socket.pause();
  client.send('go');
  await backend.until(([first]) => first?.socket.destroyed === true);
  assert(sent() > 0 && sent() < 100 * 1024 * 1024, `${sent()} bytes were taken`);
  client.socket.destroy();
});

test('an idle connection is cut after timeouts.tunnel, a half-closed one after timeouts.keep_alive', limit, async (t) => {
  const backend = await echoing().listen(t);
  const silent = await new RawBackend(() => {}).listen(t);
  const idle = await start(t, configOf({ backends: [tcp(backend.url)] }, { timeouts: { tunnel: '60ms' } }));
  const client = await idle.connect();
  client.send('x');
  assert.equal(await client.toEnd(), 'x');

  const half = await start(t, configOf({ backends: [tcp(silent.url)] }, { timeouts: { keep_alive: '60ms' } }));
  const other = await half.connect();
  other.socket.end('last words');
  await silent.until(([first]) => first?.ended === true);
  await other.toEnd();
  await half.finished[0];
});

test('a new configuration holds for new connections; at the end open ones have the grace, then they are cut', limit, async (t) => {
  const [one, two] = [await echoing().listen(t), await echoing().listen(t)];
  const silent = await new RawBackend(() => {}).listen(t);
  const { connect, passthrough, finished } = await start(t, configOf({ backends: [tcp(one.url)] }));
  const say = async (client: RawClient, text: string): Promise<void> => {
    client.text = '';
    client.send(text);
    await client.until(() => client.text === text);
  };
  const old = await connect();
  await say(old, 'old');
  passthrough.update(configOf({ backends: [tcp(two.url)] }));
  const young = await connect();
  await say(young, 'young');
  await say(old, 'still there');
  assert.deepEqual([one.connections.length, two.connections.length], [1, 1]);

  const drained = passthrough.close(600_000);
  await say(old, 'in the time of grace');
  for (const client of [young, old]) {
    client.socket.end();
    await client.toEnd();
  }
  await drained;

  passthrough.update(configOf({ backends: [tcp(silent.url)] }));
  const [last, halfClosed] = [await connect(), await connect()];
  last.send('last');
  halfClosed.socket.end('last words');
  await silent.until(() => silent.text.length === 14 && silent.connections.some(({ ended }) => ended));
  await passthrough.close(10);
  await Promise.all([last.toEnd(), halfClosed.toEnd(), ...finished]);
  assert.equal(passthrough.open, 0);
});
