import assert from 'node:assert/strict';
import * as net from 'node:net';
import type { TestContext } from 'node:test';
import { RawBackend, answering, closedPort, messages, type RawConnection, unaccepting, flood } from './support/backend.ts';
import { configOf, type Keys } from './support/config.ts';
import { both, startFront, type TestFront } from './support/front.ts';

const OK = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok';
const HEAD = 'HTTP/1.1 200 OK\r\n';

function get(path = '/'): string {
  return `GET ${path} HTTP/1.1\r\nHost: a.test\r\n\r\n`;
}

/** Answers /next properly and everything else as told. */
function misbehaving(misbehave: (connection: RawConnection) => void): RawBackend {
  return new RawBackend((connection) => {
    if (connection.text.includes('GET /next ')) connection.socket.write(OK);
    else if (connection.text.includes('\r\n\r\n')) misbehave(connection);
  });
}

async function nextWorks(front: TestFront): Promise<void> {
  assert.equal((await front.ask(get('/next'))).status, 200, 'the next request works');
}

const badHeads: Record<string, string> = {
  'is not HTTP': 'SSH-2.0-OpenSSH_9.9\r\n',
  'is garbage': '\x00\x01\x02\x03'.repeat(100),
  'has Content-Length beside Transfer-Encoding': `${HEAD}Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n`,
  'has two Content-Lengths': `${HEAD}Content-Length: 2\r\nContent-Length: 2\r\n\r\nok`,
  'has a Content-Length that is no number': `${HEAD}Content-Length: two\r\n\r\nok`,
  'has a Content-Length list': `${HEAD}Content-Length: 2, 2\r\n\r\nok`,
  'has a transfer coding that is not chunked': `${HEAD}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n`,
  'has Transfer-Encoding on HTTP/1.0': 'HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n',
  'has a version of its own': 'HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok',
  'has a status that is none': 'HTTP/1.1 099 OK\r\nContent-Length: 2\r\n\r\nok',
  'has a status beyond 599': 'HTTP/1.1 600 OK\r\nContent-Length: 2\r\n\r\nok',
  'ends a line with LF': 'HTTP/1.1 200 OK\nContent-Length: 2\n\nok',
  'has a folded field': `${HEAD}X: a\r\n b\r\nContent-Length: 2\r\n\r\nok`,
  'has a space before the colon': `${HEAD}Content-Length : 2\r\n\r\nok`,
  'has a control byte in a field': `${HEAD}X: a\x01b\r\nContent-Length: 2\r\n\r\nok`,
  'has 101 fields': `${HEAD}${'X: y\r\n'.repeat(100)}Content-Length: 2\r\n\r\nok`,
  'has an enormous head': `${HEAD}X: ${'a'.repeat(100_000)}\r\n\r\n`,
  'switches protocols unasked': 'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n',
  'switches to nothing': 'HTTP/1.1 101 Switching Protocols\r\n\r\n',
};

for (const [flaw, bytes] of Object.entries(badHeads)) {
  both(`an answer that ${flaw} is a 502`, async (t, engine) => {
    const backend = await misbehaving(({ socket }) => socket.write(bytes, 'latin1')).listen(t);
    const front = await startFront(t, configOf({ engine, backends: [backend.url] }));
    const client = await front.connect();
    client.send(get());
    assert.equal((await client.answer()).status, 502);
    assert.equal(client.text, '');
    const line = await front.logged('backend_bad_response');
    assert.deepEqual([line.level, line.facts['backend']], ['warn', backend.url]);
    assert.equal(typeof line.facts['cause'] === 'string' || flaw.startsWith('switches'), true);
    await backend.until(([first]) => first?.ended === true || first?.socket.destroyed === true);
    await nextWorks(front);
  });
}

const breakOffs: Record<string, (socket: net.Socket) => void> = {
  'closes without a word': (socket) => socket.end(),
  'resets without a word': (socket) => socket.resetAndDestroy(),
  'closes in the middle of the head': (socket) => socket.end('HTTP/1.1 200 OK\r\nConte'),
  'resets in the middle of the head': (socket) => socket.write('HTTP/1.1 200 OK\r\nConte', () => socket.resetAndDestroy()),
};

for (const [what, breakOff] of Object.entries(breakOffs)) {
  both(`a backend that ${what} is a 502`, async (t, engine) => {
    const backend = await misbehaving(({ socket }) => breakOff(socket)).listen(t);
    const front = await startFront(t, configOf({ engine, backends: [backend.url] }));
    assert.equal((await front.ask(get())).status, 502);
    const line = await front.logged('backend_closed');
    assert.equal(line.facts['backend'], backend.url);
    await nextWorks(front);
  });
}

const cuts: Record<string, (socket: net.Socket) => void> = {
  'closes before Content-Length': (socket) => socket.end(`${HEAD}Content-Length: 10\r\n\r\nabc`),
  'resets before Content-Length': (socket) => socket.write(`${HEAD}Content-Length: 10\r\n\r\nabc`, () => socket.resetAndDestroy()),
  'closes without a last chunk': (socket) => socket.end(`${HEAD}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n`),
  'sends a bad chunk': (socket) => socket.write(`${HEAD}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n`),
};

for (const [what, cut] of Object.entries(cuts)) {
  both(`a backend that ${what}: the client is cut and nothing is added`, async (t, engine) => {
    const backend = await misbehaving(({ socket }) => cut(socket)).listen(t);
    const front = await startFront(t, configOf({ engine, backends: [backend.url] }));
    const text = await front.all(get());
    assert.match(text, /^HTTP\/1.1 200 OK\r\n/);
    assert.match(text, /\r\n\r\n(abc|3\r\nabc\r\n)?$/);
    await front.logged(what === 'sends a bad chunk' && engine === 'native' ? 'backend_bad_response' : 'backend_closed');
    await nextWorks(front);
  });
}

both('a backend that refuses is a 502, one that comes back is used again', async (t, engine) => {
  const url = await closedPort();
  const front = await startFront(t, configOf({ engine, backends: [url] }));
  assert.equal((await front.ask(get())).status, 502);
  const server = net.createServer((socket) => socket.on('data', () => socket.write(OK))).listen(Number(new URL(url).port), '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  t.after(() => server.close());
  assert.equal((await front.ask(get())).status, 200, 'being down does not matter when there is no other');
});

both('a backend whose name does not resolve is a 502', async (t, engine) => {
  const front = await startFront(t, configOf({ engine, backends: ['http://name.invalid:80'] }));
  assert.equal((await front.ask(get())).status, 502);
  assert.equal((await front.logged('backend_unreachable')).facts['setting'], 'virtual_hosts[].routes[].backends');
});

both('a backend that does not accept is a 504 after connect, and another one is tried first', async (t, engine) => {
  const [full, good] = [await unaccepting(t), await answering().listen(t)];
  const top = { timeouts: { connect: '60ms' } };
  const alone = await startFront(t, configOf({ engine, backends: [full] }, top));
  assert.equal((await alone.ask(get())).status, 504);
  const line = await alone.logged('backend_connect_timeout');
  assert.deepEqual([line.facts['backend'], line.facts['setting']], [full, 'timeouts.connect']);
  const pair = await startFront(t, configOf({ engine, backends: [full, good.url] }, top));
  assert.equal((await pair.ask('POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\n\r\nhi')).status, 200);
  assert.equal(messages(good.text)[0]?.body, 'hi');
});

async function timed(t: TestContext, engine: 'native' | 'http-proxy', backend: RawBackend, timeouts: Keys): Promise<TestFront> {
  await backend.listen(t);
  return startFront(t, configOf({ engine, backends: [backend.url] }, { timeouts }));
}

both('a backend that says nothing is a 504 after response_header', async (t, engine) => {
  const backend = misbehaving(() => {});
  const front = await timed(t, engine, backend, { response_header: '40ms' });
  assert.equal((await front.ask(get())).status, 504);
  assert.equal((await front.logged('backend_timeout')).facts['setting'], 'timeouts.response_header');
  await backend.until(([first]) => first?.ended === true || first?.socket.destroyed === true);
  await nextWorks(front);
});

both('a backend that does not say whether to continue is a 504, and not the fault of the client', async (t, engine) => {
  const front = await timed(
    t,
    engine,
    misbehaving(() => {}),
    { response_header: '40ms', request_body: '20ms' },
  );
  const { status } = await front.ask('PUT / HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n');
  assert.equal(status, 504);
});

both('a backend that does not read the request body is a 504 after response_header', async (t, engine) => {
  const backend = new RawBackend(
    () => {},
    ({ socket }) => socket.pause(),
  );
  const front = await timed(t, engine, backend, { response_header: '80ms' });
  const client = await front.connect();
  client.send('POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 100000000\r\n\r\n');
  const chunk = Buffer.alloc(1 << 20);
  const feed = (): void => {
    while (client.socket.write(chunk));
  };
  client.socket.on('drain', feed);
  feed();
  assert.equal((await client.answer()).status, 504);
  await front.logged('backend_timeout');
  client.socket.destroy();
});

both('a body that stands still is cut after response_body', async (t, engine) => {
  const front = await timed(
    t,
    engine,
    misbehaving(({ socket }) => socket.write(`${HEAD}Content-Length: 10\r\n\r\nabc`)),
    { response_body: '40ms' },
  );
  assert.match(await front.all(get()), /\r\n\r\nabc$/);
  assert.equal((await front.logged('response_stalled')).facts['setting'], 'timeouts.response_body');
  await nextWorks(front);
});

both('a client that does not take its answer is cut after response_body', async (t, engine) => {
  const backend = misbehaving(({ socket }) => {
    socket.write(`${HEAD}Content-Length: 100000000\r\n\r\n`);
    flood(socket);
  });
  const front = await timed(t, engine, backend, { response_body: '80ms' });
  const client = await front.connect();
  client.socket.pause();
  client.send(get());
  await front.logged('response_stalled');
  client.socket.destroy();
  await backend.until(([first]) => first?.socket.destroyed === true);
});

both('bytes after an answer do not harm it, and end the connection', async (t, engine) => {
  const backend = await misbehaving(({ socket }) => socket.write(`${OK}garbage`)).listen(t);
  const front = await startFront(t, configOf({ engine, backends: [backend.url] }));
  assert.equal((await front.ask(get())).body, 'ok');
  await backend.until(([first]) => first?.ended === true || first?.socket.destroyed === true);
  await nextWorks(front);
});

both('an answer before the end of the request body is passed on at once', async (t, engine) => {
  const backend = await new RawBackend(({ socket, text }) => {
    if (messages(text.replace(/Content-Length: \d+\r\n/, '')).length === 1)
      socket.end('HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno');
  }).listen(t);
  const front = await startFront(t, configOf({ engine, backends: [backend.url] }));
  const client = await front.connect();
  client.send('POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 100\r\n\r\npart');
  assert.equal((await client.answer()).status, 413);
  client.send('x'.repeat(96) + get('/next'));
  assert.notEqual((await client.answer()).status, 0, 'the rest of the body is drained, and the next request found behind it');
});

both('a request body without end after an answer is cut by its size, not only by the clock', async (t, engine) => {
  t.mock.method(performance, 'now', () => 0);
  const front = await startFront(t, configOf({ engine, backends: [await closedPort()] }));
  const client = await front.connect();
  client.send('POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 100000000\r\n\r\n');
  client.send('x'.repeat(1_000_000));
  assert.equal((await client.answer()).status, 502, 'the answer arrives though the body is not read');
  assert.equal(await client.toEnd(), '');
});

both('clients that go away leave no connection to the backend, whenever they go', async (t, engine) => {
  const backend = await new RawBackend(({ socket, text }) => {
    if (text.includes('/body')) socket.write(`${HEAD}Content-Length: 10\r\n\r\nabc`);
  }).listen(t);
  const front = await startFront(t, configOf({ engine, backends: [backend.url] }));
  const requests = [get('/wait'), get('/body'), 'POST /wait HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n'];
  for (const leave of ['destroy', 'resetAndDestroy'] as const) {
    for (const [n, request] of requests.entries()) {
      const count = backend.connections.length + 1;
      const client = await front.connect();
      client.send(request);
      await backend.until((connections) => connections.length === count && (connections.at(-1)?.text.includes('\r\n\r\n') ?? false));
      if (n === 1) await client.until(() => client.text.endsWith('abc'));
      client.socket[leave]();
      await backend.until((connections) => connections.every(({ ended, socket }) => ended || socket.destroyed));
    }
  }
  const lines = front.log.filter(({ level }) => level === 'error' || level === 'warn');
  assert.deepEqual(lines, [], 'a client that leaves is nobody’s fault');
});

both('good traffic goes on beside a backend that hangs', async (t, engine) => {
  const [hanging, good] = [await new RawBackend(() => {}).listen(t), await answering().listen(t)];
  const routes = [
    { path: '/', backends: [good.url] },
    { path: '/hang/', backends: [hanging.url] },
  ];
  const front = await startFront(t, configOf({ engine, routes }));
  const stuck = await front.connect();
  stuck.send(get('/hang/x'));
  await hanging.until(([first]) => first !== undefined);
  assert.equal((await front.ask(get())).status, 200);
  stuck.socket.destroy();
});
