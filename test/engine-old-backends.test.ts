import assert from 'node:assert/strict';
import test from 'node:test';
import { BufferedBody } from '../src/proxy/buffered-body.ts';
import { RawBackend, type RawConnection } from './support/backend.ts';
import { configOf, type Keys } from './support/config.ts';
import { startFront } from './support/front.ts';

const limit = { timeout: 10_000 };
const get = 'GET / HTTP/1.1\r\nHost: a.test\r\n\r\n';

function route(backend: RawBackend, keys: Keys): ReturnType<typeof configOf> {
  return configOf({ routes: [{ path: '/', backends: [backend.url], ...keys }] });
}

/** Answers every request without a body with these bytes. */
function answeringWith(bytes: string): RawBackend {
  return new RawBackend(({ socket, text }) => {
    if (text.endsWith('\r\n\r\n')) socket.write(bytes, 'latin1');
  });
}

const sloppy: Record<string, { bytes: string; field?: [name: string, value: string]; dropped?: RegExp }> = {
  'lines that end with LF': { bytes: 'HTTP/1.1 200 OK\nX: y\nContent-Length: 2\n\nok', field: ['X', 'y'] },
  'CRLF and LF in turn': { bytes: 'HTTP/1.1 200 OK\r\nX: y\nContent-Length: 2\r\n\nok', field: ['X', 'y'] },
  'no reason and no blank before it': { bytes: 'HTTP/1.1 200\nX: y\nContent-Length: 2\n\nok', field: ['X', 'y'] },
  'a folded value': { bytes: 'HTTP/1.1 200 OK\r\nX: one\r\n\ttwo\r\nContent-Length: 2\r\n\r\nok', field: ['X', 'one two'] },
  'a blank in a name': { bytes: 'HTTP/1.1 200 OK\r\nMy Name: z\r\nX: y\r\nContent-Length: 2\r\n\r\nok', field: ['X', 'y'], dropped: /My Name/ },
  'a line that is no field': { bytes: 'HTTP/1.1 200 OK\r\n<!-- hello -->\r\nX: y\r\nContent-Length: 2\r\n\r\nok', field: ['X', 'y'], dropped: /hello/ },
  'a control byte in a value': { bytes: 'HTTP/1.1 200 OK\r\nBell: a\x07b\r\nX: y\r\nContent-Length: 2\r\n\r\nok', field: ['X', 'y'], dropped: /Bell/ },
  'a reason in a code page of its own': { bytes: 'HTTP/1.1 200 \x01\x02\r\nX: y\r\nContent-Length: 2\r\n\r\nok', field: ['X', 'y'] },
};

for (const [what, { bytes, field, dropped }] of Object.entries(sloppy)) {
  test(`an answer with ${what} passes where the route is lenient, and only there`, limit, async (t) => {
    const backend = await answeringWith(bytes).listen(t);
    const lenient = await startFront(t, route(backend, { lenient: true }));
    const client = await lenient.connect();
    for (let n = 0; n < 2; n += 1) {
      client.send(get);
      const { status, head, body } = await client.answer();
      assert.deepEqual([status, body], [200, 'ok']);
      assert.ok(!field || head.includes(`\r\n${field[0]}: ${field[1]}\r\n`), head);
      assert.doesNotMatch(head, /[^\r]\n|[\x00-\x09\x0b\x0c\x0e-\x1f]/, 'proper HTTP/1.1');
      if (dropped) assert.doesNotMatch(head, dropped);
    }
    assert.equal(backend.connections.length, 1, 'and the connection is good for the next request');
    const strict = await startFront(t, route(backend, {}));
    assert.equal((await strict.ask(get)).status, 502);
  });
}

const doubtful: Record<string, string> = {
  'a blank before the colon of Content-Length': 'HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok',
  'two Content-Lengths': 'HTTP/1.1 200 OK\nContent-Length: 2\nContent-Length: 2\n\nok',
  'Content-Length beside Transfer-Encoding': 'HTTP/1.1 200 OK\nContent-Length: 2\nTransfer-Encoding: chunked\n\n2\r\nok\r\n0\r\n\r\n',
  'a folded Content-Length': 'HTTP/1.1 200 OK\r\nContent-Length:\r\n 2\r\n\r\nok',
  'a Content-Length behind a control byte': 'HTTP/1.1 200 OK\r\n\x0bContent-Length: 2\r\n\r\nok',
  'chunks whose lines end with LF': 'HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n2\nok\n0\n\n',
};

for (const [what, bytes] of Object.entries(doubtful)) {
  test(`an answer with ${what} is refused in any case`, limit, async (t) => {
    const backend = await answeringWith(bytes).listen(t);
    const front = await startFront(t, route(backend, { lenient: true }));
    const text = await front.all(get.replace('\r\n\r\n', '\r\nConnection: close\r\n\r\n'));
    await front.logged('backend_bad_response');
    // What can only be seen in the body cuts it.
    if (what.startsWith('chunks')) assert.doesNotMatch(text, /\r\n0\r\n\r\n$/);
    else assert.match(text, /^HTTP\/1\.1 502 /);
    await backend.until(([first]) => first?.ended === true);
  });
}

/** A backend that speaks HTTP/1.0: it answers when it has read as much as Content-Length says, and closes. */
function oldBackend(answer = 'HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nold'): RawBackend {
  return new RawBackend(({ socket, text }) => {
    const end = text.indexOf('\r\n\r\n');
    if (end === -1 || text.length < end + 4 + Number(/^content-length: (\d+)$/im.exec(text)?.[1] ?? 0)) return;
    socket.end(answer);
  });
}

const old = { http_version: 1.0 };

/** The lines of a request's head. */
function headOf({ text }: RawConnection): string[] {
  return text.slice(0, text.indexOf('\r\n\r\n')).split('\r\n');
}

test('a request goes out as HTTP/1.0, on a connection of its own, without what HTTP/1.0 does not know', limit, async (t) => {
  const backend = await oldBackend().listen(t);
  const front = await startFront(t, route(backend, old));
  const client = await front.connect();
  for (let n = 1; n <= 2; n += 1) {
    client.send('GET /x HTTP/1.1\r\nHost: a.test\r\nTE: trailers\r\nConnection: TE\r\nUser-Agent: u\r\n\r\n');
    const { status, head, body } = await client.answer();
    assert.deepEqual([status, body], [200, 'old']);
    assert.match(head, /^HTTP\/1\.1 .*\r\nTransfer-Encoding: chunked\b/s, 'the end of the connection becomes a last chunk');
    assert.equal(backend.connections.length, n);
    const [line, ...lines] = headOf(backend.connections[n - 1]!);
    assert.equal(line, 'GET /x HTTP/1.0');
    assert.ok(lines.includes('Host: a.test') && lines.includes('User-Agent: u'), lines.join());
    assert.deepEqual(
      lines.filter((one) => /^(connection|te|keep-alive|transfer-encoding|expect):/i.test(one)),
      ['Connection: close'],
    );
  }
});

test('a connection to an HTTP/1.0 backend is not used again, whatever the backend says', limit, async (t) => {
  // No connection is closed for having been idle.
  t.mock.method(performance, 'now', () => 0);
  const backend = await answeringWith('HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok').listen(t);
  const front = await startFront(t, route(backend, old));
  for (let n = 1; n <= 2; n += 1) {
    assert.equal((await front.ask(get)).body, 'ok');
    await backend.until((connections) => connections.length === n && connections.every(({ ended }) => ended));
  }
});

test('a chunked request body is read to its end and sent with its length', limit, async (t) => {
  const backend = await oldBackend().listen(t);
  const front = await startFront(t, route(backend, old));
  const client = await front.connect();
  const chunks = Array.from({ length: 5000 }, (_, n) => `1\r\n${n % 10}\r\n`).join('');
  for (const trailers of ['', 'X-Sum: 1\r\n']) {
    client.send(`POST /${trailers.length} HTTP/1.1\r\nHost: a.test\r\nA: 1\r\nTransfer-Encoding: chunked\r\nB: 2\r\n\r\n`);
    client.send(`${chunks}0\r\n${trailers}\r\n`);
    assert.equal((await client.answer()).body, 'old');
    const { text } = backend.connections.at(-1)!;
    assert.match(text, /^POST \/\d+ HTTP\/1\.0\r\nHost: a\.test\r\nA: 1\r\nContent-Length: 5000\r\nB: 2\r\n/);
    assert.doesNotMatch(text, /transfer-encoding|x-sum/i);
    assert.equal(text.slice(text.indexOf('\r\n\r\n') + 4), '0123456789'.repeat(500));
  }
  client.send('POST /empty HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n');
  assert.equal((await client.answer()).status, 200);
  assert.match(backend.connections.at(-1)!.text, /\r\nContent-Length: 0\r\n[^]*\r\n\r\n$/);
});

test('one that is larger than it may be is a 411, nothing of it is sent, and the client can go on', limit, async (t) => {
  const backend = await oldBackend().listen(t);
  const front = await startFront(t, route(backend, { ...old, max_buffered_body: '10k' }));
  const client = await front.connect();
  const chunk = `2000\r\n${'b'.repeat(0x2000)}\r\n`;
  client.send(`POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n${chunk}${chunk}0\r\n\r\n`);
  assert.equal((await client.answer()).status, 411);
  assert.equal((await front.logged('length_required')).facts['setting'], 'virtual_hosts[].routes[].max_buffered_body');
  assert.equal(backend.connections.length, 0);
  client.send(`POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 100000\r\n\r\n${'b'.repeat(100_000)}`);
  assert.equal((await client.answer()).status, 200, 'with a length there is no limit');
});

test('a client that waits for its 100 (Continue) gets it from us', limit, async (t) => {
  const backend = await oldBackend().listen(t);
  const front = await startFront(t, route(backend, old));
  const framings = { 'Content-Length: 2': 'hi', 'Transfer-Encoding: chunked': '2\r\nhi\r\n0\r\n\r\n' };
  for (const [framing, body] of Object.entries(framings)) {
    const client = await front.connect();
    client.send(`PUT / HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\n${framing}\r\n\r\n`);
    assert.equal((await client.answer()).status, 100);
    client.send(body);
    assert.equal((await client.answer()).status, 200);
    const { text } = backend.connections.at(-1)!;
    assert.doesNotMatch(text, /expect/i);
    assert.match(text, /\r\n\r\nhi$/);
  }
});

test('a client that stops in the middle of a body that is being read is told so; one that goes away costs nothing', limit, async (t) => {
  const backend = await oldBackend().listen(t);
  const front = await startFront(t, configOf({ routes: [{ path: '/', backends: [backend.url], ...old }] }, { timeouts: { request_body: '100ms' } }));
  const stopping = await front.connect();
  stopping.send('POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n');
  assert.equal((await stopping.answer()).status, 408);
  const leaving = await front.connect();
  leaving.send('POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n');
  leaving.socket.resetAndDestroy();
  await front.logged('client_gone');
  assert.equal(backend.connections.length, 0);
});

test('a request to switch to WebSocket is an ordinary one there', limit, async (t) => {
  const backend = await oldBackend().listen(t);
  const front = await startFront(t, route(backend, old));
  const asked = 'GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n';
  assert.equal((await front.ask(asked)).status, 200);
  assert.doesNotMatch(backend.text, /^upgrade:/im);
});

test('all bodies together have a bound, and give back what they held', () => {
  const piece = Buffer.alloc(1024 ** 2);
  const bodies = Array.from({ length: 64 }, () => new BufferedBody(1024 ** 2));
  for (const body of bodies) body.add(piece);
  const one = new BufferedBody(1024 ** 2);
  assert.throws(() => one.add(Buffer.alloc(1)), { code: 'buffers_full' });
  for (const body of bodies) body.release();
  one.add(piece);
  assert.throws(() => one.add(Buffer.alloc(1)), { code: 'length_required' });
  assert.equal(one.bytes.length, 1024 ** 2);
  one.release();
});
