import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import * as http from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { RawBackend, answering, answeringBy, closedPort, httpBackend, messages } from './support/backend.ts';
import { configOf } from './support/config.ts';
import { both, startFront } from './support/front.ts';

const OK = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok';

function get(path = '/', fields = ''): string {
  return `GET ${path} HTTP/1.1\r\nHost: a.test\r\n${fields}\r\n`;
}

both('every method with every framing arrives as exactly one request with its body', async (t, engine) => {
  const backend = await answering('').listen(t);
  const front = await startFront(t, configOf({ engine, backends: [backend.url] }));
  const client = await front.connect();
  const bodies = [
    ['', '', ''],
    ['Content-Length: 0\r\n', '', ''],
    ['Content-Length: 5\r\n', 'hello', 'hello'],
    ['Transfer-Encoding: chunked\r\n', '2;ext=1\r\nhe\r\n3\r\nllo\r\n0\r\nX-Trailer: 1\r\n\r\n', 'hello'],
  ] as const;
  const expected: [startLine: string, framing: string[], body: string][] = [];
  for (const method of ['GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'OPTIONS', 'PATCH', 'PROPFIND', 'MKCOL', 'QUERY', 'FROB', 'get']) {
    for (const [framing, bytes, body] of bodies) {
      client.send(`${method} /${method} HTTP/1.1\r\nHost: a.test\r\n${framing}\r\n${bytes}`);
      assert.equal((await client.answer(method === 'HEAD')).status, 200, `${method} ${framing}`);
      expected.push([`${method} /${method} HTTP/1.1`, framing === '' ? [] : [framing.trim()], body]);
    }
  }
  const arrived = backend.connections.flatMap(({ text }) => messages(text));
  assert.deepEqual(
    arrived.map(({ startLine, lines, body }) => [startLine, lines.filter((line) => /^(content-length|transfer-encoding)/i.test(line)), body]),
    expected,
  );
  assert.doesNotMatch(backend.text, /ext=1|X-Trailer/);
});

both('however a client spells its framing, the backend reads what everybody writes', async (t, engine) => {
  const backend = await answering('').listen(t);
  const front = await startFront(t, configOf({ engine, backends: [backend.url] }));
  const client = await front.connect();
  const spelled = {
    'transfer-encoding:Chunked': 'transfer-encoding: chunked',
    'Transfer-Encoding:  CHUNKED  ': 'Transfer-Encoding: chunked',
    'Content-Length: 005': 'Content-Length: 5',
    'Content-Length:5 ': 'Content-Length: 5',
    'Content-Length: 00': 'Content-Length: 0',
  };
  for (const [line, written] of Object.entries(spelled)) {
    const body = line.includes('00') && !line.includes('5') ? '' : 'hello';
    client.send(`POST / HTTP/1.1\r\nHost: a.test\r\n${line}\r\n\r\n${/chunked/i.test(line) ? '05\r\nhello\r\n00\r\n\r\n' : body}`);
    assert.equal((await client.answer()).status, 200, line);
    const arrived = backend.connections.flatMap(({ text }) => messages(text)).at(-1);
    assert.deepEqual([arrived?.lines[1], arrived?.body], [written, body]);
  }
});

both('a GET with Trailer does not hurt (http-proxy dies of it), and hop-by-hop fields do not pass', async (t, engine) => {
  const backend = await answering('ok', 'X-Kept: 1\r\nConnection: X-Hop\r\nX-Hop: 1\r\nProxy-Connection: x\r\nUpgrade: h2c\r\nTrailer: X\r\n').listen(t);
  const front = await startFront(t, configOf({ engine, backends: [backend.url] }));
  const hops =
    'Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 300\r\nTrailer: X-Sum\r\nTE: gzip\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\nProxy-Connection: x\r\n';
  const { status, head } = await front.ask(get('/', hops));
  assert.equal(status, 200);
  assert.match(head, /^X-Kept: 1$/m);
  assert.doesNotMatch(head, /X-Hop|Proxy-Connection|Upgrade|Trailer/i);
  assert.deepEqual(messages(backend.text)[0]?.lines, [
    'Host: a.test',
    'X-Forwarded-For: 192.0.2.7',
    'X-Forwarded-Proto: https',
    'X-Forwarded-Host: a.test',
    'X-Forwarded-Port: 443',
    ...(engine === 'native' ? [] : ['Connection: keep-alive']),
  ]);
});

both('a DELETE with a chunked body that looks like a request is one request (http-proxy #1721)', async (t, engine) => {
  const backend = await answering().listen(t);
  const front = await startFront(t, configOf({ engine, backends: [backend.url] }));
  const inner = get('/smuggled');
  const { status } = await front.ask(
    `DELETE /x HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n${inner.length.toString(16)}\r\n${inner}\r\n0\r\n\r\n`,
  );
  assert.equal(status, 200);
  assert.deepEqual(
    backend.connections.flatMap(({ text }) => messages(text)).map(({ startLine, body }) => [startLine, body]),
    [['DELETE /x HTTP/1.1', inner]],
  );
});

both('what an application could take for the framing, and nobody else, does not pass', async (t, engine) => {
  const backend = await answering().listen(t);
  const front = await startFront(t, configOf({ engine, backends: [backend.url] }));
  const disguised = ['Transfer_Encoding: chunked', 'transfer.encoding: chunked', 'Content_Length: 0', 'CONTENT~LENGTH: 0'];
  await front.ask(`POST / HTTP/1.1\r\nHost: a.test\r\n${disguised.join('\r\n')}\r\nContent_Type: a/b\r\nContent-Length: 5\r\n\r\nhello`);
  const [arrived] = messages(backend.text);
  assert.deepEqual(
    arrived?.lines.filter((line) => /^(?:content|transfer)/i.test(line)),
    ['Content_Type: a/b', 'Content-Length: 5'],
  );
});

both('Connection cannot take the framing away', async (t, engine) => {
  const backend = await answering().listen(t);
  const front = await startFront(t, configOf({ engine, backends: [backend.url] }));
  for (const framing of ['Content-Length: 5\r\n\r\nhello', 'Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n']) {
    await front.ask(`POST / HTTP/1.1\r\nHost: a.test\r\nConnection: close, content-length, transfer-encoding, host, x-forwarded-for\r\n${framing}`);
  }
  const arrived = backend.connections.flatMap(({ text }) => messages(text));
  assert.deepEqual(
    arrived.map(({ body }) => body),
    ['hello', 'hello'],
  );
  for (const { head } of arrived) assert.match(head, /^Host: a.test\r\n[^]*X-Forwarded-For: 192.0.2.7/m);
});

both('the target arrives byte for byte', async (t, engine) => {
  const backend = await answering().listen(t);
  const front = await startFront(t, configOf({ engine, backends: [backend.url] }));
  const targets = ['//a//b', '/a/../b/./c', '/%2f%5C%2e', '/a\\b', '/?a=//b&c=http://x//y', '/a?b?c', '/a\'b|c^d`e{f}"g<h>', '/http:/x', '/https:/x'];
  const client = await front.connect();
  for (const target of targets) {
    client.send(get(target));
    assert.equal((await client.answer()).status, 200, target);
  }
  assert.deepEqual(
    messages(backend.text).map(({ startLine }) => startLine),
    targets.map((target) => `GET ${target} HTTP/1.1`),
  );
});

both('fields arrive with their case and order, in both directions', async (t, engine) => {
  const backend = await answering('ok', 'X-zEta: 1\r\nSet-Cookie: a=1\r\nx-Alpha: \xe9\r\nSet-Cookie: b=2\r\n').listen(t);
  const front = await startFront(t, configOf({ engine, backends: [backend.url] }));
  const { head } = await front.ask('GET / HTTP/1.1\r\nX-zEta: 1\r\nHOST: a.test\r\nx-Alpha: \xe9\r\nX-Rep: 1\r\nX-Rep: 2\r\n\r\n');
  assert.deepEqual(messages(backend.text)[0]?.lines.slice(0, 5), ['X-zEta: 1', 'HOST: a.test', 'x-Alpha: \xe9', 'X-Rep: 1', 'X-Rep: 2']);
  assert.match(head, /\r\nX-zEta: 1\r\nSet-Cookie: a=1\r\nx-Alpha: \xe9\r\nSet-Cookie: b=2\r\n/);
  const posted = await front.ask('POST / HTTP/1.1\r\nHost: a.test\r\nX: \xe9\r\nContent-Length: 1\r\n\r\nx');
  assert.match(posted.head, /^x-Alpha: \xe9\r$/m);
  assert.match(backend.text, /^X: \xe9\r$/m);
});

both('answers keep their framing: HEAD, 204, 304, chunked, until close', async (t, engine) => {
  const answers: Record<string, string> = {
    '/head': 'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n',
    '/204': 'HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n',
    '/304': 'HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\nETag: "x"\r\n\r\n',
    '/chunked':
      'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n0\r\nSet-Cookie: a\r\nX-Sum: 1\r\nX-Forwarded-For: a\r\nContent-Type: a\r\nX-Two: 2\r\n\r\n',
    '/close': 'HTTP/1.0 200 \r\n\r\nuntil close',
    '/odd': 'HTTP/1.1 299 Whatever You Like\r\nContent-Length: 1\r\n\r\n!',
  };
  const backend = await answeringBy(answers).listen(t);
  const front = await startFront(t, configOf({ engine, backends: [backend.url] }));
  const client = await front.connect();
  client.send('HEAD /head HTTP/1.1\r\nHost: a.test\r\n\r\n');
  assert.match((await client.answer(true)).head, /^Content-Length: 1000$/m);
  client.send(get('/204'));
  assert.doesNotMatch((await client.answer()).head, /^(Content-Length|Transfer-Encoding)/m);
  client.send(get('/304'));
  assert.match((await client.answer()).head, /^Content-Length: 1000$/m);
  client.send(get('/chunked'));
  await client.until(() => client.text.endsWith('0\r\n\r\n'));
  assert.equal((await client.answer()).body, 'abc');
  client.send(get('/chunked', 'TE: trailers\r\nConnection: TE\r\n'));
  await client.until(() => client.text.endsWith('0\r\nX-Sum: 1\r\nX-Two: 2\r\n\r\n'));
  assert.equal((await client.answer()).body, 'abc');
  assert.match(backend.text, /^Connection: keep-alive, TE\r\nTE: trailers\r$/m);
  client.send(get('/close'));
  const close = await client.answer();
  assert.match(close.head, /^Transfer-Encoding: chunked$/m);
  assert.equal(close.body, 'until close');
  client.send(get('/odd'));
  assert.match((await client.answer()).head, /^HTTP\/1.1 299 Whatever You Like/);
});

both('the largest head that an answer may have arrives whole', async (t, engine) => {
  const [line, end] = ['HTTP/1.1 200 OK\r\n', 'Content-Length: 2\r\n\r\n'];
  const fields = Array.from({ length: 99 }, (_, n) => `X-${n}: ${'x'.repeat(n === 0 ? 30_000 : 10)}\r\n`).join('');
  const backend = await new RawBackend(({ socket }) => socket.write(`${line}${fields}${end}ok`)).listen(t);
  const front = await startFront(t, configOf({ engine, backends: [backend.url] }));
  const { head, body } = await front.ask(get());
  assert.ok(head.startsWith(line + fields));
  assert.equal(body, 'ok');
});

both('HTTP/1.0 gets an answer of unknown length up to the end of its connection, even where it wanted to keep it', async (t, engine) => {
  const unknown = {
    '/chunked': 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n',
    '/close': 'HTTP/1.1 200 OK\r\n\r\nabc',
  };
  const backend = await new RawBackend(({ socket, text }) => {
    if (text.includes('/chunked ')) socket.write(unknown['/chunked']);
    else socket.end(unknown['/close']);
  }).listen(t);
  const front = await startFront(t, configOf({ engine, backends: [backend.url] }));
  for (const path of Object.keys(unknown)) {
    const text = await front.all(`GET ${path} HTTP/1.0\r\nHost: a.test\r\nTE: trailers, chunked\r\nConnection: keep-alive, TE\r\n\r\n`);
    assert.match(text, /^HTTP\/1\.1 200 OK\r\n(?:.+\r\n)*Connection: close\r\n\r\nabc$/);
    assert.doesNotMatch(text, /transfer-encoding/i);
  }
});

both('the head of a slow answer is not held back', async (t, engine) => {
  const backend = await new RawBackend(({ socket }) => socket.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n')).listen(t);
  const front = await startFront(t, configOf({ engine, backends: [backend.url] }));
  const client = await front.connect();
  client.send(get());
  await client.until(() => client.text.includes('\r\n\r\n'));
  backend.connections[0]?.socket.write('1\r\nx\r\n');
  await client.until(() => client.text.endsWith('1\r\nx\r\n'));
});

both('a unix socket is a backend like any other', async (t, engine) => {
  const folder = await mkdtemp(join(tmpdir(), 'backend-'));
  t.after(() => rm(folder, { recursive: true }));
  const path = join(folder, 'app.sock');
  const server = http.createServer((req, res) => res.end(`hello ${req.headers.host}`)).listen(path);
  t.after(() => server.close());
  await once(server, 'listening');
  const front = await startFront(t, configOf({ engine, backends: [`unix:${path}`] }));
  assert.equal((await front.ask(get())).body, 'hello a.test');
});

both('connections are kept, and a retry saves an idempotent request from a dead one', async (t, engine) => {
  let served = 0;
  const backend = await new RawBackend(({ socket, text }) => {
    served += 1;
    // The second request on a connection meets a backend that has just given up on it.
    if (messages(text).length === 1) socket.write(OK);
    else socket.resetAndDestroy();
  }).listen(t);
  const front = await startFront(t, configOf({ engine, backends: [backend.url] }));
  const client = await front.connect();
  client.send(get('/1'));
  await client.answer();
  client.send(get('/2'));
  assert.equal((await client.answer()).status, 200);
  assert.deepEqual([backend.connections.length, served], [2, 3]);
  client.send('POST /3 HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1\r\n\r\nx');
  assert.equal((await client.answer()).status, 502, 'a POST may have been done');
  assert.equal(served, 4);
  await front.logged('backend_stale');
});

both('after a restart of the backend the retry does not meet the next dead connection', async (t, engine) => {
  let restarted = false;
  const waiting: (() => void)[] = [];
  const backend = await new RawBackend(({ socket, text }) => {
    if (restarted && messages(text).length > 1) socket.resetAndDestroy();
    else if (restarted) socket.write(OK);
    else waiting.push(() => socket.write(OK));
  }).listen(t);
  const front = await startFront(t, configOf({ engine, backends: [backend.url] }));
  const clients = [await front.connect(), await front.connect(), await front.connect()];
  for (const client of clients) client.send(get());
  await backend.until(() => waiting.length === 3);
  for (const answer of waiting) answer();
  for (const client of clients) await client.answer();
  restarted = true;
  clients[0]?.send(get());
  assert.equal((await clients[0]?.answer())?.status, 200);
});

both('what a backend says without being asked is not the answer to the next request', async (t, engine) => {
  const backend = await new RawBackend(({ socket, text }) => {
    const count = messages(text).length;
    if (count === 1) socket.write(`${OK}HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison`);
    else socket.write(OK);
  }).listen(t);
  const front = await startFront(t, configOf({ engine, backends: [backend.url] }));
  const client = await front.connect();
  for (let n = 0; n < 5; n += 1) {
    client.send(get(`/${n}`));
    assert.equal((await client.answer()).body, 'ok');
  }
});

both('a byte on an idle backend connection ends it', async (t, engine) => {
  // The clock would, too.
  t.mock.method(performance, 'now', () => 0);
  const backend = await answering().listen(t);
  const front = await startFront(t, configOf({ engine, backends: [backend.url] }));
  const client = await front.connect();
  client.send(get('/1'));
  await client.answer();
  const [first] = backend.connections;
  first?.socket.write('HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison');
  await backend.until(() => first?.ended === true || first?.socket.destroyed === true);
  client.send(get('/2'));
  assert.equal((await client.answer()).body, 'ok');
  assert.equal(backend.connections.length, 2);
});

both('a request that cannot be delivered goes to the next backend with its whole body, and the dead one is left alone', async (t, engine) => {
  const dead = await closedPort();
  const backend = await answering().listen(t);
  const front = await startFront(t, configOf({ engine, backends: [dead, backend.url] }));
  const client = await front.connect();
  for (let n = 0; n < 4; n += 1) {
    client.send('POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello');
    assert.equal((await client.answer()).status, 200);
  }
  assert.deepEqual(
    messages(backend.text).map(({ body }) => body),
    ['hello', 'hello', 'hello', 'hello'],
  );
  const failures = front.log.filter(({ facts }) => facts['code'] === 'backend_unreachable');
  assert.deepEqual(
    failures.map(({ facts }) => [facts['backend'], facts['cause']]),
    [[dead, 'ECONNREFUSED']],
  );
});

both('an ordinary application gets and gives everything', async (t, engine) => {
  const { url } = await httpBackend(t, (req, res) => {
    res.writeHead(201, { 'X-Method': req.method ?? '', Date: 'Thu, 01 Jan 1970 00:00:00 GMT' });
    req.pipe(res);
  });
  const front = await startFront(t, configOf({ engine, backends: [url] }));
  const res = await fetch(`http://127.0.0.1:${front.port}/x`, { method: 'POST', body: 'some body' }).catch((error: unknown) => error);
  assert(res instanceof Response);
  assert.deepEqual(
    [res.status, res.headers.get('x-method'), res.headers.get('date'), await res.text()],
    [201, 'POST', 'Thu, 01 Jan 1970 00:00:00 GMT', 'some body'],
  );
});
