import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { RequestListener } from 'node:http';
import * as https from 'node:https';
import * as net from 'node:net';
import test from 'node:test';
import { Authority } from '../src/demo/authority.ts';
import { setImmediate as immediate } from 'node:timers/promises';
import { HttpFront } from '../src/engine/http-front.ts';
import { failedWrite, isEndOfReset, readsOnAfterFailedWrite } from '../src/engine/early-answer.ts';
import { RawBackend, answering, closedPort, httpBackend, messages } from './support/backend.ts';
import { configOf } from './support/config.ts';
import { both, startFront } from './support/front.ts';
import { answerOf, errorCodes, Http2Client, startHttp2Front } from './support/http2.ts';
import { execute } from './support/program.ts';
import { startPython } from './support/python.ts';
import { needs } from './support/tools.ts';

/** Answers that come before the end of their request (RFC 9110, 10.1.1; RFC 9112, 9.3). */

function get(path: string): string {
  return `GET ${path} HTTP/1.1\r\nHost: a.test\r\n\r\n`;
}

function post(path: string, fields: string): string {
  return `POST ${path} HTTP/1.1\r\nHost: a.test\r\n${fields}\r\n`;
}

/** Answers a POST as soon as its head is there, and a GET. */
function early(fields = ''): RawBackend {
  return new RawBackend((connection) => {
    if (!connection.text.includes('\r\n\r\n')) return;
    const isPost = connection.text.startsWith('POST');
    connection.text = '';
    connection.socket.write(isPost ? `HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n${fields}\r\nno` : 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
  });
}

for (const [framing, begin, rest] of [
  ['Content-Length', post('/', 'Content-Length: 10\r\n'), '0123456789'],
  ['chunks', post('/', 'Transfer-Encoding: chunked\r\n'), 'a\r\n0123456789\r\n0\r\nX: y\r\n\r\n'],
] as const) {
  both(`behind an early answer the rest of a body by ${framing} is dropped, and the next request found`, async (t, engine) => {
    const backend = await early().listen(t);
    const front = await startFront(t, configOf({ engine, backends: [backend.url] }));
    const client = await front.connect();
    for (const cut of [0, 1, 5, rest.length - 1]) {
      client.send(begin + rest.slice(0, cut));
      assert.equal((await client.answer()).status, 413);
      client.send(rest.slice(cut) + get('/next'));
      assert.equal((await client.answer()).body, 'ok', `cut at ${cut}`);
    }
    assert.equal(client.text, '');
  });
}

both('a connection on which the body of an answered request did not go out is not used again', async (t, engine) => {
  const backend = await early().listen(t);
  const front = await startFront(t, configOf({ engine, backends: [backend.url] }));
  const client = await front.connect();
  client.send(post('/', 'Content-Length: 10\r\n'));
  assert.equal((await client.answer()).status, 413);
  await backend.until(([first]) => first?.ended === true || first?.socket.destroyed === true);
  client.send(`0123456789${get('/next')}`);
  assert.equal((await client.answer()).body, 'ok');
  assert.equal(backend.connections.length, 2);
});

both('a body that the backend has not taken yet holds up nobody else', async (t, engine) => {
  // It answers at once and then reads no more, though it keeps the connection.
  const backend = await new RawBackend(({ socket, text }) => {
    if (text.startsWith('POST')) {
      socket.pause();
      socket.write('HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly');
    } else socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
  }).listen(t);
  const front = await startFront(t, configOf({ engine, backends: [backend.url] }));
  const body = 'x'.repeat(9_000_000);
  const client = await front.connect();
  client.send(post('/', `Content-Length: ${body.length}\r\n`) + body);
  assert.equal((await client.answer()).body, 'early');
  assert.equal((await front.ask(get('/next'))).body, 'ok');
});

both('who waited for a 100 (Continue) and got an answer instead is not asked for more', async (t, engine) => {
  const backend = await new RawBackend(({ socket, text }) => {
    if (text.endsWith('\r\n\r\n')) socket.write('HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno');
  }).listen(t);
  const hosts = [
    [backend.url, 403],
    [await closedPort(), 502],
  ] as const;
  for (const [url, status] of hosts) {
    const front = await startFront(t, configOf({ engine, backends: [url] }));
    // Behind the head stands the next request, or the body: nobody can tell, so nothing is made of it.
    const text = await front.all(post('/', 'Expect: 100-continue\r\nContent-Length: 40\r\n'));
    assert.match(text, new RegExp(`^HTTP/1.1 ${status} `));
    assert.match(text, /^Connection: close\r$/m);
    const client = await front.connect();
    client.send(`${post('/', 'Expect: 100-continue\r\nContent-Length: 4\r\n')}b`);
    if (status === 502) assert.doesNotMatch((await client.answer()).head, /^Connection: close$/m, 'the body has begun');
    client.socket.destroy();
  }
});

both('who has got its 100 (Continue) sends the body, whatever the answer is, and then the next request', async (t, engine) => {
  const backend = await new RawBackend((connection) => {
    if (connection.text.startsWith('POST')) connection.socket.write('HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno');
    else connection.socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
  }).listen(t);
  const front = await startFront(t, configOf({ engine, backends: [backend.url] }));
  const client = await front.connect();
  client.send(post('/', 'Expect: 100-continue\r\nContent-Length: 10\r\n'));
  assert.equal((await client.answer()).status, 100);
  const { status, head } = await client.answer();
  assert.equal(status, 403);
  assert.doesNotMatch(head, /^Connection: close$/m);
  client.send(`0123456789${get('/next')}`);
  assert.equal((await client.answer()).body, 'ok');
});

both('what follows a refused 100-continue is never a request', async (t, engine) => {
  const backend = await answering().listen(t);
  const front = await startFront(t, configOf({ engine, routes: [{ path: '/api/', backends: [backend.url] }] }));
  const client = await front.connect();
  client.send(post('/', 'Expect: 100-continue\r\nContent-Length: 10\r\n'));
  const { status, head } = await client.answer();
  assert.equal(status, 404);
  assert.match(head, /^Connection: close$/m);
  client.send(get('/api/smuggled'));
  await client.toEnd();
  assert.equal(messages(backend.text).length, 0);
});

for (const end of ['reset', 'end and reset'] as const) {
  test(`what was said before a connection ends by ${end} is read after a write has failed`, { timeout: 10_000 }, async (t) => {
    const server = net.createServer({ allowHalfOpen: true }).listen(0, '127.0.0.1');
    t.after(() => server.close());
    await once(server, 'listening');
    const socket = net.connect((server.address() as net.AddressInfo).port, '127.0.0.1').pause();
    readsOnAfterFailedWrite(socket);
    const [[peer]] = (await Promise.all([once(server, 'connection'), once(socket, 'connect')])) as [[net.Socket], unknown];
    await new Promise((resolve) => peer.write('early', resolve));
    if (end === 'reset') peer.resetAndDestroy();
    else peer.end(() => peer.destroy());
    await once(peer, 'close');
    while (!failedWrite(socket)) {
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      socket.write('more', (error) => (error ? reject(error) : resolve()));
      await promise;
    }
    let text = '';
    socket.on('data', (bytes) => (text += bytes.toString()));
    socket.resume();
    await once(socket, 'end');
    assert.equal(text, 'early');
    assert.equal(isEndOfReset(socket), end === 'reset', 'whether the end was the peer’s own');
  });
}

const certificate = await (await Authority.root('Backends')).issue({ names: ['127.0.0.1'] });

for (const where of ['an http', 'an https'] as const) {
  both(`what ${where} backend answers before it closes on unread bytes reaches the client`, async (t, engine) => {
    const listener: RequestListener = (req, res) => {
      if (req.method === 'GET') return void res.end('ok');
      res.writeHead(413, { 'Content-Length': 2 }).end('no', () => req.socket.destroy());
    };
    const plain = await httpBackend(t, listener);
    let { url } = plain;
    if (where === 'an https') {
      const server = https.createServer({ cert: certificate.chainPem, key: certificate.keyPem }, listener).listen(0, '127.0.0.1');
      await once(server, 'listening');
      t.after(() => server.close());
      url = `https://127.0.0.1:${(server.address() as net.AddressInfo).port}`;
    }
    const front = await startFront(
      t,
      configOf({ engine, routes: [{ path: '/', backends: [url], ...(url !== plain.url && { backend_tls: { verify: false } }) }] }),
    );
    const body = 'x'.repeat(1_000_000);
    for (let n = 0; n < 20; n += 1) {
      // On a connection that is kept, too, where no answer would mean to ask again.
      assert.equal((await front.ask(get('/'))).body, 'ok');
      const client = await front.connect();
      client.send(post('/', `Content-Length: ${body.length}\r\n`) + body);
      const { status, body: said } = await client.answer();
      assert.deepEqual([status, said], [413, 'no']);
      client.socket.destroy();
    }
  });
}

both('an application in Python that refuses an upload and closes is understood', async (t, engine) => {
  await using server = await startPython(`
import http.server
class Refusing(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.send_error(401)
    def log_message(self, *args): pass
server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Refusing)
print(server.server_address[1])
server.serve_forever()`);
  const front = await startFront(t, configOf({ engine, backends: [server.url] }));
  const body = 'x'.repeat(1_000_000);
  for (let n = 0; n < 10; n += 1) {
    const client = await front.connect();
    client.send(post('/', `Content-Length: ${body.length}\r\n`) + body);
    const { status, body: page } = await client.answer();
    assert.equal(status, 401);
    assert.match(page, /<\/html>\s*$/);
    client.socket.destroy();
  }
});

both('an answer without a length that ends by a reset is not taken for a whole one', async (t, engine) => {
  const backend = await new RawBackend(({ socket }) => {
    socket.pause();
    socket.write('HTTP/1.1 403 Forbidden\r\n\r\npart', () => socket.resetAndDestroy());
  }).listen(t);
  const front = await startFront(t, configOf({ engine, backends: [backend.url] }));
  const body = 'x'.repeat(1_000_000);
  for (let n = 0; n < 10; n += 1) {
    const text = await front.all(post('/', `Content-Length: ${body.length}\r\n`) + body);
    assert.doesNotMatch(text, /\r\n0\r\n\r\n$/);
  }
});

test('curl hears over HTTP/2, too, that its upload is refused', { ...needs('curl'), timeout: 30_000 }, async (t) => {
  const { url } = await httpBackend(t, (req, res) => {
    res.writeHead(413, { 'Content-Length': 2 }).end('no', () => req.socket.destroy());
  });
  const front = await startHttp2Front(t, configOf({ backends: [url] }));
  const upload = ['-s', '--http2-prior-knowledge', '-X', 'POST', '-H', 'Host: a.test', '-H', 'Expect:', '--data-binary', '@-'];
  for (let n = 0; n < 5; n += 1) {
    const { stdout, stderr } = await execute('curl', [...upload, '-w', ' %{http_code}', `http://127.0.0.1:${front.port}/`], {
      input: Buffer.alloc(5_000_000, 'x'),
    });
    assert.equal(stdout, 'no 413', stderr);
  }
});

test('who goes on sending over HTTP/2 after its answer may not send for ever', { timeout: 10_000 }, async (t) => {
  const { url } = await httpBackend(t, (_req, res) => void res.writeHead(413, { 'Content-Length': 2 }).end('no'));
  const front = await startHttp2Front(t, configOf({ backends: [url] }));
  const client = await Http2Client.connect(t, front.port);
  const stream = client.open([':method', 'POST', ':path', '/']);
  let taken = 0;
  const more = (): void => {
    while (!stream.closed && stream.write(Buffer.alloc(65_536), () => (taken += 65_536)));
    stream.once('drain', more);
  };
  more();
  const { status, body, rstCode } = await answerOf(stream);
  assert.deepEqual([status, body, rstCode], [413, 'no', errorCodes.noError]);
  assert.ok(taken < 4_000_000, `${taken} bytes were taken of a body that nobody wants`);
});

for (const [much, rest] of [
  ['little', 1_000],
  ['much', 300_000],
] as const) {
  both(`a client that sends ${much} after its answer, and goes on slowly, is listened to, but not for ever`, async (t, engine) => {
    const accept = t.mock.method(HttpFront.prototype, 'accept');
    const backend = await early().listen(t);
    const front = await startFront(t, configOf({ engine, backends: [backend.url] }));
    const begin = performance.now();
    let later = 0;
    const now = t.mock.method(performance, 'now', () => begin + later);
    const client = await front.connect();
    const { socket } = client;
    const ended = once(socket, 'end');
    const [{ arguments: [accepted] } = assert.fail()] = accept.mock.calls;
    let sent = 0;
    const send = async (bytes: string): Promise<void> => {
      socket.write(bytes);
      sent += bytes.length;
      while (accepted.bytesRead < sent) await immediate();
      // Long enough for whoever keeps the time to look at it.
      for (const calls = now.mock.callCount(); now.mock.callCount() < calls + 3;) await immediate();
    };
    await send(post('/', 'Content-Length: 10000000\r\n'));
    assert.equal((await client.answer()).status, 413);
    await send('x'.repeat(rest));
    // The front closes its side, and reads on.
    if (much === 'much') await ended;
    for (later = 4_000; later < 30_000; later += 4_000) await send('x');
    assert.ok(!accepted.destroyed);
    later = 31_000;
    await once(accepted, 'close');
  });
}
