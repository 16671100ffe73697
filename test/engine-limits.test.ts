import assert from 'node:assert/strict';
import test from 'node:test';
import { RawBackend, closedPort, httpBackend, type RawConnection } from './support/backend.ts';
import { configOf, type Keys } from './support/config.ts';
import { both, startFront } from './support/front.ts';
import { seeded } from './support/random.ts';

const OK = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok';

function get(path: string): string {
  return `GET ${path} HTTP/1.1\r\nHost: a.test\r\n\r\n`;
}

/** The paths that were asked for, in the order of their arrival. */
function paths(backend: RawBackend): string[] {
  return [...backend.text.matchAll(/^[A-Z]+ (\S+) HTTP\/1\.1\r$/gm)].map(([, path]) => path!);
}

/** A backend that answers when it is told to. */
function silent(): RawBackend {
  return new RawBackend(() => {});
}

/** Answers the newest request. */
function answer({ connections }: RawBackend, path: string): void {
  connections.find(({ text, socket }) => text.includes(` ${path} `) && !socket.destroyed)?.socket.write(OK);
}

function limited(engine: string, backends: string[], keys: Keys = {}, queue = '10s'): ReturnType<typeof configOf> {
  return configOf({ engine, routes: [{ path: '/', backends, max_connections: 1, ...keys }] }, { timeouts: { queue } });
}

function isOpen({ socket, ended }: RawConnection): boolean {
  return !socket.destroyed && !ended;
}

both('a backend gets no more requests at a time than it may; the others wait in order', async (t, engine) => {
  const backend = await silent().listen(t);
  const front = await startFront(t, limited(engine, [backend.url]));
  const clients = [];
  for (const path of ['/1', '/2', '/3']) {
    const client = await front.connect();
    client.send(get(path));
    // An answer from the front itself tells that it has read what came before.
    await front.ask('OPTIONS * HTTP/1.1\r\nHost: a.test\r\nMax-Forwards: 0\r\n\r\n');
    clients.push(client);
  }
  for (const [n, client] of clients.entries()) {
    await backend.until(() => paths(backend).length > n);
    assert.equal(paths(backend).length, n + 1);
    assert.equal(backend.connections.filter(isOpen).length, 1, 'idle connections count too');
    answer(backend, `/${n + 1}`);
    assert.equal((await client.answer()).body, 'ok');
  }
  assert.deepEqual(paths(backend), ['/1', '/2', '/3']);
});

both('when the queue is full, the answer is 503 with Retry-After, at once', async (t, engine) => {
  const backend = await silent().listen(t);
  const front = await startFront(t, limited(engine, [backend.url], { max_queue: 1 }));
  const [first, second] = [await front.connect(), await front.connect()];
  first.send(get('/1'));
  await backend.until(() => paths(backend).length === 1);
  second.send(get('/2'));
  await front.ask('OPTIONS * HTTP/1.1\r\nHost: a.test\r\nMax-Forwards: 0\r\n\r\n');
  const third = await front.ask(get('/3'));
  assert.equal(third.status, 503);
  assert.match(third.head, /^Retry-After: \d+$/m);
  const { level, facts } = await front.logged('backend_busy');
  assert.deepEqual([level, facts['setting'], facts['queued']], ['warn', 'virtual_hosts[].routes[].max_connections', 1]);
  answer(backend, '/1');
  assert.equal((await first.answer()).status, 200);
  await backend.until(() => paths(backend).length === 2);
  answer(backend, '/2');
  assert.equal((await second.answer()).status, 200);
  assert.deepEqual(paths(backend), ['/1', '/2']);
});

both('who waits too long gets 503, and the connection is good for the next request', async (t, engine) => {
  const backend = await silent().listen(t);
  const front = await startFront(t, limited(engine, [backend.url], {}, '50ms'));
  const [first, second] = [await front.connect(), await front.connect()];
  first.send(get('/1'));
  await backend.until(() => paths(backend).length === 1);
  second.send(get('/2'));
  const { status, head } = await second.answer();
  assert.equal(status, 503);
  assert.match(head, /^Retry-After: \d+$/m);
  assert.equal((await front.logged('queue_timeout')).facts['setting'], 'timeouts.queue');
  answer(backend, '/1');
  assert.equal((await first.answer()).status, 200);
  second.send(get('/3'));
  await backend.until(() => paths(backend).includes('/3'));
  answer(backend, '/3');
  assert.equal((await second.answer()).status, 200);
  assert.deepEqual(paths(backend), ['/1', '/3']);
});

both('a client that goes away leaves the queue', async (t, engine) => {
  const backend = await silent().listen(t);
  const front = await startFront(t, limited(engine, [backend.url], { max_queue: 1 }));
  const [first, second, third] = [await front.connect(), await front.connect(), await front.connect()];
  first.send(get('/1'));
  await backend.until(() => paths(backend).length === 1);
  second.send(get('/2'));
  await front.ask('OPTIONS * HTTP/1.1\r\nHost: a.test\r\nMax-Forwards: 0\r\n\r\n');
  second.socket.resetAndDestroy();
  await front.logged('client_gone');
  third.send(get('/3'));
  await front.ask('OPTIONS * HTTP/1.1\r\nHost: a.test\r\nMax-Forwards: 0\r\n\r\n');
  answer(backend, '/1');
  assert.equal((await first.answer()).status, 200);
  await backend.until(() => paths(backend).length === 2);
  answer(backend, '/3');
  assert.equal((await third.answer()).status, 200);
  assert.deepEqual(paths(backend), ['/1', '/3']);
});

both('a request body waits with its request, and arrives whole', async (t, engine) => {
  const backend = await silent().listen(t);
  const front = await startFront(t, limited(engine, [backend.url]));
  const [first, second] = [await front.connect(), await front.connect()];
  first.send(get('/1'));
  await backend.until(() => paths(backend).length === 1);
  second.send(`POST /2 HTTP/1.1\r\nHost: a.test\r\nContent-Length: 300000\r\n\r\n${'b'.repeat(300_000)}`);
  await front.ask('OPTIONS * HTTP/1.1\r\nHost: a.test\r\nMax-Forwards: 0\r\n\r\n');
  answer(backend, '/1');
  assert.equal((await first.answer()).status, 200);
  await backend.until(() => backend.text.endsWith('b'.repeat(300_000)));
  answer(backend, '/2');
  assert.equal((await second.answer()).status, 200);
});

both('a place is free again when a client goes away in the middle, and when a backend breaks off', async (t, engine) => {
  const backend = await silent().listen(t);
  const front = await startFront(t, limited(engine, [backend.url]));
  const [first, second, third] = [await front.connect(), await front.connect(), await front.connect()];
  first.send(get('/1'));
  await backend.until(() => paths(backend).length === 1);
  second.send(get('/2'));
  first.socket.resetAndDestroy();
  await backend.until(() => paths(backend).length === 2);
  third.send(get('/3'));
  backend.connections.find(({ text }) => text.includes(' /2 '))?.socket.resetAndDestroy();
  assert.equal((await second.answer()).status, 502);
  await backend.until(() => paths(backend).length === 3);
  answer(backend, '/3');
  assert.equal((await third.answer()).status, 200);
});

both('a backend that cannot be reached does not hold up the queue of another', async (t, engine) => {
  const backend = await silent().listen(t);
  const front = await startFront(t, limited(engine, [await closedPort(), backend.url]));
  const [first, second] = [await front.connect(), await front.connect()];
  first.send(get('/1'));
  await backend.until(() => paths(backend).length === 1);
  second.send(get('/2'));
  await front.ask('OPTIONS * HTTP/1.1\r\nHost: a.test\r\nMax-Forwards: 0\r\n\r\n');
  answer(backend, '/1');
  assert.equal((await first.answer()).status, 200);
  await backend.until(() => paths(backend).length === 2);
  answer(backend, '/2');
  assert.equal((await second.answer()).status, 200);
});

both('a new configuration knows what is under way at the backends of the old one', async (t, engine) => {
  const backend = await silent().listen(t);
  const config = limited(engine, [backend.url]);
  const front = await startFront(t, config);
  const [first, second, third] = [await front.connect(), await front.connect(), await front.connect()];
  first.send(get('/1'));
  await backend.until(() => paths(backend).length === 1);
  second.send(get('/2'));
  await front.ask('OPTIONS * HTTP/1.1\r\nHost: a.test\r\nMax-Forwards: 0\r\n\r\n');
  front.front.update(limited(engine, [backend.url]));
  third.send(get('/3'));
  await front.ask('OPTIONS * HTTP/1.1\r\nHost: a.test\r\nMax-Forwards: 0\r\n\r\n');
  assert.deepEqual(paths(backend), ['/1']);
  for (const [n, client] of [first, second, third].entries()) {
    await backend.until(() => paths(backend).length > n);
    answer(backend, `/${n + 1}`);
    assert.equal((await client.answer()).status, 200);
  }
  assert.deepEqual(paths(backend), ['/1', '/2', '/3']);
});

both('a WebSocket has a place for as long as it lasts', async (t, engine) => {
  const backend = await new RawBackend(({ socket, text }) => {
    if (text.startsWith('GET /socket ')) socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n');
    else socket.write(OK);
  }).listen(t);
  const front = await startFront(t, limited(engine, [backend.url]));
  assert.equal((await front.ask(get('/1'))).status, 200);
  const [socket, other] = [await front.connect(), await front.connect()];
  socket.send('GET /socket HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n');
  await socket.until(() => socket.text.includes('\r\n\r\n'));
  // An idle connection makes room for it.
  if (engine === 'native') await backend.until((connections) => connections.filter(isOpen).length === 1);
  other.send(get('/2'));
  await front.ask('OPTIONS * HTTP/1.1\r\nHost: a.test\r\nMax-Forwards: 0\r\n\r\n');
  assert(!paths(backend).includes('/2'));
  socket.socket.destroy();
  assert.equal((await other.answer()).status, 200);
});

for (const leaving of [false, true]) {
  both(`a crowd ${leaving ? 'of whom some leave ' : ''}is served by few connections, and everybody who stays is served`, async (t, engine) => {
    const random = seeded(7);
    let [now, most] = [0, 0];
    const backend = await httpBackend(t, (req, res) => {
      now += 1;
      most = Math.max(most, now);
      res.once('close', () => (now -= 1));
      // Read to its end, and answered one turn later.
      req.resume().once('end', () => setImmediate(() => res.end(req.url)));
    });
    const front = await startFront(t, limited(engine, [backend.url], { max_connections: 4 }));
    const visit = async (n: number): Promise<number> => {
      const client = await front.connect();
      for (let turn = 0; turn < 4; turn += 1) {
        const body = random() < 0.3 ? 'b'.repeat(Math.floor(random() * 20_000)) : '';
        client.send(`PUT /${n}-${turn} HTTP/1.1\r\nHost: a.test\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
        if (leaving && random() < 0.2) {
          await new Promise(setImmediate);
          client.socket.resetAndDestroy();
          return turn;
        }
        const { status, body: answered } = await client.answer();
        assert.deepEqual([status, answered], [200, `/${n}-${turn}`]);
      }
      client.socket.destroy();
      return 4;
    };
    const turns = await Promise.all(Array.from({ length: 120 }, (_, n) => visit(n)));
    if (!leaving) assert.ok(most <= 4, `${most} at a time`);
    assert.equal(
      turns.every((each) => each === 4),
      !leaving,
    );
    // Nothing is left behind that would keep a place.
    const last = await Promise.all(Array.from({ length: 8 }, () => front.ask(get('/last'))));
    assert.deepEqual(
      last.map(({ status }) => status),
      Array.from({ length: 8 }, () => 200),
    );
  });
}

test('of many connections that become idle, a bounded number is kept', { timeout: 20_000 }, async (t) => {
  const backend = await silent().listen(t);
  const front = await startFront(t, configOf({ backends: [backend.url] }));
  const clients = await Promise.all(Array.from({ length: 300 }, () => front.connect()));
  for (const client of clients) client.send(get('/'));
  await backend.until(() => paths(backend).length === 300);
  for (const { socket } of backend.connections) socket.write(OK);
  for (const client of clients) assert.equal((await client.answer()).status, 200);
  await backend.until((connections) => connections.filter(isOpen).length === 256);
});
