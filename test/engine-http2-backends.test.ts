import assert from 'node:assert/strict';
import { once } from 'node:events';
import * as http2 from 'node:http2';
import type { AddressInfo } from 'node:net';
import * as tls from 'node:tls';
import test from 'node:test';
import { Authority } from '../src/demo/authority.ts';
import { HttpFront } from '../src/engine/http-front.ts';
import { closedPort, RawBackend, unaccepting } from './support/backend.ts';
import { configOf, type Keys } from './support/config.ts';
import { startFront } from './support/front.ts';
import { answerOf, errorCodes, flags, frame, FrameClient, frameTypes, getHead, headerBlock, Http2Client, startHttp2Front } from './support/http2.ts';
import { FrameBackend, http2Backend, type Script, startHttp2Backend } from './support/http2-backend.ts';
import { seeded } from './support/random.ts';

/** Routes with `http_version: 2`. */

const ok: Script = (stream) => {
  stream.respond({ ':status': 200 });
  stream.end('ok');
};

function config(backends: string[], keys: Keys = {}, top: Keys = {}): ReturnType<typeof configOf> {
  return configOf({ routes: [{ path: '/', backends, http_version: 2, ...keys }] }, top);
}

const get = 'GET / HTTP/1.1\r\nHost: a.test\r\n';
const limit = { timeout: 10_000 };

test('a request of HTTP/1.1 becomes one of HTTP/2, and the answer one of HTTP/1.1', limit, async (t) => {
  let seen: string[] = [];
  const backend = await http2Backend(t, (stream, _headers, raw) => {
    seen = raw;
    stream.additionalHeaders({ ':status': 103, link: '</a>' });
    stream.respond([':status', '201', 'x-one', '1', 'set-cookie', 'a', 'set-cookie', 'b'], { waitForTrailers: true });
    stream.once('wantTrailers', () => stream.sendTrailers({ 'x-last': 'z' }));
    stream.pipe(stream);
  });
  const front = await startFront(t, config([backend.url]));
  const client = await front.connect();
  const fields = 'X-A: 1\r\nx-a: 2\r\nTE: trailers\r\nConnection: TE, X-Gone\r\nX-Gone: 1\r\nTransfer-Encoding: chunked\r\n';
  client.send(`POST /p%20q?x HTTP/1.1\r\nHost: a.test:444\r\n${fields}\r\n5\r\nhello\r\n0\r\n\r\n`);
  assert.equal((await client.answer()).status, 103);
  const { status, head, body } = await client.answer();
  assert.deepEqual([status, body], [201, 'hello']);
  assert.match(head, /^HTTP\/1.1 201 Created\r\nx-one: 1\r\nset-cookie: a\r\nset-cookie: b\r\n/);
  const pseudo = [':method', 'POST', ':scheme', 'http', ':authority', 'a.test:444', ':path', '/p%20q?x'];
  assert.deepEqual(seen.slice(0, 14), [...pseudo, 'x-a', '1', 'x-a', '2', 'te', 'trailers']);
  assert.ok(!seen.some((word) => ['connection', 'host', 'transfer-encoding', 'x-gone'].includes(word)));
  client.send(`${get}\r\n`);
  assert.equal((await client.answer()).status, 103, 'the connection goes on');
});

test('an answer that comes at once goes on at once', limit, async (t) => {
  const accept = t.mock.method(HttpFront.prototype, 'accept');
  const backend = await http2Backend(t, ok);
  const front = await startFront(t, config([backend.url]));
  const client = await front.connect();
  client.send(`${get}\r\n`);
  assert.equal((await client.answer()).body, 'ok');
  const write = t.mock.method(accept.mock.calls[0]!.arguments[0], 'write');
  client.send(`${get}\r\n`);
  assert.equal((await client.answer()).body, 'ok');
  assert.equal(write.mock.callCount(), 1, 'head and body are one write');
});

test('trailers pass in both directions', limit, async (t) => {
  const backend = await http2Backend(t, (stream, { 'content-length': length }) => {
    stream.once('trailers', (sent) => {
      stream.respond({ ':status': 200, ...(length && { 'content-length': length }) }, { waitForTrailers: true });
      stream.once('wantTrailers', () => stream.sendTrailers({ 'x-got': sent['x-sent'] }));
      stream.end('hello');
    });
    stream.resume();
  });
  const front = await startHttp2Front(t, config([backend.url]));
  const client = await Http2Client.connect(t, front.port);
  for (const length of [[], ['content-length', '5']]) {
    const stream = client.open([':method', 'POST', ':path', '/', ...length], { waitForTrailers: true });
    stream.once('wantTrailers', () => stream.sendTrailers({ 'x-sent': 'me', host: 'evil.test' }));
    stream.end('hello');
    const { body, trailers, headers } = await answerOf(stream);
    assert.deepEqual([headers['content-length'], body, trailers['x-got']], [length[1], 'hello', 'me'], 'also behind a length');
  }
});

test('trailers pass behind an empty body, too', limit, async (t) => {
  for (const length of [{}, { 'content-length': '0' }]) {
    const backend = await http2Backend(t, (stream) => {
      stream.respond({ ':status': 200, ...length }, { waitForTrailers: true });
      stream.once('wantTrailers', () => stream.sendTrailers({ 'x-last': 'z' }));
      stream.end();
    });
    const front = await startHttp2Front(t, config([backend.url]));
    const client = await Http2Client.connect(t, front.port);
    const { status, trailers, headers } = await client.get();
    assert.deepEqual([status, headers['content-length'], trailers['x-last']], [200, length['content-length'], 'z']);
  }
});

test('requests share a session as far as the backend allows', limit, async (t) => {
  const backend = await http2Backend(t, () => {}, { settings: { maxConcurrentStreams: 2 } });
  const front = await startHttp2Front(t, config([backend.url]));
  const client = await Http2Client.connect(t, front.port);
  const arrival = (path: string): Promise<unknown> => until(() => backend.streams.has(path));
  const answers = ['/1', '/2', '/3', '/4', '/5'].map((path) => [path, client.get(path)] as const);
  // They come before it has said what it allows: some have to move.
  for (const [path] of answers) await arrival(path);
  assert.equal(backend.sessions.length, 3);
  for (const [path, answer] of answers) {
    await arrival(path);
    const stream = backend.streams.get(path)!;
    stream.respond({ ':status': 200 });
    stream.end(path);
    assert.equal((await answer).body, path);
  }
  const paths = ['/6', '/7', '/8', '/9', '/10', '/11', '/12'];
  const later = paths.map((path) => client.get(path));
  for (const path of paths) await arrival(path);
  assert.equal(backend.sessions.length, 4, 'the seventh has no room');
  for (const path of paths) backend.streams.get(path)!.respond({ ':status': 204 }, { endStream: true });
  for (const answer of later) assert.equal((await answer).status, 204);
});

/** Looks again in each turn. */
async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise(setImmediate);
}

for (const [name, code, passed] of [
  ['NO_ERROR', errorCodes.noError, errorCodes.internalError],
  ['CANCEL', errorCodes.cancel, errorCodes.cancel],
  ['INTERNAL_ERROR', errorCodes.internalError, errorCodes.internalError],
  ['ENHANCE_YOUR_CALM', errorCodes.enhanceYourCalm, errorCodes.enhanceYourCalm],
  // With these, clients would ask again, though a part of the answer has come.
  ['REFUSED_STREAM', errorCodes.refusedStream, errorCodes.internalError],
  ['PROTOCOL_ERROR', errorCodes.protocolError, errorCodes.internalError],
  ['error 4711', 4711, errorCodes.internalError],
] as const) {
  test(`an answer that the backend breaks off with ${name} is not taken for a whole one`, limit, async (t) => {
    const backend = await http2Backend(t, (stream) => {
      stream.respond({ ':status': 200 });
      // Node would end it before it resets it.
      stream.end = () => stream;
      stream.write('part', () => stream.close(code));
    });
    const front = await startHttp2Front(t, config([backend.url]));
    const client = await Http2Client.connect(t, front.port);
    const answer = await client.get();
    assert.equal(answer.rstCode, passed);
    const { facts } = await front.logged('backend_closed');
    assert.equal(facts['reset'], name);
    const old = await startFront(t, config([backend.url]));
    assert.doesNotMatch(await old.all(`${get}\r\n`), /0\r\n\r\n$/);
  });
}

test('a client that leaves resets its stream at the backend, and no other', limit, async (t) => {
  let isWhole = false;
  const backend = await http2Backend(t, (stream, headers) => {
    stream.resume().on('end', () => (isWhole ||= headers[':path'] === '/leaves' && !stream.aborted));
    stream.respond({ ':status': 200 });
    stream.write('begun');
    if (headers[':path'] === '/stays') stream.end();
  });
  const front = await startHttp2Front(t, config([backend.url]));
  const client = await FrameClient.connect(t, front.port);
  client.headers(
    1,
    getHead.map(([name, value]) => [name, name === ':path' ? '/leaves' : name === ':method' ? 'POST' : value]),
    false,
  );
  await client.frame(({ type }) => type === frameTypes.data);
  client.reset(1);
  await until(() => backend.streams.has('/leaves'));
  const reset = backend.streams.get('/leaves')!;
  if (!reset.closed) await once(reset, 'close');
  assert.equal(reset.rstCode, errorCodes.cancel);
  assert.ok(!isWhole, 'what has come of the request is not all of it');
  const stays = await Http2Client.connect(t, front.port);
  assert.equal((await stays.get('/stays')).body, 'begun');
  assert.equal(backend.sessions.length, 1);
});

test('an answer before the end of the request ends it there', limit, async (t) => {
  const backend = await http2Backend(t, (stream) => {
    stream.resume().respond({ ':status': 413 });
    stream.end('no');
  });
  const front = await startFront(t, config([backend.url]));
  const client = await front.connect();
  client.send('POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 10\r\n\r\n01234');
  const { status, body } = await client.answer();
  assert.deepEqual([status, body], [413, 'no']);
  const stream = backend.streams.get('/')!;
  if (!stream.closed) await once(stream, 'close');
  assert.equal(stream.rstCode, errorCodes.cancel);
});

test('a reset with NO_ERROR behind a whole answer takes nothing away from it (RFC 9113, 8.1)', limit, async (t) => {
  const backend = await FrameBackend.listen(t, (connection, stream) => {
    connection.headers(stream, [[':status', '413']], false);
    connection.data(stream, 'too large');
    connection.reset(stream, errorCodes.noError);
  });
  const old = await startFront(t, config([backend.url]));
  const client = await old.connect();
  client.send('POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n');
  const { status, body } = await client.answer();
  assert.deepEqual([status, body], [413, 'too large']);
  const front = await startHttp2Front(t, config([backend.url]));
  const stream = (await Http2Client.connect(t, front.port)).open([':method', 'POST', ':path', '/']);
  stream.write('hello');
  const [answer, text] = await Promise.all([once(stream, 'response'), once(stream, 'data')]);
  assert.deepEqual([(answer[0] as http2.IncomingHttpHeaders)[':status'], String(text[0])], [413, 'too large']);
  if (!stream.readableEnded) await once(stream.resume(), 'end');
  assert.deepEqual(
    [...old.log, ...front.log].filter(({ level }) => level === 'warn'),
    [],
  );
});

test('a session that goes away is not asked anything more; what is under way there ends well', limit, async (t) => {
  const backend = await http2Backend(t, (stream, headers, raw) => {
    if (headers[':path'] !== '/slow') return ok(stream, headers, raw);
    stream.respond({ ':status': 200 });
    stream.session?.close();
  });
  const front = await startHttp2Front(t, config([backend.url]));
  const client = await Http2Client.connect(t, front.port);
  const slow = client.open([':method', 'GET', ':path', '/slow']);
  await once(slow, 'response');
  assert.equal((await client.get('/next')).body, 'ok');
  assert.equal(backend.sessions.length, 2);
  backend.streams.get('/slow')!.end('done');
  const [last] = (await once(slow, 'data')) as [Buffer];
  assert.equal(last.toString(), 'done');
});

test('a backend that is not there, or speaks something else, is a 502 that says so', limit, async (t) => {
  const old = await new RawBackend(({ socket }) => socket.end('HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n')).listen(t);
  const mute = await new RawBackend(
    () => {},
    ({ socket }) => socket.destroy(),
  ).listen(t);
  for (const [url, setting] of [
    [await closedPort(), 'backends'],
    [old.url, 'http_version'],
    [mute.url, 'http_version'],
  ] as const) {
    const front = await startFront(t, config([url]));
    assert.equal((await front.ask('POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\n\r\nno')).status, 502);
    const { facts } = await front.logged('backend_unreachable');
    assert.deepEqual([facts['backend'], facts['setting']], [url, `virtual_hosts[].routes[].${setting}`]);
  }
  assert.doesNotMatch(old.text, /POST|no$/);
  const late = await startFront(t, config([await unaccepting(t)], {}, { timeouts: { connect: '50ms' } }));
  assert.equal((await late.ask(`${get}\r\n`)).status, 504);
  const backend = await http2Backend(t, ok);
  const front = await startFront(t, config([old.url, backend.url]));
  assert.equal((await front.ask(`${get}\r\n`)).body, 'ok', 'another backend is tried');
});

test('a backend that says nothing is a 504, and a session that has said nothing is left', limit, async (t) => {
  const backend = await http2Backend(t, () => {});
  const front = await startFront(t, config([backend.url], {}, { timeouts: { connect: '50ms', response_header: '150ms' } }));
  for (let n = 1; n <= 2; n += 1) {
    assert.equal((await front.ask(`${get}\r\n`)).status, 504);
    assert.equal(backend.sessions.length, n);
  }
});

test('an idle session is closed before the backend would', limit, async (t) => {
  const backend = await http2Backend(t, ok);
  const front = await startFront(t, config([backend.url]));
  assert.equal((await front.ask(`${get}\r\n`)).body, 'ok');
  const clock = performance.now.bind(performance);
  t.mock.method(performance, 'now', () => clock() + 5_000);
  await once(backend.sessions[0]!, 'close');
});

test('bodies of any size pass both ways, and a slow reader holds up the sender and nobody else', limit, async (t) => {
  const size = 20_000_000;
  const backend = await http2Backend(t, (stream, headers, raw) => {
    if (headers[':path'] === '/fine') return ok(stream, headers, raw);
    stream.respond({ ':status': 200 });
    stream.pipe(stream);
  });
  const front = await startHttp2Front(t, config([backend.url]));
  const client = await Http2Client.connect(t, front.port);
  const echo = client.open([':method', 'POST', ':path', '/echo']);
  let sent = 0;
  const fill = (): void => {
    while (sent < size) {
      sent += 100_000;
      if (!echo.write(Buffer.alloc(100_000, 'x'))) return void echo.once('drain', fill);
    }
    echo.end();
  };
  fill();
  await once(echo, 'response');
  echo.pause();
  for (let n = 0; n < 50; n += 1) assert.equal((await client.get('/fine')).body, 'ok');
  assert.ok(sent < size / 2, `${sent} bytes were taken for a client that reads none`);
  let got = 0;
  echo.on('data', (bytes: Buffer) => (got += bytes.length)).resume();
  await once(echo, 'end');
  assert.equal(got, size);
});

const root = await Authority.root('Backends');
const good = await root.issue({ names: ['127.0.0.1'] });

test('an https backend is spoken to where ALPN chooses h2, and only there', limit, async (t) => {
  const pair = { cert: good.chainPem, key: good.keyPem };
  const files = new Map([['/test/ca.pem', root.pem]]);
  let scheme: string | undefined;
  const backend = await startHttp2Backend(t, http2.createSecureServer(pair), (stream, headers, raw) => {
    scheme = headers[':scheme'];
    if (headers[':path'] === '/gone') stream.session?.socket.destroy();
    else ok(stream, headers, raw);
  });
  const url = backend.url.replace('http:', 'https:');
  const front = await startFront(t, config([url], { backend_tls: { ca: 'ca.pem' } }), {}, files);
  assert.equal((await front.ask(`${get}\r\n`)).body, 'ok');
  assert.equal(scheme, 'https');
  assert.equal((await front.ask('POST /gone HTTP/1.1\r\nHost: a.test\r\n\r\n')).status, 502);
  assert.equal((await front.ask(`${get}\r\n`)).body, 'ok', 'on another session');
  for (const [ALPNProtocols, code, cause] of [
    [undefined, 'backend_unreachable', /ALPN/],
    [['http/1.1'], 'backend_tls', /no application protocol/],
  ] as const) {
    const old = tls.createServer({ ...pair, ...(ALPNProtocols && { ALPNProtocols: [...ALPNProtocols] }) }).listen(0, '127.0.0.1');
    await once(old, 'listening');
    t.after(() => old.close());
    const url = `https://127.0.0.1:${(old.address() as AddressInfo).port}`;
    const front = await startFront(t, config([url], { backend_tls: { ca: 'ca.pem' } }), {}, files);
    assert.equal((await front.ask(`${get}\r\n`)).status, 502);
    const { facts } = await front.logged(code);
    assert.match(String(facts['cause']), cause);
    assert.equal(facts['setting'], 'virtual_hosts[].routes[].http_version');
  }
});

test('max_connections counts streams', limit, async (t) => {
  const backend = await http2Backend(t, () => {});
  const front = await startHttp2Front(t, config([backend.url], { max_connections: 1, max_queue: 1 }));
  const client = await Http2Client.connect(t, front.port);
  const [first, second] = [client.get('/1'), client.get('/2')];
  await until(() => backend.streams.has('/1'));
  assert.equal((await client.get('/3')).status, 503);
  backend.streams.get('/1')!.respond({ ':status': 204 }, { endStream: true });
  assert.equal((await first).status, 204);
  await until(() => backend.streams.has('/2'));
  backend.streams.get('/2')!.respond({ ':status': 204 }, { endStream: true });
  assert.equal((await second).status, 204);
});

test('a WebSocket is not opened through HTTP/2', limit, async (t) => {
  const backend = await http2Backend(t, (stream, headers) => {
    stream.respond({ ':status': 426, 'x-upgrade': String(headers['upgrade']) }, { endStream: true });
  });
  const front = await startFront(t, config([backend.url]));
  const { status, head } = await front.ask(`${get}Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n`);
  assert.equal(status, 426);
  assert.match(head, /^x-upgrade: undefined$/m);
});

test('whatever backends and clients do at any time, each request ends, and no fault is ours', { timeout: 60_000 }, async (t) => {
  const random = seeded(11);
  const pick = <T>(...of: T[]): T => of[Math.floor(random() * of.length)]!;
  const codes = [errorCodes.noError, errorCodes.internalError, errorCodes.refusedStream, errorCodes.cancel];
  const deeds: Script[] = [
    ok,
    (stream) => {
      stream.respond({ ':status': 200 }, { waitForTrailers: true });
      stream.once('wantTrailers', () => stream.sendTrailers({ a: 'b' }));
      stream.pipe(stream);
    },
    (stream) => stream.respond({ ':status': 200, 'grpc-status': '5' }, { endStream: true }),
    (stream) => stream.close(pick(...codes)),
    (stream) => {
      stream.respond({ ':status': 200 });
      stream.write(Buffer.alloc(100_000), () => stream.close(pick(...codes)));
    },
    (stream) => stream.respond({ ':status': 200 }),
    () => {},
    (stream) => random() < 0.1 && stream.session?.goaway(pick(errorCodes.noError, errorCodes.enhanceYourCalm), stream.id! - 2),
    (stream) => random() < 0.1 && stream.session?.destroy(),
    (stream) => random() < 0.1 && stream.session?.close(),
  ];
  const backend = await http2Backend(t, (...asked) => void setTimeout(() => !asked[0].destroyed && pick(...deeds)(...asked), random() * 5), {
    settings: { maxConcurrentStreams: 20 },
  });
  const timeouts = { response_header: '300ms', response_body: '300ms', request_body: '300ms', connect: '200ms' };
  const front = await startHttp2Front(t, config([backend.url], { max_connections: 60 }, { timeouts }));
  const old = await startFront(t, config([backend.url], {}, { timeouts }));
  const client = await Http2Client.connect(t, front.port);
  const visit = async (n: number): Promise<void> => {
    if (n % 4 === 0) {
      const one = await old.connect();
      one.send(`POST /${n} HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n`);
      if (random() < 0.5) one.send('0\r\n\r\n');
      if (random() < 0.3) one.socket.resetAndDestroy();
      else await one.answer().catch(() => {});
      return one.socket.destroy() && undefined;
    }
    const stream = client.open([':method', pick('GET', 'POST'), ':path', `/${n}`], { endStream: false });
    stream.resume();
    const closed = new Promise((resolve) => stream.once('close', resolve));
    if (random() < 0.7) stream.write(Buffer.alloc(Math.floor(random() * 200_000)));
    if (random() < 0.7) stream.end();
    if (random() < 0.3) setTimeout(() => stream.close(errorCodes.cancel), random() * 20);
    await closed;
  };
  for (let round = 0; round < 10; round += 1) await Promise.all(Array.from({ length: 60 }, (_, n) => visit(round * 100 + n)));
  assert.deepEqual(
    [...front.log, ...old.log].filter(({ level }) => level === 'error'),
    [],
  );
  // Nothing is left behind that would keep a place; now there is time.
  deeds.splice(1);
  front.front.update(config([backend.url], { max_connections: 60 }));
  const last = await Promise.all(Array.from({ length: 60 }, () => client.get('/last')));
  assert.ok(last.every(({ body }) => body === 'ok'));
});

test('what its sender wants never to be indexed is not, by us either (RFC 7541, 7.1.3), nor is a cookie', limit, async (t) => {
  const backend = await FrameBackend.listen(t, (connection, stream) => connection.headers(stream, [[':status', '204']]));
  const front = await startHttp2Front(t, config([backend.url]));
  const client = await FrameClient.connect(t, front.port);
  const secret = headerBlock([['x-secret', 'hush']]);
  secret[0] = 0x10;
  const block = Buffer.concat([headerBlock([...getHead, ['cookie', 'id=1'], ['x-open', 'same']]), secret]);
  for (const stream of [1, 3, 5]) {
    client.send(frame(frameTypes.headers, flags.endHeaders | flags.endStream, stream, block));
    assert.equal(await client.outcome(stream), 204);
  }
  const heads = backend.connections[0]!.frames.filter(({ type }) => type === frameTypes.headers).map(({ payload }) => payload);
  assert.equal(heads.length, 3);
  for (const head of heads) {
    assert.ok(head.includes(Buffer.from('\x10\x08x-secret\x04hush', 'latin1')));
    // Its name is in the static table, at 32.
    assert.ok(head.includes(Buffer.from('\x1f\x11\x04id=1', 'latin1')));
  }
  assert.ok(!heads[2]!.includes('same'), 'what comes again and again is');
});
