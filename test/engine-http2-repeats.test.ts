import assert from 'node:assert/strict';
import test from 'node:test';
import { configOf } from './support/config.ts';
import { startFront } from './support/front.ts';
import { errorCodes, flags, frame, frameTypes, Http2Client, startHttp2Front } from './support/http2.ts';
import { FrameBackend, type FrameConnection, http2Backend } from './support/http2-backend.ts';

/** What is sent once more to backends that speak HTTP/2, and what is not. */

function config(...backends: string[]): ReturnType<typeof configOf> {
  return configOf({ routes: [{ path: '/', backends, http_version: 2 }] });
}

const limit = { timeout: 10_000 };

test('what a backend has not looked at is sent to it once more, on another stream or session', limit, async (t) => {
  for (const [what, refuse] of [
    ['REFUSED_STREAM', (connection, stream) => connection.reset(stream, errorCodes.refusedStream)],
    ['GOAWAY', (connection, stream) => connection.goAway(stream - 1)],
    ['GOAWAY with an error', (connection, stream) => connection.goAway(Math.max(0, stream - 2), errorCodes.enhanceYourCalm)],
  ] satisfies [string, (connection: FrameConnection, stream: number) => void][]) {
    const asked: string[] = [];
    const backend = await FrameBackend.listen(t, (connection, stream, path) => {
      asked.push(path);
      if (path === '/fine' || (path !== '/never' && asked.filter((one) => one === path).length === 2)) {
        connection.headers(stream, [[':status', '200']], false);
        connection.data(stream, 'ok');
      } else refuse(connection, stream);
    });
    const front = await startFront(t, config(backend.url));
    const ask = (method: string, path: string, rest = '\r\n') => front.ask(`${method} ${path} HTTP/1.1\r\nHost: a.test\r\n${rest}`);
    const body = (size: number): string => `Content-Length: ${size}\r\n\r\n${'x'.repeat(size)}`;
    assert.equal((await ask('GET', '/fine')).status, 200);
    assert.equal((await ask('GET', '/get')).body, 'ok', what);
    // Not even what may not be repeated after it was looked at is lost.
    assert.equal((await ask('POST', '/post')).body, 'ok', what);
    assert.equal((await ask('POST', '/little', body(16_384))).body, 'ok', what);
    assert.equal((await ask('GET', '/never')).status, 502);
    assert.equal((await ask('POST', '/large', body(100_000))).status, 502);
    const count = (path: string): number => asked.filter((one) => one === path).length;
    assert.deepEqual(['/get', '/post', '/little', '/never', '/large'].map(count), [2, 2, 2, 2, 1], what);
    const { facts } = await front.logged('backend_refused');
    assert.equal(facts['reset'], 'REFUSED_STREAM');
    const sent = backend.connections.flatMap(({ frames }) => frames.filter(({ type }) => type === frameTypes.data));
    assert.ok(sent.reduce((sum, { payload }) => sum + payload.length, 0) >= 2 * 16_384, 'the body is sent twice, too');
  }
});

test('what a client of HTTP/2 sends is kept for that, however it comes', limit, async (t) => {
  let asked = 0;
  const received: number[] = [];
  const backend = await FrameBackend.listen(t, (connection, stream) => {
    asked += 1;
    if (asked % 2 === 1) return connection.reset(stream, errorCodes.refusedStream);
    connection.headers(stream, [[':status', '204']], false);
    void connection
      .frame((one) => one.stream === stream && one.type === frameTypes.data && (one.flags & flags.endStream) !== 0)
      .then(() => {
        const data = connection.frames.filter((one) => one.stream === stream && one.type === frameTypes.data);
        received.push(data.reduce((sum, { payload }) => sum + payload.length, 0));
        connection.send(frame(frameTypes.data, flags.endStream, stream));
      });
  });
  const front = await startHttp2Front(t, config(backend.url));
  const client = await Http2Client.connect(t, front.port);
  for (const size of [100, 8_193, 16_384]) assert.equal((await client.ask([':method', 'POST', ':path', '/'], Buffer.alloc(size))).status, 204, `${size}`);
  assert.deepEqual(received, [100, 8_193, 16_384]);
});

test('what was refused goes to another backend, if there is one', limit, async (t) => {
  const refusing = await FrameBackend.listen(t, (connection, stream) => connection.reset(stream, errorCodes.refusedStream));
  const backend = await http2Backend(t, (stream) => {
    stream.respond({ ':status': 200 });
    stream.end('ok');
  });
  const front = await startFront(t, config(refusing.url, backend.url));
  for (let n = 0; n < 4; n += 1) assert.equal((await front.ask(`POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1\r\n\r\nx`)).body, 'ok');
  assert.equal(backend.sessions.length, 1);
});

test('a stream that was refused after something had come of its answer is not repeated', limit, async (t) => {
  let asked = 0;
  const backend = await FrameBackend.listen(t, (connection, stream) => {
    asked += 1;
    connection.headers(stream, [[':status', '103']], false);
    connection.reset(stream, errorCodes.refusedStream);
  });
  const front = await startHttp2Front(t, config(backend.url));
  const client = await Http2Client.connect(t, front.port);
  assert.equal((await client.get()).status, 502);
  assert.equal(asked, 1);
});

test('a session that dies without a word: what is safe is repeated once', limit, async (t) => {
  const asked: string[] = [];
  const backend = await FrameBackend.listen(t, (connection, stream, path) => {
    asked.push(path);
    if (path === '/fine' || asked.filter((one) => one === path).length === 2) connection.headers(stream, [[':status', '204']]);
    else connection.socket.destroy();
  });
  const front = await startFront(t, config(backend.url));
  for (const [method, status, times] of [
    ['GET', 204, 2],
    ['POST', 502, 1],
  ] as const) {
    const ask = (what: string, path: string) => front.ask(`${what} ${path} HTTP/1.1\r\nHost: a.test\r\n\r\n`);
    assert.equal((await ask('GET', '/fine')).status, 204);
    assert.equal((await ask(method, `/${method}`)).status, status);
    assert.equal(asked.filter((one) => one === `/${method}`).length, times);
  }
});
