import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import type { TestContext } from 'node:test';
import { setImmediate as immediate } from 'node:timers/promises';
import { HttpFront } from '../src/engine/http-front.ts';
import { flood, RawBackend } from './support/backend.ts';
import { configOf, type Keys } from './support/config.ts';
import { both, startFront, type RawClient, type TestFront } from './support/front.ts';

const SWITCH = 'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\nContent-Length: 0\r\n\r\n';

function handshake(fields = 'Connection: Upgrade\r\nUpgrade: websocket\r\n', line = 'GET /ws HTTP/1.1'): string {
  return `${line}\r\nHost: a.test\r\n${fields}Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n`;
}

/** Switches protocols and then sends back what it gets. */
function echoing(): RawBackend {
  return new RawBackend(({ socket, text }) => {
    if (!text.endsWith('\r\n\r\n')) return;
    socket.write(SWITCH);
    socket.removeAllListeners('data');
    socket.pipe(socket);
  });
}

async function tunnel(
  t: TestContext,
  engine: 'native' | 'http-proxy',
  backend: RawBackend,
  timeouts: Keys = {},
): Promise<{ front: TestFront; client: RawClient }> {
  await backend.listen(t);
  const front = await startFront(t, configOf({ engine, backends: [backend.url] }, { timeouts, log: { access: true } }));
  const client = await front.connect();
  client.send(handshake());
  await client.until(() => client.text.endsWith('\r\n\r\n'));
  assert.match(client.text, /^HTTP\/1.1 101 Switching Protocols\r\n/);
  return { front, client };
}

both('a WebSocket is carried both ways after the handshake', async (t, engine) => {
  const backend = echoing();
  const { client } = await tunnel(t, engine, backend);
  assert.match(client.text, /\r\nSec-WebSocket-Accept: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n$/);
  assert.match(
    backend.text,
    /^GET \/ws HTTP\/1.1\r\n[^]*Sec-WebSocket-Key: dGhl[^]*Connection: Upgrade\r\nUpgrade: websocket\r\nX-Forwarded-For: 192.0.2.7\r\n/,
  );
  client.text = '';
  client.send('\x81\x05hello');
  await client.until(() => client.text === '\x81\x05hello');
});

both('what is no WebSocket handshake is an ordinary request without Upgrade', async (t, engine) => {
  const backend = await new RawBackend(({ socket, text }) => {
    if (text.endsWith('\r\n\r\n') || text.endsWith('body')) socket.write('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n');
  }).listen(t);
  const front = await startFront(t, configOf({ engine, backends: [backend.url] }));
  const requests = [
    handshake('Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n'),
    handshake('Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n'),
    handshake('Upgrade: websocket\r\n'),
    handshake(undefined, 'POST /ws HTTP/1.1'),
    `${handshake('Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 4\r\n')}body`,
  ];
  for (const request of requests) assert.equal((await front.ask(request)).status, 200, request);
  for (const { text } of backend.connections) assert.doesNotMatch(text, /^Upgrade|^HTTP2-Settings|^Connection: .*Upgrade/im);
});

both('a backend that does not switch is relayed with its framing, however long', async (t, engine) => {
  const body = 'x'.repeat(3_000_000);
  const backend = await new RawBackend(({ socket, text }) => {
    if (text.includes('/long')) socket.write(`HTTP/1.1 403 Forbidden\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
    else socket.write('HTTP/1.1 426 Upgrade Required\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n');
  }).listen(t);
  const front = await startFront(t, configOf({ engine, backends: [backend.url] }));
  const client = await front.connect();
  client.send(handshake());
  const refused = await client.answer();
  assert.deepEqual([refused.status, refused.body], [426, 'no']);
  client.send(handshake(undefined, 'GET /long HTTP/1.1'));
  assert.equal((await client.answer()).body.length, body.length);
});

both('a handshake is checked like any other request', async (t, engine) => {
  const backend = await new RawBackend(() => {}).listen(t);
  const routes = [
    { path: '/', backends: [backend.url] },
    { path: '/api/', backends: [backend.url] },
  ];
  const virtual_hosts = [
    { server_name: 'a.test', certificates: [{ certificate: 'a.pem', key: 'a.key' }], engine, routes },
    { server_name: 'b.test', certificates: [{ certificate: 'a.pem', key: 'a.key' }], engine, routes },
  ];
  const front = await startFront(t, configOf({}, { virtual_hosts }));
  assert.equal((await front.ask(handshake().replace('a.test', 'b.test'))).status, 421);
  assert.equal((await front.ask(handshake(undefined, 'GET /x//y HTTP/1.1'))).status, 400);
  assert.equal(backend.connections.length, 0);
});

both('a dead backend is a 502 for a handshake too', async (t, engine) => {
  const backend = await new RawBackend(({ socket }) => socket.resetAndDestroy()).listen(t);
  const front = await startFront(t, configOf({ engine, backends: [backend.url] }));
  assert.equal((await front.ask(handshake())).status, 502);
  await front.logged('backend_closed');
});

both('bytes that come early wait for the 101', async (t, engine) => {
  const backend = await new RawBackend(() => {}).listen(t);
  const front = await startFront(t, configOf({ engine, backends: [backend.url] }));
  const client = await front.connect();
  client.send(`${handshake()}early`);
  await backend.until(([first]) => first?.text.includes('\r\n\r\n') === true);
  client.send(' bird');
  const [first] = backend.connections;
  assert(first);
  assert(first.text.endsWith('\r\n\r\n'), 'only the handshake has arrived');
  first.socket.write(`${SWITCH}greeting`);
  await backend.until(() => first.text.endsWith('\r\n\r\nearly bird'));
  await client.until(() => client.text.endsWith('\r\n\r\ngreeting'));
});

both('either side ending, by FIN or RST, ends both', async (t, engine) => {
  for (const how of ['end', 'resetAndDestroy', 'destroy'] as const) {
    const first = echoing();
    const { client } = await tunnel(t, engine, first);
    if (how === 'end') client.socket.end('last words');
    else client.socket[how]();
    await first.until(([connection]) => connection?.ended === true || connection?.socket.destroyed === true);
    if (how === 'end') assert.match(await client.toEnd(), /^HTTP\/1.1 101 /);

    const second = new RawBackend(({ socket }) => socket.write(SWITCH));
    const other = await tunnel(t, engine, second);
    const backendSide = second.connections[0]?.socket;
    if (how === 'end') backendSide?.end('last words');
    else backendSide?.[how]();
    const text = await other.client.toEnd();
    if (how === 'end') assert(text.endsWith('last words'));
  }
});

both('long last words are heard to the end, on either side', async (t, engine) => {
  const words = 'last words'.repeat(600_000);
  const heard = echoing();
  const { client } = await tunnel(t, engine, heard);
  const [{ socket } = assert.fail()] = heard.connections;
  socket.unpipe();
  let length = 0;
  const ended = new Promise<void>((resolve) => {
    socket.on('data', (bytes) => (length += bytes.length)).once('end', resolve);
  });
  client.socket.end(words);
  socket.resume();
  await ended;
  assert.equal(length, words.length);

  const speaking = new RawBackend(({ socket }) => socket.write(SWITCH));
  const other = await tunnel(t, engine, speaking);
  other.client.socket.pause();
  speaking.connections[0]?.socket.end(words);
  // What waits for the client must outlive the backend's connection.
  for (let n = 0; n < 50; n += 1) await immediate();
  other.client.socket.resume();
  const text = await other.client.toEnd();
  assert.equal(text.length - text.indexOf('last words'), words.length);
});

/** Switches protocols; more than all buffers hold waits for the side that does not read. */
function switching(): RawBackend {
  return new RawBackend(({ socket, text }) => text.endsWith('\r\n\r\n') && socket.write(SWITCH));
}
const MUCH = Buffer.alloc(40_000_000);

both('last words are not lost with a reset, though more is on its way to who says them', async (t, engine) => {
  const backend = switching();
  const { client } = await tunnel(t, engine, backend);
  const [{ socket } = assert.fail()] = backend.connections;
  socket.pause();
  client.socket.write(MUCH);
  for (let n = 0; n < 100; n += 1) await immediate();
  socket.end('last words');
  assert((await client.toEnd()).endsWith('last words'));
  while (!client.closed) await immediate();
  assert.equal(client.reset, false);

  const other = switching();
  const { client: second } = await tunnel(t, engine, other);
  const [connection = assert.fail()] = other.connections;
  second.socket.pause();
  connection.socket.write(MUCH);
  for (let n = 0; n < 100; n += 1) await immediate();
  second.socket.end('last words');
  await other.until(() => connection.ended);
  assert(connection.text.endsWith('last words'));
  connection.socket.end();
  while (!connection.socket.closed) await immediate();
  assert.equal(connection.socket.errored, null);
});

both('who does not close after the other has ended has five seconds for it', async (t, engine) => {
  let now = 0;
  t.mock.method(performance, 'now', () => now);
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const pass = async (ms: number): Promise<void> => {
    for (let n = 0; n < 10; n += 1) await immediate();
    now += ms;
    t.mock.timers.tick(ms);
  };
  const backend = switching();
  const { front, client } = await tunnel(t, engine, backend);
  backend.connections[0]?.socket.end();
  while (!client.ended) await immediate();
  client.send('chatter');
  await pass(4_999);
  await pass(0);
  assert.equal(front.front.open, 1);
  await pass(1);
  while (front.front.open > 0) await immediate();
});

both('a switch to another protocol than the one that was asked for is a 502', async (t, engine) => {
  for (const fields of ['Connection: Upgrade\r\nUpgrade: h2c\r\n', 'Connection: Upgrade\r\n', '']) {
    const backend = await new RawBackend(({ socket }) => socket.write(`HTTP/1.1 101 Switching Protocols\r\n${fields}\r\nGET / HTTP/1.1\r\n`)).listen(t);
    const front = await startFront(t, configOf({ engine, backends: [backend.url] }));
    assert.equal((await front.ask(handshake())).status, 502, fields);
    await backend.until(([first]) => first?.ended === true || first?.socket.destroyed === true);
  }
});

both('a client that goes away before the 101 takes the backend with it', async (t, engine) => {
  const backend = await new RawBackend(() => {}).listen(t);
  const front = await startFront(t, configOf({ engine, backends: [backend.url] }));
  for (const how of ['end', 'resetAndDestroy'] as const) {
    const count = backend.connections.length + 1;
    const client = await front.connect();
    client.send(handshake());
    await backend.until((connections) => connections.length === count && connections.at(-1)?.text.includes('\r\n\r\n') === true);
    client.socket[how]();
    await backend.until((connections) => connections.every(({ ended, socket }) => ended || socket.destroyed));
  }
});

both('an idle tunnel is cut, a busy one is not', async (t, engine) => {
  const { client } = await tunnel(t, engine, echoing(), { tunnel: '50ms' });
  for (let n = 0; n < 5; n += 1) {
    client.text = '';
    client.send('x');
    await client.until(() => client.text === 'x');
  }
  await client.toEnd();
});

both('tunnels count as open, are logged with their bytes, and are cut at shutdown', async (t, engine) => {
  const { front, client } = await tunnel(t, engine, echoing());
  client.send('12345');
  await client.until(() => client.text.endsWith('12345'));
  assert.equal(front.front.open, 1);
  await front.front.close(20);
  await client.toEnd();
  assert.equal(front.front.open, 0);
  const line = front.log.find(({ message }) => message === 'GET a.test/ws');
  assert.deepEqual([line?.facts['status'], line?.facts['bytes']], [101, 5]);
});

both('where others have taken over, tunnels go on when requests are cut, and later they have less time', async (t, engine) => {
  const { front, client } = await tunnel(t, engine, echoing());
  const waiting = await front.connect();
  waiting.send('GET / HTTP/1.1\r\n');
  const closed = front.front.close(20, true, 600_000);
  await waiting.toEnd();
  client.text = '';
  client.send('still here');
  await client.until(() => client.text === 'still here');
  await front.front.close(20);
  await client.toEnd();
  await closed;
  assert.equal(front.front.open, 0);
});

both('a client that does not read stops the backend, and in the end the tunnel', async (t, engine) => {
  let sent = () => 0;
  const backend = new RawBackend(({ socket, text }) => {
    if (text.endsWith('go')) sent = flood(socket);
    else socket.write(SWITCH);
  });
  const { client } = await tunnel(t, engine, backend, { tunnel: '200ms' });
  client.socket.pause();
  client.send('go');
  await backend.until(([first]) => first?.socket.destroyed === true);
  assert(sent() > 0 && sent() < 100 * 1024 * 1024, `${sent()} bytes were taken`);
  client.socket.destroy();
});

both('a small message that waits for a client stays what it was, whatever others say meanwhile', async (t, engine) => {
  const accept = t.mock.method(HttpFront.prototype, 'accept');
  const backend = new RawBackend(({ socket, text }) => socket.write(text.includes('/other ') ? 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok' : SWITCH));
  const { front, client } = await tunnel(t, engine, backend);
  const [waiting, sending] = [accept.mock.calls[0]?.arguments[0], backend.connections[0]?.socket];
  assert(waiting && sending);
  client.socket.pause();
  // Until the kernel takes no more for the client, and the process has to hold the rest.
  const before = waiting.bytesWritten;
  let sent = 0;
  while (waiting.writableLength === 0) {
    sent += 16_384;
    sending.write(Buffer.alloc(16_384, 'x'));
    while (waiting.bytesWritten < before + sent) await immediate();
  }
  sending.write('a small message');
  while (waiting.bytesWritten < before + sent + 15) await immediate();
  for (let n = 0; n < 3; n += 1) assert.equal((await front.ask('GET /other HTTP/1.1\r\nHost: a.test\r\n\r\n')).status, 200);
  client.socket.resume();
  await client.until(() => client.text.length >= client.text.indexOf('\r\n\r\n') + 4 + sent + 15);
  assert.equal(client.text.slice(-16), 'xa small message');
});

both('megabytes pass unharmed', async (t, engine) => {
  const { client } = await tunnel(t, engine, echoing());
  const sum = createHash('sha256');
  const returned = createHash('sha256');
  const total = 4 << 20;
  let received = -client.text.length;
  client.socket.removeAllListeners('data');
  received = 0;
  const done = new Promise<void>((resolve) => {
    client.socket.on('data', (bytes) => {
      returned.update(bytes);
      received += bytes.length;
      if (received === total) resolve();
    });
  });
  for (let n = 0; n < total; n += 1 << 16) {
    const chunk = Buffer.alloc(1 << 16, n >> 16);
    sum.update(chunk);
    client.socket.write(chunk);
  }
  await done;
  assert.equal(returned.digest('hex'), sum.digest('hex'));
});
