import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { setImmediate as immediate } from 'node:timers/promises';
import { HttpFront } from '../src/engine/http-front.ts';
import { answering, RawBackend, messages } from './support/backend.ts';
import { LeapingClock } from './support/clock.ts';
import { configOf } from './support/config.ts';
import { both, startFront } from './support/front.ts';
import { slowBackend } from './support/slow-backend.ts';

/** One request behind the other on a client's connection (RFC 9112, 9.3), whatever becomes of the one before. */

function request(line: string, fields = '', body = ''): string {
  return `${line} HTTP/1.1\r\nHost: a.test\r\n${fields}\r\n${body}`;
}

const get = (path: string): string => request(`GET ${path}`);

/** Answers each request with its start line and its body. */
function echoing(): RawBackend {
  const answered = new WeakMap<object, number>();
  return new RawBackend((connection) => {
    const { socket, text } = connection;
    const all = messages(text);
    for (const { startLine, head, body } of all.slice(answered.get(connection) ?? 0)) {
      const said = `${startLine}|${body}`;
      const status = /^Upgrade: websocket/im.test(head) ? '426 Upgrade Required' : '200 OK';
      socket.write(`HTTP/1.1 ${status}\r\nContent-Length: ${said.length}\r\n\r\n${startLine.startsWith('HEAD') ? '' : said}`);
    }
    answered.set(connection, all.length);
  });
}

const LAST = request('GET /last', 'Connection: close\r\n');
const SOCKET = 'Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n';

const before: Record<string, [bytes: string, answer: RegExp]> = {
  'a body by Content-Length': [request('POST /x', 'Content-Length: 5\r\n', 'GET /'), /\|GET \/$/],
  'a body in chunks': [request('POST /x', 'Transfer-Encoding: chunked\r\n', '4;a=b\r\nGET \r\n1\r\n/\r\n0\r\nX-Sum: 1\r\n\r\n'), /POST \/x HTTP\/1.1\|GET \/$/],
  'a body that does not wait for its 100 (Continue)': [request('POST /x', 'Expect: 100-continue\r\nContent-Length: 4\r\n', 'body'), /\|body$/],
  'a HEAD': [request('HEAD /x'), /^HTTP\/1.1 200 OK\r\n[^]*\r\n\r\n$/],
  'a page of ours': [request('POST /nowhere', 'Content-Length: 5\r\n', 'GET /'), /^HTTP\/1.1 404 /],
  'a misdirected request': ['GET / HTTP/1.1\r\nHost: b.test\r\n\r\n', /^HTTP\/1.1 421 /],
  'a WebSocket handshake that the backend refuses': [request('GET /x', SOCKET), /^HTTP\/1.1 426 [^]*GET \/x HTTP\/1.1\|$/],
  'an empty line': [`${get('/x')}\r\n`, /GET \/x HTTP\/1.1\|$/],
};

both('what stands behind a request is the next one, in one segment and byte by byte', async (t, engine) => {
  const backend = await echoing().listen(t);
  const routes = ['/x', '/last'].map((path) => ({ path, backends: [backend.url] }));
  const virtual_hosts = ['a.test', 'b.test'].map((server_name) => ({ server_name, certificates: [{ certificate: 'a.pem', key: 'a.key' }], engine, routes }));
  const front = await startFront(t, configOf({}, { virtual_hosts }));
  for (const [what, [bytes, answer]] of Object.entries(before)) {
    const texts: string[] = [];
    for (const size of [100_000, 1]) {
      const client = await front.connect();
      const all = bytes + LAST;
      for (let at = 0; at < all.length; at += size) {
        client.send(all.slice(at, at + size));
        if (size === 1) await immediate();
      }
      const text = await client.toEnd();
      const last = text.lastIndexOf('HTTP/1.1 200 OK\r\n');
      assert.match(text.slice(last), /\r\n\r\nGET \/last HTTP\/1.1\|$/, what);
      assert.match(text.slice(0, last).replace(/^HTTP\/1.1 100 Continue\r\n\r\n/, ''), answer, what);
      texts.push(text.replaceAll(/^Date: .*\r\n/gm, ''));
    }
    assert.equal(texts[0], texts[1], what);
  }
});

/** A connection whose bytes come as they are pushed: any number of reads in one turn of the event loop. */
class PushedSocket extends Duplex {
  said = '';
  override _read(): void {}
  override _write(bytes: Buffer, _encoding: string, done: () => void): void {
    this.said += bytes.toString('latin1');
    done();
  }
  destroySoon(): void {
    this.destroy();
  }
}

both('what comes behind a large body in the same turn stays in order', async (t, engine) => {
  const body = 'x'.repeat(75_000);
  const backend = await echoing().listen(t);
  const { front } = await startFront(t, configOf({ engine, backends: [backend.url] }));
  const socket = new PushedSocket();
  const connection = { clientAddress: '192.0.2.7', clientPort: 1, localAddress: '198.51.100.1', localPort: 443 };
  front.accept(socket as unknown as Socket, { ...connection, protocol: 'https', virtualHost: 'a.test' });
  const behind = `${request('POST /second', 'Content-Length: 30000\r\n', 'y'.repeat(30_000))}${LAST}`;
  const bytes = Buffer.from(request('POST /first', 'Content-Length: 75000\r\n', body) + behind, 'latin1');
  await immediate();
  for (let at = 0; at < bytes.length; at += 15_000) socket.push(bytes.subarray(at, at + 15_000));
  while (!socket.destroyed && !socket.writableEnded) await immediate();
  assert.deepEqual(
    messages(backend.text).map(({ startLine, body: { length } }) => [startLine, length]),
    [
      ['POST /first HTTP/1.1', 75_000],
      ['POST /second HTTP/1.1', 30_000],
      ['GET /last HTTP/1.1', 0],
    ],
  );
  socket.destroy();
});

both('a request that comes in pieces is put together, whatever others send meanwhile', async (t, engine) => {
  const accept = t.mock.method(HttpFront.prototype, 'accept');
  // Each request waits for a connection of its own.
  const backend = await answering('', 'Connection: close\r\n').listen(t);
  const front = await startFront(t, configOf({ engine, backends: [backend.url] }));
  const [client, other] = [await front.connect(), await front.connect()];
  other.send(get('/other'));
  await other.answer();
  const socket = accept.mock.calls.map(({ arguments: [one] }) => one).find(({ remotePort }) => remotePort === client.socket.localPort);
  assert.ok(socket);
  const bytes = request('POST /mine', 'X-Name: mine\r\nTransfer-Encoding: chunked\r\n', '5\r\nhello\r\n5;x=y\r\nworld\r\n0\r\nX-Sum: 1\r\n\r\n');
  for (let at = 1; at <= bytes.length; at += 1) {
    const before = socket.bytesRead;
    client.send(bytes.slice(0, at));
    other.send(request('GET /other', `X-Name: ${'other'.repeat(30)}\r\n`));
    while (socket.bytesRead < before + at) await immediate();
    assert.equal((await other.answer()).status, 200);
    client.send(bytes.slice(at));
    assert.equal((await client.answer()).status, 200, `cut at ${at}`);
  }
  const posted = backend.connections.flatMap(({ text }) => messages(text)).filter(({ startLine }) => startLine.startsWith('POST'));
  assert.equal(posted.length, bytes.length);
  for (const { startLine, lines, body } of posted) assert.deepEqual([startLine, lines[1], body], ['POST /mine HTTP/1.1', 'X-Name: mine', 'helloworld']);
});

both('nothing behind a refused request or an unfinished chunk is read', async (t, engine) => {
  const backend = await echoing().listen(t);
  const front = await startFront(t, configOf({ engine, backends: [backend.url] }));
  const refused: [bytes: string, status: number][] = [
    [request('POST /x', 'Content-Length: 1\r\nContent-Length: 1\r\n', 'x'), 400],
    [request('POST /x', 'Transfer-Encoding: gzip\r\n'), 501],
    [request('POST /x', 'Expect: magic\r\n'), 417],
    [request('TRACE /x'), 405],
    [request('POST /x', 'Transfer-Encoding: chunked\r\n', '1\r\nx\r\nz\r\n'), 400],
    ['GET /x HTTP/1.1\r\nHost: a.test\r\n folded\r\n\r\n', 400],
  ];
  for (const [bytes, status] of refused) {
    const text = await front.all(bytes + get('/smuggled'));
    assert.match(text, new RegExp(`^HTTP/1.1 ${status} `), bytes);
    assert.equal(text.match(/HTTP\/1.1 \d/g)?.length, 1);
  }
  assert.doesNotMatch(backend.text, /smuggled/);
});

both('HTTP/1.0 keeps its connection where it asks to, and the answer has a length', async (t, engine) => {
  const backend = await echoing().listen(t);
  const front = await startFront(t, configOf({ engine, backends: [backend.url] }));
  const client = await front.connect();
  for (const path of ['/1', '/2']) {
    client.send(`GET ${path} HTTP/1.0\r\nHost: a.test\r\nConnection: Keep-Alive\r\n\r\n`);
    const { head, body } = await client.answer();
    assert.match(head, /^Connection: keep-alive$/m);
    assert.equal(body, `GET ${path} HTTP/1.1|`);
  }
  client.send('GET /3 HTTP/1.0\r\nHost: a.test\r\n\r\n');
  assert.match(await client.toEnd(), /^Connection: close\r\n[^]*GET \/3 HTTP\/1.1\|$/m);
});

both('a client that has closed its side gets the answer that is on its way, and no more', async (t, engine) => {
  const backend = await new RawBackend(({ socket, text }) => {
    if (text.includes('\r\n\r\n')) socket.write('HTTP/1.1 413 No\r\nContent-Length: 2\r\n\r\nno');
  }).listen(t);
  const front = await startFront(t, configOf({ engine, backends: [backend.url] }));
  const client = await front.connect();
  client.send(request('POST /', 'Content-Length: 10\r\n'));
  await client.until(() => client.text.endsWith('no'));
  client.socket.end('half');
  assert.equal((await client.answer()).status, 413);
  assert.equal(await client.toEnd(), '');
  assert.equal(client.reset, false);
});

both('a request behind a body that nobody wanted has as much time as any', async (t, engine) => {
  const accept = t.mock.method(HttpFront.prototype, 'accept');
  const clock = new LeapingClock(t);
  const backend = await slowBackend(t);
  const routes = [{ backends: [backend.url], max_connections: 1 }];
  const front = await startFront(t, configOf({ engine, routes }, { timeouts: { queue: '10s' } }));
  const [busy, client] = [await front.connect(), await front.connect()];
  busy.send(get('/slow'));
  await backend.asked();
  const socket = accept.mock.calls[1]?.arguments[0];
  const arrive = async (bytes: string): Promise<void> => {
    const before = socket?.bytesRead ?? 0;
    client.send(bytes);
    while (socket?.bytesRead !== before + bytes.length) await immediate();
  };
  // The end of the body comes while its request still waits for a place.
  await arrive(request('POST /x', 'Content-Length: 9\r\n', 'some'));
  await arrive(` body${get('/next')}`);
  await clock.leap(front, 10_000);
  assert.equal((await client.answer()).status, 503);
  // Longer than a client is listened to that has its answer.
  await clock.leap(front, 6_000);
  backend.release();
  assert.equal((await client.answer()).status, 200);
});
