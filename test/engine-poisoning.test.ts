import assert from 'node:assert/strict';
import { setImmediate as immediate } from 'node:timers/promises';
import { UpstreamPool } from '../src/proxy/upstream.ts';
import { RawBackend, type RawConnection, messages } from './support/backend.ts';
import { Account } from './support/at-rest.ts';
import { configOf } from './support/config.ts';
import { both, startFront } from './support/front.ts';

/** What a backend says too much, and when a request may be repeated. */

const OK = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok';
const POISON = 'HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison';

function request(line: string, fields = ''): string {
  return `${line} HTTP/1.1\r\nHost: a.test\r\n${fields}\r\n`;
}

const get = (path = '/'): string => request(`GET ${path}`);
const isGone = ({ ended, socket }: RawConnection): boolean => ended || socket.destroyed;

const tooMuch: Record<string, [line: string, status: number, said: string]> = {
  'HEAD with content': ['HEAD /', 200, `HTTP/1.1 200 OK\r\nContent-Length: ${POISON.length}\r\n\r\n${POISON}`],
  'HEAD with chunks': ['HEAD /', 200, 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n'],
  'HEAD with content until the end': ['HEAD /', 200, `HTTP/1.1 200 OK\r\n\r\n${POISON}`],
  '204 with content': ['GET /', 204, `HTTP/1.1 204 No Content\r\nContent-Length: ${POISON.length}\r\n\r\n${POISON}`],
  '204 with chunks': ['GET /', 204, 'HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n'],
  '304 with content': ['GET /', 304, `HTTP/1.1 304 Not Modified\r\nContent-Length: ${POISON.length}\r\n\r\n${POISON}`],
  'more than Content-Length': ['GET /', 200, OK + POISON],
  'more behind the last chunk': ['GET /', 200, `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n${POISON}`],
};

for (const [what, [line, status, said]] of Object.entries(tooMuch)) {
  both(`${what}: it is nobody’s, in the same segment and in a later one`, async (t, engine) => {
    // No connection is closed for having been idle.
    t.mock.method(performance, 'now', () => 0);
    const at = said.indexOf('\r\n\r\n') + 4;
    for (const split of [said.length, at]) {
      // Two answers end with their content here; the rest comes when the connection is idle, or belongs to them.
      const rest = line.startsWith('HEAD') || status !== 200 ? said.slice(split) : '';
      const backend = await new RawBackend(({ socket, text }) => {
        if (text.includes('/next ')) socket.write(OK);
        else socket.write(rest === '' ? said : said.slice(0, split));
      }).listen(t);
      const front = await startFront(t, configOf({ engine, backends: [backend.url] }));
      const client = await front.connect();
      client.send(request(line));
      assert.equal((await client.answer(line.startsWith('HEAD'))).status, status);
      backend.connections[0]?.socket.write(rest);
      await backend.until(([first]) => first !== undefined && isGone(first));
      for (let n = 0; n < 3; n += 1) {
        client.send(get('/next'));
        const { body } = await client.answer();
        assert.deepEqual([body, client.text], ['ok', '']);
      }
    }
  });
}

both('after a 204 that announces content the connection is not used again', async (t, engine) => {
  const backend = await new RawBackend(({ socket, text }) => {
    socket.write(text.includes('/next ') ? OK : `HTTP/1.1 204 No Content\r\nContent-Length: ${POISON.length}\r\n\r\n`);
  }).listen(t);
  const front = await startFront(t, configOf({ engine, backends: [backend.url] }));
  const client = await front.connect();
  client.send(get());
  assert.equal((await client.answer()).status, 204);
  client.send(get('/next'));
  assert.equal((await client.answer()).body, 'ok');
  assert.equal(backend.connections.length, 2);
});

const methods: [line: string, fields: string, repeated: boolean][] = [
  ['GET /x', '', true],
  ['HEAD /x', '', true],
  ['OPTIONS /x', '', true],
  ['DELETE /x', '', true],
  ['PUT /x', 'Content-Length: 0\r\n', true],
  ['PUT /x', 'Content-Length: 4\r\n\r\nbody', false],
  ['GET /x', 'Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n', false],
  ['POST /x', '', false],
  ['POST /x', 'Content-Length: 0\r\n', false],
  ['PATCH /x', 'Content-Length: 4\r\n\r\nbody', false],
  ['FROB /x', '', false],
];

for (const how of ['end', 'resetAndDestroy'] as const) {
  both(`a request that a kept connection is lost with (${how}) is repeated once, if that is safe`, async (t, engine) => {
    const account = new Account(t);
    for (const [line, fields, repeated] of methods) {
      // A connection answers one request and dies of the second.
      const backend = await new RawBackend((connection) => {
        if (connection.text.includes('/x ')) connection.socket[how]();
        else if (connection.text.endsWith('\r\n\r\n')) connection.socket.write(OK);
      }).listen(t);
      const front = await startFront(t, configOf({ engine, backends: [backend.url] }));
      assert.equal((await front.ask(get('/first'))).status, 200);
      const client = await front.connect();
      // The new connection of the second attempt dies of it, too.
      client.send(`${line} HTTP/1.1\r\nHost: a.test\r\n${fields}\r\n`);
      assert.equal((await client.answer(line.startsWith('HEAD'))).status, 502, line);
      assert.equal(backend.text.match(/\/x /g)?.length, repeated ? 2 : 1, `${line} ${fields}`);
      assert.equal(backend.connections.length, repeated ? 2 : 1);
      await account.closed(front);
    }
  });

  both(`a request is not repeated when a byte of its answer has come (${how})`, async (t, engine) => {
    for (const said of ['H', 'HTTP/1.1 103 Early Hints\r\n\r\n', 'HTTP/1.1 200 OK\r\n']) {
      const backend = await new RawBackend(({ socket, text }) => {
        if (text.includes('/x ')) socket.write(said, () => setImmediate(() => socket[how]()));
        else socket.write(OK);
      }).listen(t);
      const front = await startFront(t, configOf({ engine, backends: [backend.url] }));
      assert.equal((await front.ask(get('/first'))).status, 200);
      assert.match(await front.all(request('GET /x', 'Connection: close\r\n')), /HTTP\/1.1 502 /);
      assert.equal(messages(backend.text).length, 2, JSON.stringify(said));
    }
  });
}

both('a request is repeated on a new connection, also when it has to wait for a place', async (t, engine) => {
  const wait = t.mock.method(UpstreamPool.prototype, 'wait');
  // Each connection answers one request, and dies of the next.
  const backend = await new RawBackend(({ socket, text }) => {
    if (messages(text).length === 1) socket.write(OK);
    else void waiting.then(() => socket.end());
  }).listen(t);
  const front = await startFront(t, configOf({ engine, routes: [{ path: '/', backends: [backend.url], max_connections: 1 }] }));
  const { promise: waiting, resolve } = Promise.withResolvers<void>();
  assert.equal((await front.ask(get('/first'))).status, 200);
  const [lost, other] = [await front.connect(), await front.connect()];
  lost.send(get('/lost'));
  await backend.until(([connection]) => connection?.text.includes('/lost ') === true);
  other.send(get('/other'));
  while (wait.mock.callCount() === 0) await immediate();
  resolve();
  // The other one has the place first, and leaves a connection behind that is as bad as the first.
  assert.equal((await other.answer()).status, 200);
  assert.equal((await lost.answer()).status, 200);
  assert.deepEqual(
    backend.connections.map(({ text }) => messages(text).map(({ startLine }) => startLine.split(' ')[1])),
    [['/first', '/lost'], ['/other'], ['/lost']],
  );
});

both('without keep_alive no answer can reach another client: each request has a connection of its own', async (t, engine) => {
  const backend = await new RawBackend((connection) => {
    const { socket, text } = connection;
    if (!text.endsWith('\r\n\r\n')) return;
    // The second request of a connection would be answered with what the first has ordered.
    socket.write(text.startsWith('GET /evil ') ? OK : POISON);
    if (text.startsWith('GET /evil ')) setImmediate(() => socket.write(POISON));
  }).listen(t);
  const front = await startFront(t, configOf({ engine, routes: [{ path: '/', backends: [backend.url], keep_alive: false }] }));
  const client = await front.connect();
  for (let n = 1; n <= 5; n += 1) {
    client.send(request('GET /evil', 'TE: trailers\r\nConnection: TE\r\n'));
    assert.equal((await client.answer()).body, 'ok');
    assert.equal(backend.connections.length, n);
    await backend.until((connections) => connections.every(isGone));
    const lines = backend.connections[n - 1]!.text.split('\r\n').filter((line) => /^(?:connection|te):/i.test(line));
    assert.deepEqual(lines, ['TE: trailers', 'Connection: close, TE']);
  }
});
