import assert from 'node:assert/strict';
import test from 'node:test';
import { HttpFront } from '../src/engine/http-front.ts';
import { RawBackend, answering, closedPort, httpBackend, messages } from './support/backend.ts';
import { configOf } from './support/config.ts';
import { startFront } from './support/front.ts';

const limit = { timeout: 10_000 };
const certificates = [{ certificate: 'a.pem', key: 'a.key' }];

function get(path = '/', fields = ''): string {
  return `GET ${path} HTTP/1.1\r\nHost: a.test\r\n${fields}\r\n`;
}

test('malformed requests are refused and the connection ends; the backend sees none of it', limit, async (t) => {
  const backend = await answering().listen(t);
  const front = await startFront(t, configOf({ backends: [backend.url] }));
  const rest = 'Host: a.test\r\n\r\n';
  const cases: [bytes: string, status: number][] = [
    ['GET /\r\n\r\n', 400],
    [`GET / HTTP/0.9\r\n${rest}`, 400],
    [`GET / HTTP/2.0\r\n${rest}`, 400],
    [`GET / HTTP/1.2\r\n${rest}`, 400],
    ['PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 400],
    [`GET / HTTP/1.1\n${rest}`, 400],
    ['GET / HTTP/1.1\r\nHost: a.test\nX: y\r\n\r\n', 400],
    ['GET / HTTP/1.1\r\nHost: a.test\r\nX: a\rb\r\n\r\n', 400],
    ['GET / HTTP/1.1\r\nHost: a.test\r\nX: a\0b\r\n\r\n', 400],
    ['GET / HTTP/1.1\r\nHost: a.test\r\nX: a\x01b\r\n\r\n', 400],
    ['GET / HTTP/1.1\r\nHost: a.test\r\nX: a\r\n b\r\n\r\n', 400],
    ['GET / HTTP/1.1\r\nHost: a.test\r\nX : a\r\n\r\n', 400],
    ['GET / HTTP/1.1\r\nHost: a.test\r\n: a\r\n\r\n', 400],
    ['GET / HTTP/1.1\r\n Host: a.test\r\n\r\n', 400],
    ['GET / HTTP/1.1\r\n\r\n', 400],
    ['GET / HTTP/1.1\r\nHost: a.test\r\nHost: a.test\r\n\r\n', 400],
    ['GET / HTTP/1.1\r\nHost: a.test, b.test\r\n\r\n', 400],
    [`GET /x#y HTTP/1.1\r\n${rest}`, 400],
    [`GET http://b.test/ HTTP/1.1\r\n${rest}`, 400],
    [`GET / x HTTP/1.1\r\n${rest}`, 400],
    [`CONNECT a.test:443 HTTP/1.1\r\n${rest}`, 405],
    [`TRACE / HTTP/1.1\r\n${rest}`, 405],
    [`POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n${rest}x`, 400],
    [`POST / HTTP/1.1\r\nContent-Length: +1\r\n${rest}x`, 400],
    [`POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n${rest}0\r\n\r\n`, 400],
    [`POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n${rest}0\r\n\r\n`, 501],
    [`POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n${rest}0\r\n\r\n`, 400],
    [`POST / HTTP/1.1\r\nExpect: magic\r\nContent-Length: 1\r\n${rest}`, 417],
    [`GET /${'a'.repeat(9000)} HTTP/1.1\r\n${rest}`, 414],
    [`GET / HTTP/1.1\r\nX: ${'a'.repeat(40_000)}\r\n${rest}`, 431],
    [`GET / HTTP/1.1\r\n${'X: y\r\n'.repeat(101)}${rest}`, 431],
    ['\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03', 400],
  ];
  for (const [bytes, status] of cases) {
    const text = await front.all(bytes);
    assert.match(text, new RegExp(`^HTTP/1.1 ${status} `), `${JSON.stringify(bytes.slice(0, 80))} got ${JSON.stringify(text.slice(0, 200))}`);
    assert.match(text, /^Connection: close\r$/m);
    assert.doesNotMatch(text, /node:|\bat |HPE_/, 'no trace of the inside');
  }
  assert.equal(backend.connections.length, 0);
});

test('a bad chunk ends the connection and the backend never gets a last chunk', limit, async (t) => {
  const backend = await new RawBackend(() => {}).listen(t);
  const front = await startFront(t, configOf({ backends: [backend.url] }));
  const client = await front.connect();
  client.send('POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n');
  await backend.until(([first]) => first?.text.endsWith('3\r\nabc\r\n') === true);
  client.send('zz\r\n');
  assert.match(await client.toEnd(), /^HTTP\/1.1 400 /);
  await backend.until(([first]) => first?.ended === true || first?.socket.destroyed === true);
  assert(backend.text.endsWith('3\r\nabc\r\n'));
});

test('a Host of another virtual host gets 421, and the connection stays usable', limit, async (t) => {
  const [open, closed] = [await answering('open').listen(t), await answering('closed').listen(t)];
  const client_auth = { mode: 'require', ca: 'clients.pem' };
  const virtual_hosts = [
    { server_name: 'a.test', default: true, certificates, backends: [open.url] },
    { server_name: 'b.test', aliases: ['*.b.test'], certificates, backends: [closed.url], tls: { client_auth } },
  ];
  const front = await startFront(t, configOf({}, { virtual_hosts }));
  const client = await front.connect();
  // Whoever did not show a certificate gets nowhere near the applications of those who did, however the name is written.
  for (const host of ['b.test', 'B.Test.', 'b.test:443', 'x.b.test']) {
    for (const [target, field] of [
      ['/', host],
      [`https://${host}/`, host],
    ] as const) {
      client.send(`GET ${target} HTTP/1.1\r\nHost: ${field}\r\n\r\n`);
      assert.equal((await client.answer()).status, 421, `${target} ${field}`);
    }
  }
  client.send(get());
  assert.equal((await client.answer()).body, 'open');
  assert.deepEqual([open.connections.length, closed.connections.length], [1, 0]);
  const other = await startFront(t, configOf({}, { virtual_hosts }), { virtualHost: 'b.test' });
  for (const host of ['a.test', 'unknown.test']) assert.equal((await other.ask(`GET / HTTP/1.1\r\nHost: ${host}\r\n\r\n`)).status, 421, host);
  assert.equal((await other.ask('GET / HTTP/1.1\r\nHost: b.test\r\n\r\n')).body, 'closed');
});

test('requests of one connection are forwarded one after the other, even when pipelined', limit, async (t) => {
  const held: (() => void)[] = [];
  let atOnce = 0;
  const { url } = await httpBackend(t, (req, res) => {
    atOnce += 1;
    assert.equal(atOnce, 1);
    held.push(() => {
      atOnce -= 1;
      res.end(req.url);
    });
    setImmediate(() => held.shift()?.());
  });
  const front = await startFront(t, configOf({ backends: [url] }));
  const client = await front.connect();
  client.send([1, 2, 3, 4].map((n) => get(`/${n}`)).join(''));
  const bodies = [];
  for (let n = 0; n < 4; n += 1) bodies.push((await client.answer()).body);
  assert.deepEqual(bodies, ['/1', '/2', '/3', '/4']);
});

test('nothing behind a refused request is forwarded', limit, async (t) => {
  const backend = await answering().listen(t);
  const front = await startFront(t, configOf({ backends: [backend.url] }));
  const text = await front.all(`GET /x#y HTTP/1.1\r\nHost: a.test\r\n\r\n${get('/smuggled')}`);
  assert.equal(messages(text).length, 1);
  assert.equal(backend.connections.length, 0);
});

test('garbage behind a request does not cost it its answer', limit, async (t) => {
  const backend = await new RawBackend(() => {}).listen(t);
  const front = await startFront(t, configOf({ backends: [backend.url] }));
  const client = await front.connect();
  client.send(`${get()}garbage\r\n\r\n`);
  await backend.until(([first]) => first !== undefined && messages(first.text).length === 1);
  backend.connections[0]?.socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
  assert.match(await client.toEnd(), /^HTTP\/1.1 200 OK\r\n[^]*\r\n\r\nokHTTP\/1.1 400 Bad Request\r\n/);
  await front.logged('bad_request');
});

test('a client that pipelines without end is not read any further until it has its answers', limit, async (t) => {
  const accept = t.mock.method(HttpFront.prototype, 'accept');
  const backend = await new RawBackend(({ socket, text }) => {
    if (text.includes('/other ')) socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
  }).listen(t);
  const front = await startFront(t, configOf({ backends: [backend.url] }));
  const client = await front.connect();
  client.send(get().repeat(100_000));
  await backend.until(([first]) => first !== undefined && messages(first.text).length === 1);
  // Others are served meanwhile: time enough to read more.
  for (let n = 0; n < 50; n += 1) await front.ask(get('/other'));
  const read = accept.mock.calls[0]?.arguments[0].bytesRead ?? 0;
  assert.ok(read > 0 && read < 300_000, `${read} bytes of 3.7 MB were read`);
  client.socket.destroy();
});

test('a method that nobody knows is forwarded with its body', limit, async (t) => {
  const backend = await answering().listen(t);
  const front = await startFront(t, configOf({ backends: [backend.url] }));
  assert.equal((await front.ask('FROB /x HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc')).status, 200);
  assert.deepEqual(
    messages(backend.text).map(({ startLine, body }) => [startLine, body]),
    [['FROB /x HTTP/1.1', 'abc']],
  );
});

test('HTTP/1.0: a missing Host is filled in, no chunks, and the end of the connection ends the answer', limit, async (t) => {
  const { url } = await httpBackend(t, (req, res) => {
    res.write(`${req.headers.host} `);
    res.end('streamed');
  });
  const front = await startFront(t, configOf({ backends: [url] }));
  const text = await front.all('GET / HTTP/1.0\r\nTE: chunked\r\n\r\n');
  assert.doesNotMatch(text, /transfer-encoding/i);
  assert(text.endsWith('\r\n\r\na.test streamed'), text);
});

test('100-continue: the backend decides', limit, async (t) => {
  const backend = await new RawBackend(({ socket, text }) => {
    if (text.endsWith('\r\n\r\n')) socket.write(text.includes('/no') ? 'HTTP/1.1 413 No\r\nContent-Length: 0\r\n\r\n' : 'HTTP/1.1 100 Continue\r\n\r\n');
    if (text.endsWith('hello')) socket.write('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n');
  }).listen(t);
  const front = await startFront(t, configOf({ backends: [backend.url] }));
  const head = (path: string): string => `PUT ${path} HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n`;
  const client = await front.connect();
  client.send(head('/a//yes'));
  assert.equal((await client.answer()).status, 100);
  client.send('hello');
  assert.equal((await client.answer()).status, 200);
  assert.match(backend.text, /^PUT \/a\/\/yes HTTP\/1.1\r\n[^]*Expect: 100-continue\r\n(?:[^]*\r\n)?\r\nhello$/);
  client.send(head('/no'));
  const refused = await client.answer();
  assert.equal(refused.status, 413);
  assert.match(refused.head, /^Connection: close$/m, 'the body may or may not come');
});

test('103 is relayed, other interim answers are not, and neither to HTTP/1.0', limit, async (t) => {
  const backend = await new RawBackend(({ socket }) => {
    socket.write('HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x.css>; rel=preload\r\nKeep-Alive: 1\r\n\r\n');
    socket.write('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n');
  }).listen(t);
  const front = await startFront(t, configOf({ backends: [backend.url] }));
  const client = await front.connect();
  client.send(get());
  assert.equal((await client.answer()).head, 'HTTP/1.1 103 Early Hints\r\nLink: </x.css>; rel=preload');
  assert.equal((await client.answer()).status, 200);
  assert.match(await front.all('GET / HTTP/1.0\r\nHost: a.test\r\n\r\n'), /^HTTP\/1.1 200 /);
});

test('OPTIONS obeys Max-Forwards', limit, async (t) => {
  const backend = await answering().listen(t);
  const front = await startFront(t, configOf({ backends: [backend.url] }));
  const client = await front.connect();
  client.send('OPTIONS * HTTP/1.1\r\nHost: a.test\r\nMax-Forwards: 0\r\n\r\n');
  assert.equal((await client.answer()).status, 200);
  assert.equal(backend.connections.length, 0);
  client.send('OPTIONS * HTTP/1.1\r\nHost: a.test\r\nMax-Forwards: 7\r\n\r\n');
  await client.answer();
  assert.match(backend.text, /^OPTIONS \* HTTP\/1.1\r\n[^]*Max-Forwards: 6\r\n/);
});

test('pages are small, uncached, in the form the client asks for, and say nothing of the backend', limit, async (t) => {
  const url = await closedPort();
  const front = await startFront(t, configOf({ backends: [url] }));
  const client = await front.connect();
  client.send(get('/', 'Accept: text/html,*/*;q=0.8\r\n'));
  const html = await client.answer();
  assert.equal(html.status, 502);
  assert.match(html.head, /^Cache-Control: no-store$/m);
  assert.match(html.body, /^<!doctype html>.*502 Bad Gateway/);
  client.send(get('/', 'Accept: application/json\r\n'));
  const text = await client.answer();
  assert.match(text.head, /^Content-Type: text\/plain/m);
  client.send('HEAD / HTTP/1.1\r\nHost: a.test\r\n\r\n');
  assert.equal((await client.answer(true)).status, 502);
  assert.equal(client.text, '');
  assert.doesNotMatch(html.body + html.head + text.body, /127\.0\.0\.1|ECONN/);
  const line = await front.logged('backend_unreachable');
  assert.deepEqual([line.facts['backend'], line.facts['cause']], [url, 'ECONNREFUSED']);
});

test('a client that does not finish its head gets 408', limit, async (t) => {
  const front = await startFront(t, configOf({ backends: ['http://127.0.0.1:1'] }, { timeouts: { request_header: '50ms' } }));
  assert.match(await front.all('GET / HTTP/1.1\r\nHost: a'), /^HTTP\/1.1 408 /);
});

test('a client that does not go on with its body gets 408, and the backend is let go', limit, async (t) => {
  const backend = await new RawBackend(() => {}).listen(t);
  const front = await startFront(t, configOf({ backends: [backend.url] }, { timeouts: { request_body: '50ms' } }));
  const text = await front.all('POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nab');
  assert.match(text, /^HTTP\/1.1 408 (?:.*\r\n)+Connection: close\r\n/);
  await backend.until(([first]) => first?.socket.destroyed === true || first?.ended === true);
  assert.equal((await front.logged('client_body_timeout')).facts['setting'], 'timeouts.request_body');
});

test('an idle connection is closed after keep_alive', limit, async (t) => {
  const backend = await answering().listen(t);
  const front = await startFront(t, configOf({ backends: [backend.url] }, { timeouts: { keep_alive: '20ms' } }));
  assert.match(await front.all(get()), /ok$/);
});

test('a new configuration serves the next request of an open connection', limit, async (t) => {
  const [one, two] = [await answering('one').listen(t), await answering('two').listen(t)];
  const front = await startFront(t, configOf({ backends: [one.url] }));
  const client = await front.connect();
  client.send(get());
  assert.equal((await client.answer()).body, 'one');
  front.front.update(configOf({ backends: [two.url] }));
  client.send(get());
  assert.equal((await client.answer()).body, 'two');
});

test('closing ends idle connections at once, lets the request under way finish, and says so', limit, async (t) => {
  const backend = await new RawBackend(() => {}).listen(t);
  const front = await startFront(t, configOf({ backends: [backend.url] }));
  const [idle, fresh, busy] = [await front.connect(), await front.connect(), await front.connect()];
  busy.send(get());
  await backend.until(([first]) => first !== undefined && messages(first.text).length === 1);
  assert.equal(front.front.open, 3);
  const closed = front.front.close(60_000);
  assert.deepEqual([await idle.toEnd(), await fresh.toEnd()], ['', '']);
  backend.connections[0]?.socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
  assert.match(await busy.toEnd(), /^HTTP\/1.1 200 OK\r\n[^]*Connection: close\r\n[^]*ok$/);
  await closed;
  assert.equal(front.front.open, 0);
});

test('closing cuts what is not finished in time', limit, async (t) => {
  const backend = await new RawBackend(() => {}).listen(t);
  const front = await startFront(t, configOf({ backends: [backend.url] }));
  const client = await front.connect();
  client.send(get());
  await backend.until(([first]) => first !== undefined);
  await front.front.close(20);
  assert.equal(await client.toEnd(), '');
});

test('the access log has one line a request', limit, async (t) => {
  const backend = await answering('12345').listen(t);
  const front = await startFront(t, configOf({ backends: [backend.url] }, { log: { access: true } }));
  const client = await front.connect();
  client.send(get('/x?q=1'));
  await client.answer();
  client.send('GET /a#b HTTP/1.1\r\nHost: a.test\r\n\r\n');
  await client.toEnd();
  const lines = front.log.filter(({ level }) => level === 'info');
  const page = lines[1]?.facts;
  assert.deepEqual(
    lines.map(({ message, facts: { status, bytes, client, backend } }) => ({ message, status, bytes, client, backend })),
    [
      { message: 'GET a.test/x?q=1', status: 200, bytes: 5, client: '192.0.2.7', backend: backend.url },
      { message: 'GET /a#b', status: 400, bytes: page?.bytes, client: '192.0.2.7', backend: undefined },
    ],
  );
});

test('trusted peers only are believed about the client', limit, async (t) => {
  const backend = await answering().listen(t);
  const config = configOf({ backends: [backend.url] }, { trusted_proxies: ['192.0.2.0/24'] });
  const trusted = await startFront(t, config, { clientAddress: '192.0.2.7' });
  await trusted.ask(get('/', 'X-Forwarded-For: 198.51.100.1\r\n'));
  assert.match(backend.text, /^X-Forwarded-For: 198.51.100.1, 192.0.2.7\r$/m);
  // HAProxy passes on what its client says in Connection.
  await trusted.ask(get('/', 'Connection: X-Forwarded-For, X-Forwarded-Host\r\nX-Forwarded-For: 198.51.100.2\r\nX-Forwarded-Host: front.test\r\n'));
  assert.match(backend.text, /^X-Forwarded-For: 198.51.100.2, 192.0.2.7\r$/m);
  assert.match(backend.text, /^X-Forwarded-Host: front.test\r$/m);
  const stranger = await startFront(t, config, { clientAddress: '203.0.113.9' });
  await stranger.ask(get('/', 'X-Forwarded-For: 198.51.100.1\r\n'));
  assert.match(backend.text, /^X-Forwarded-For: 203.0.113.9\r$/m);
});
