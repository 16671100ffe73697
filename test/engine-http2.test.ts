import assert from 'node:assert/strict';
import { once } from 'node:events';
import { RawBackend, answering, answeringBy, closedPort, httpBackend, messages } from './support/backend.ts';
import { configOf } from './support/config.ts';
import { both } from './support/front.ts';
import { answerOf, errorCodes, Http2Client, startHttp2Front } from './support/http2.ts';

/** What HTTP/2 clients get, and what their requests become; frames that no polite client sends are in engine-http2-frames. */

const { noError, internalError } = errorCodes;

both('every method with every framing arrives as exactly one HTTP/1.1 request with its body', async (t, engine) => {
  const backend = await answering('').listen(t);
  const front = await startHttp2Front(t, configOf({ engine, backends: [backend.url] }));
  const client = await Http2Client.connect(t, front.port);
  const bodies = [
    [[], undefined, [], ''],
    [['content-length', '0'], undefined, ['content-length: 0'], ''],
    [['content-length', '0'], '', ['content-length: 0'], ''],
    [['content-length', '5'], 'hello', ['content-length: 5'], 'hello'],
    [[], 'hello', ['Transfer-Encoding: chunked'], 'hello'],
    [[], '', ['Transfer-Encoding: chunked'], ''],
  ] as const;
  const expected: [startLine: string, framing: readonly string[], body: string][] = [];
  for (const method of ['GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'OPTIONS', 'PATCH', 'PROPFIND', 'MKCOL', 'QUERY', 'FROB', 'get']) {
    for (const [fields, body, framing, arrives] of bodies) {
      const { status, rstCode } = await client.ask([':method', method, ':path', `/${method}`, ...fields], body);
      assert.deepEqual([status, rstCode], [200, noError], `${method} ${JSON.stringify(fields)} ${body}`);
      expected.push([`${method} /${method} HTTP/1.1`, framing, arrives]);
    }
  }
  const arrived = backend.connections.flatMap(({ text }) => messages(text));
  assert.deepEqual(
    arrived.map(({ startLine, lines, body }) => [startLine, lines.filter((line) => /^(content-length|transfer-encoding)/i.test(line)), body]),
    expected,
  );
});

both('fields keep order and repetition, cookie crumbs become one, :authority becomes Host', async (t, engine) => {
  const backend = await answering(
    'ok',
    'X-zEta: 1\r\nSet-Cookie: a=1\r\nx-Alpha: \xe9\r\nSet-Cookie: b=2\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: x\r\n',
  ).listen(t);
  const front = await startHttp2Front(t, configOf({ engine, backends: [backend.url] }));
  const client = await Http2Client.connect(t, front.port);
  const fields = ['x-zeta', '1', 'cookie', 'a=1', 'x-rep', '1', 'x-alpha', '\xe9', 'cookie', 'b=2', 'x-rep', '2', 'cookie', 'c=3', 'forwarded', 'for=1.2.3.4'];
  const { headers, body } = await client.get('/', ...fields);
  assert.deepEqual(messages(backend.text)[0]?.lines.slice(0, 10), [
    'Host: a.test',
    'x-zeta: 1',
    'cookie: a=1; b=2; c=3',
    // node:http puts the values of a repeated field side by side.
    ...(engine === 'native' ? ['x-rep: 1', 'x-alpha: \xe9', 'x-rep: 2'] : ['x-rep: 1', 'x-rep: 2', 'x-alpha: \xe9']),
    'X-Forwarded-For: 192.0.2.7',
    'X-Forwarded-Proto: https',
    'X-Forwarded-Host: a.test',
    'X-Forwarded-Port: 443',
  ]);
  assert.deepEqual([headers['x-zeta'], headers['x-alpha'], headers['set-cookie'], body], ['1', '\xe9', ['a=1', 'b=2'], 'ok']);
  assert.deepEqual([headers['connection'], headers['x-hop'], headers['keep-alive']], [undefined, undefined, undefined]);
  assert.match(String(headers['date']), /GMT$/);
});

both('answers keep their framing: HEAD, 204, 205, 304, chunked with trailers, until close', async (t, engine) => {
  const answers: Record<string, string> = {
    '/head': 'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n',
    '/204': 'HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n',
    '/205': 'HTTP/1.1 205 Reset Content\r\nContent-Length: 3\r\n\r\nabc',
    '/304': 'HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\nETag: "x"\r\n\r\n',
    '/chunked': 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n0\r\nX-Sum: 1\r\nX-Sum: 2\r\nX-Two: 2\r\nSet-Cookie: x\r\n\r\n',
    '/close': 'HTTP/1.0 200 \r\n\r\nuntil close',
    '/odd': 'HTTP/1.1 299 Whatever You Like\r\nContent-Length: 1\r\nContent-Type: a\r\nContent-Type: b\r\n\r\n!',
  };
  const backend = await answeringBy(answers).listen(t);
  const front = await startHttp2Front(t, configOf({ engine, backends: [backend.url] }));
  const client = await Http2Client.connect(t, front.port);
  const head = await client.ask([':method', 'HEAD', ':path', '/head']);
  assert.deepEqual([head.status, head.headers['content-length'], head.rstCode], [200, '1000', noError]);
  const empty = [await client.get('/204'), await client.get('/205'), await client.get('/304')];
  assert.deepEqual(
    empty.map(({ status, headers, body, rstCode }) => [status, headers['content-length'], body, rstCode]),
    [
      [204, undefined, '', noError],
      [205, undefined, '', noError],
      [304, '1000', '', noError],
    ],
  );
  const chunked = await client.get('/chunked');
  assert.deepEqual([chunked.body, chunked.trailers], ['abc', { 'x-sum': '1, 2', 'x-two': '2' }]);
  assert.deepEqual([(await client.get('/close')).body, (await client.get('/odd')).status], ['until close', 299]);
});

both('the head of an answer may be larger than a frame', async (t, engine) => {
  const [large, other] = ['x'.repeat(engine === 'native' ? 20_000 : 9_000), 'y'.repeat(engine === 'native' ? 12_000 : 7_000)];
  const backend = await answering('ok', `X-Large: ${large}\r\nX-Other: ${other}\r\n`).listen(t);
  const front = await startHttp2Front(t, configOf({ engine, backends: [backend.url] }));
  const client = await Http2Client.connect(t, front.port);
  for (let n = 0; n < 3; n += 1) {
    const { headers, body } = await client.get();
    assert.deepEqual([headers['x-large'] === large, headers['x-other'] === other, body], [true, true, 'ok']);
  }
});

both('streams of a connection are answered side by side, and 2 MB each way arrive whole', async (t, engine) => {
  const { url } = await httpBackend(t, (req, res) => void req.pipe(res));
  const front = await startHttp2Front(t, configOf({ engine, backends: [url] }));
  const client = await Http2Client.connect(t, front.port, { maxSessionMemory: 64 });
  const slow = client.open([':method', 'POST', ':path', '/'], { endStream: false });
  slow.write('a');
  const body = 'x'.repeat(2_000_000);
  const answers = await Promise.all(Array.from({ length: 8 }, () => client.ask([':method', 'POST', ':path', '/', 'content-length', '2000000'], body)));
  assert.deepEqual(new Set(answers.map((answer) => answer.body === body)), new Set([true]));
  slow.end('b');
  assert.equal((await answerOf(slow)).body, 'ab');
  assert.equal(front.front.open, 1);
});

both('the head and each piece of a slow answer are not held back', async (t, engine) => {
  const backend = await new RawBackend(({ socket }) => socket.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n')).listen(t);
  const front = await startHttp2Front(t, configOf({ engine, backends: [backend.url] }));
  const stream = (await Http2Client.connect(t, front.port)).open([':method', 'GET', ':path', '/']);
  await once(stream, 'response');
  backend.connections[0]?.socket.write('1\r\nx\r\n');
  const [piece] = (await once(stream, 'data')) as [Buffer];
  assert.equal(piece.toString(), 'x');
});

both('100 (Continue) and 103 (Early Hints) are relayed, other interim answers are not', async (t, engine) => {
  const backend = await new RawBackend(({ socket, text }) => {
    if (text.endsWith('\r\n\r\n'))
      socket.write('HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\nLink: </b>\r\nConnection: x\r\n\r\n');
    else socket.write('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n');
  }).listen(t);
  const front = await startHttp2Front(t, configOf({ engine, backends: [backend.url] }));
  const client = await Http2Client.connect(t, front.port);
  const stream = client.open([':method', 'POST', ':path', '/', 'content-length', '2', 'expect', '100-continue'], { endStream: false });
  stream.on('continue', () => stream.end('hi'));
  const { status, informed } = await answerOf(stream);
  assert.equal(status, 200);
  assert.deepEqual(
    informed.map((headers) => [headers[':status'], headers['link']]),
    [
      [100, undefined],
      [103, '</a>, </b>'],
    ],
  );
  assert.match(backend.text, /^Expect: 100-continue\r$/im);
});

both('an answer before the end of the request is whole, and the rest is not wanted', async (t, engine) => {
  const body = 'no'.repeat(200_000);
  const backend = await new RawBackend(({ socket, text }) => {
    if (/\r\n\r\n.*a/s.test(text) && socket.writable)
      socket.end(`HTTP/1.1 413 Too Large\r\nContent-Length: ${body.length}\r\nConnection: close\r\n\r\n${body}`);
  }).listen(t);
  const front = await startHttp2Front(t, configOf({ engine, backends: [backend.url] }));
  const client = await Http2Client.connect(t, front.port);
  for (const fields of [[], ['content-length', '1000000']]) {
    const stream = client.open([':method', 'POST', ':path', '/', ...fields], { endStream: false });
    stream.write('a');
    const answer = await answerOf(stream);
    assert.deepEqual([answer.status, answer.body === body, answer.rstCode], [413, true, noError]);
  }
  assert.equal(client.session.destroyed, false);
});

both('refusals are pages, and the connection is as good as before', async (t, engine) => {
  const backend = await answering().listen(t);
  const config = configOf({ engine, backends: [backend.url], routes: [{ path: '/dead/', backends: [await closedPort()] }] });
  const [host] = config.virtualHosts;
  const front = await startHttp2Front(t, { ...config, virtualHosts: [host!, { ...host!, serverName: 'b.test', default: false }] });
  const client = await Http2Client.connect(t, front.port);
  const fields = Array.from({ length: 101 }, (_, n) => [`x-${n}`, '1']).flat();
  const refused: [status: number, fields: string[]][] = [
    [400, [':method', 'GET', ':path', '/#a']],
    [400, [':method', 'GET', ':path', '/', ':authority', 'a.test', 'host', 'b.test']],
    [400, [':method', 'GET', ':path', '/', ':authority', 'a.test,b.test']],
    [400, [':method', 'GET', ':path', '/a/../b']],
    [405, [':method', 'TRACE', ':path', '/']],
    [414, [':method', 'GET', ':path', `/${'x'.repeat(8200)}`]],
    [417, [':method', 'GET', ':path', '/', 'expect', 'much']],
    [421, [':method', 'GET', ':path', '/', ':authority', 'b.test:443']],
    [431, [':method', 'GET', ':path', '/', ...fields]],
    [431, [':method', 'GET', ':path', '/', 'x-large', 'x'.repeat(33_000)]],
    [502, [':method', 'GET', ':path', '/dead/']],
  ];
  for (const [status, head] of refused) {
    const answer = await client.ask(head);
    assert.equal(answer.status, status, JSON.stringify(head).slice(0, 200));
    assert.match(answer.body, new RegExp(`<h1>${status} `));
  }
  const connect = client.session.request({ ':method': 'CONNECT', ':authority': 'a.test:443' });
  assert.equal((await answerOf(connect)).status, 405);
  assert.equal((await client.get()).status, 200);
  assert.equal(backend.connections.length, 1);
});

both('a connection that breaks takes all its requests with it', async (t, engine) => {
  const backend = await new RawBackend(() => {}).listen(t);
  const front = await startHttp2Front(t, configOf({ engine, backends: [backend.url] }));
  const client = await Http2Client.connect(t, front.port);
  for (const method of ['GET', 'HEAD', 'DELETE']) client.open([':method', method, ':path', '/']);
  client.open([':method', 'POST', ':path', '/'], { endStream: false }).write('a');
  await backend.until((connections) => connections.length === 4 && connections.every(({ text }) => text.includes('\r\n\r\n')));
  client.session.destroy();
  await backend.until((connections) => connections.every(({ ended, socket }) => ended || socket.destroyed));
  assert.equal((await Http2Client.connect(t, front.port)).session.destroyed, false);
});

both('an answer that breaks off is reset, and cannot be taken for the whole', async (t, engine) => {
  const breaking: Record<string, string> = {
    '/length': 'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc',
    '/chunked': 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n',
    '/malformed': 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nxyz',
  };
  const backend = await new RawBackend(({ socket, text }) => socket.end(breaking[text.split(' ')[1] ?? ''] ?? '')).listen(t);
  const front = await startHttp2Front(t, configOf({ engine, backends: [backend.url] }));
  const client = await Http2Client.connect(t, front.port);
  for (const path of Object.keys(breaking)) {
    const { status, body, rstCode } = await client.get(path);
    assert.deepEqual([status, 'abc'.startsWith(body), rstCode], [200, true, internalError], path);
  }
  assert.equal(client.session.destroyed, false);
});
