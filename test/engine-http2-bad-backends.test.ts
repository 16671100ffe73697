import assert from 'node:assert/strict';
import { once } from 'node:events';
import test, { type TestContext } from 'node:test';
import { configOf, type Keys } from './support/config.ts';
import { startFront } from './support/front.ts';
import { errorCodes, flags, frame, FrameClient, frameTypes, getHead, headerBlock, Http2Client, startHttp2Front } from './support/http2.ts';
import { FrameBackend, type FrameConnection } from './support/http2-backend.ts';
import { settingsPayload, uint32 } from './support/http2-peer.ts';

/** Backends that speak HTTP/2 wrongly, or with ill intent: whoever asks gets an answer that says so, and the next one a good one. */

const { headers, data, ping, pushPromise, settings, windowUpdate, rstStream, continuation, goaway } = frameTypes;
const whole = flags.endHeaders | flags.endStream;
const limit = { timeout: 20_000 };
const get = 'GET / HTTP/1.1\r\nHost: a.test\r\n\r\n';

function config(url: string, keys: Keys = {}, top: Keys = {}): ReturnType<typeof configOf> {
  return configOf({ routes: [{ path: '/', backends: [url], http_version: 2, ...keys }] }, top);
}

/** A backend that does this once, and answers well afterwards. */
function onceBad(t: TestContext, act: (connection: FrameConnection, stream: number) => void): Promise<FrameBackend> {
  let isDone = false;
  return FrameBackend.listen(t, (connection, stream) => {
    if (isDone) {
      connection.headers(stream, [[':status', '200']], false);
      return connection.data(stream, 'ok');
    }
    isDone = true;
    act(connection, stream);
  });
}

const status200 = [':status', '200'] as const;
const many = (count: number, bytes: Buffer): Buffer => Buffer.concat(Array.from({ length: count }, () => bytes));

/** More than one frame holds. */
function largeHead(stream: number): Buffer {
  const block = headerBlock([status200, ['x-a', 'x'.repeat(16_400)], ['x-b', 'x'.repeat(16_400)]]);
  const [first, second, third] = [block.subarray(0, 16_384), block.subarray(16_384, 32_768), block.subarray(32_768)];
  return Buffer.concat([
    frame(headers, flags.endStream, stream, first),
    frame(continuation, 0, stream, second),
    frame(continuation, flags.endHeaders, stream, third),
  ]);
}

test('an answer that is malformed is a 502, and its session goes on', limit, async (t) => {
  const wrong: [what: string, act: (connection: FrameConnection, stream: number) => void, cause: RegExp][] = [
    ['no :status', (connection, stream) => connection.headers(stream, [['x-a', '1']]), /:status/],
    ['a line break', (connection, stream) => connection.headers(stream, [status200, ['x-a', 'a\r\nb']]), /x-a/],
    ['Connection', (connection, stream) => connection.headers(stream, [status200, ['connection', 'close']]), /connection/],
    ['status 101', (connection, stream) => connection.headers(stream, [[':status', '101']], false), /101/],
    ['two lengths', (connection, stream) => connection.headers(stream, [status200, ['content-length', '1'], ['content-length', '2']], false), /Content-Length/],
    ['a length without a body', (connection, stream) => connection.headers(stream, [status200, ['content-length', '5']]), /without a body/],
    ['DATA before it', (connection, stream) => connection.data(stream, 'x'), /DATA before/],
    [
      'too many fields',
      (connection, stream) => connection.headers(stream, [status200, ...Array.from({ length: 101 }, () => ['x-a', '1'] as const)]),
      /100 fields/,
    ],
    ['more bytes than in HTTP/1', (connection, stream) => connection.send(largeHead(stream)), /32768 bytes/],
    ['a window of 0', (connection, stream) => connection.send(frame(windowUpdate, 0, stream, uint32(0))), /WINDOW_UPDATE/],
  ];
  for (const [what, act, cause] of wrong) {
    const backend = await onceBad(t, act);
    const front = await startFront(t, config(backend.url));
    const { status } = await front.ask(get);
    assert.equal(status, 502, what);
    assert.match(String((await front.logged('backend_bad_response')).facts['cause']), cause, what);
    assert.equal((await front.ask(get)).body, 'ok', what);
    assert.equal(backend.connections.length, 1, what);
    assert.ok(
      backend.connections[0]!.frames.some(({ type }) => type === rstStream),
      what,
    );
  }
});

test('what breaks the protocol ends the session: who waits on it gets a 502, and the next one another session', limit, async (t) => {
  const block = headerBlock([status200]);
  const wrong: [what: string, code: number, bytes: (stream: number) => Buffer][] = [
    ['PUSH_PROMISE', errorCodes.protocolError, (stream) => frame(pushPromise, flags.endHeaders, stream, Buffer.concat([uint32(2), block]))],
    ['HEADERS of nobody', errorCodes.protocolError, (stream) => frame(headers, whole, stream + 2, block)],
    ['SETTINGS that want pushes', errorCodes.protocolError, () => frame(settings, 0, 0, settingsPayload([2, 1]))],
    ['no HPACK', 9, (stream) => frame(headers, whole, stream, Buffer.from([0xff, 0xff, 0xff, 0xff, 0xff]))],
    [
      'CONTINUATION without end',
      errorCodes.enhanceYourCalm,
      (stream) => Buffer.concat([frame(headers, 0, stream, block), many(20, frame(continuation, 0, stream))]),
    ],
    ['PING without end', errorCodes.enhanceYourCalm, () => many(3_000, frame(ping, 0, 0, Buffer.alloc(8)))],
    ['SETTINGS without end', errorCodes.enhanceYourCalm, () => many(3_000, frame(settings, 0, 0))],
    [
      'empty DATA without end',
      errorCodes.enhanceYourCalm,
      (stream) => Buffer.concat([frame(headers, flags.endHeaders, stream, block), many(3_000, frame(data, 0, stream))]),
    ],
  ];
  for (const [what, code, bytes] of wrong) {
    const backend = await onceBad(t, (connection, stream) => connection.send(bytes(stream)));
    const front = await startFront(t, config(backend.url));
    const client = await front.connect();
    client.send(get);
    await front.logged('backend_bad_response');
    client.socket.destroy();
    const goAway = await backend.connections[0]!.frame(({ type }) => type === goaway);
    assert.equal(goAway.payload.readUInt32BE(4), code, what);
    await backend.connections[0]!.toEnd();
    assert.equal((await front.ask(get)).body, 'ok', what);
    assert.equal(backend.connections.length, 2, what);
  }
});

test('a session that fails takes nobody with it who has only waited for a place', limit, async (t) => {
  const backend = await FrameBackend.listen(
    t,
    (connection, stream) => connection.headers(stream, [[':status', '204']]),
    (connection) => {
      connection.acknowledges = backend.connections.length > 1;
      if (connection.acknowledges) connection.send(frame(settings, 0, 0));
    },
  );
  const front = await startFront(t, config(backend.url, { max_connections: 2, max_queue: 1 }));
  const answers = [1, 2, 3, 4].map(async () => (await front.ask(get)).status);
  // Two wait for its settings, one for a place, and there is none to wait for the last.
  await front.logged('backend_busy');
  backend.connections[0]!.send(Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n'));
  assert.deepEqual((await Promise.all(answers)).toSorted(), [204, 502, 502, 503]);
});

test('an answer whose length is another than it says is cut', limit, async (t) => {
  for (const [body, isEnd] of [
    ['hel', true],
    ['hello!', false],
  ] as const) {
    const backend = await onceBad(t, (connection, stream) => {
      connection.headers(stream, [status200, ['content-length', '5']], false);
      connection.data(stream, body, isEnd);
    });
    const front = await startHttp2Front(t, config(backend.url));
    const client = await Http2Client.connect(t, front.port);
    const answer = await client.get();
    assert.equal(answer.rstCode, errorCodes.internalError);
    await front.logged('backend_bad_response');
    assert.equal((await client.get()).body, 'ok');
  }
});

test('interim answers without end are a 502', limit, async (t) => {
  const backend = await onceBad(t, (connection, stream) =>
    connection.send(many(500, frame(headers, flags.endHeaders, stream, headerBlock([[':status', '102']])))),
  );
  const front = await startFront(t, config(backend.url));
  assert.equal((await front.ask(get)).status, 502);
  await front.logged('backend_bad_response');
  assert.equal((await front.ask(get)).body, 'ok');
});

test('a backend that allows no stream is a 504; one that allows some later is asked then', limit, async (t) => {
  const none = frame(settings, 0, 0, settingsPayload([3, 0]));
  const never = await FrameBackend.listen(
    t,
    () => {},
    (connection) => connection.send(none),
  );
  const front = await startFront(t, config(never.url, {}, { timeouts: { connect: '100ms' } }));
  assert.equal((await front.ask(get)).status, 504);
  await front.logged('backend_connect_timeout');
  const late = await FrameBackend.listen(
    t,
    (connection, stream) => connection.headers(stream, [[':status', '204']]),
    (connection) => {
      connection.send(none);
      void connection
        .frame(({ type, flags: bits }) => type === settings && (bits & flags.ack) !== 0)
        .then(() => connection.send(frame(settings, 0, 0, settingsPayload([3, 1]))));
    },
  );
  const patient = await startFront(t, config(late.url));
  assert.equal((await patient.ask(get)).status, 204);
  assert.equal(late.connections.length, 1);
});

test('settings that do not come are a 504', limit, async (t) => {
  const mute = await FrameBackend.listen(
    t,
    () => {},
    (connection) => (connection.acknowledges = false),
  );
  const front = await startFront(t, config(mute.url, {}, { timeouts: { connect: '100ms' } }));
  assert.equal((await front.ask(get)).status, 504);
  const { facts } = await front.logged('backend_connect_timeout');
  assert.equal(facts['backend'], mute.url);
});

test('a session that takes no more streams ends when its last answer is whole', limit, async (t) => {
  const backend = await onceBad(t, (connection, stream) => {
    connection.goAway(2 ** 31 - 1);
    connection.headers(stream, [status200], false);
    connection.data(stream, 'begun', false);
  });
  const front = await startHttp2Front(t, config(backend.url));
  const client = await Http2Client.connect(t, front.port);
  const stream = client.open([':method', 'GET', ':path', '/']);
  await once(stream, 'response');
  assert.equal((await client.get()).body, 'ok');
  assert.equal(backend.connections.length, 2);
  const [first] = backend.connections;
  first!.data(1, ' and done', true);
  let body = '';
  for await (const piece of stream) body += String(piece);
  assert.equal(body, 'begun and done');
  await first!.toEnd();
});

test('what a slow client does not take is bounded, and the backend is told so', limit, async (t) => {
  let sent = 0;
  const backend = await FrameBackend.listen(t, (connection, stream, path) => {
    connection.headers(stream, [status200], false);
    if (path === '/quick') return connection.data(stream, 'ok');
    // Everything that the window allows, and no more.
    for (; sent < 262_144; sent += 16_384) connection.send(frame(data, 0, stream, Buffer.alloc(16_384)));
  });
  const front = await startHttp2Front(t, config(backend.url));
  const slow = await FrameClient.connect(t, front.port, 0);
  slow.headers(1, getHead);
  assert.equal(await slow.outcome(1), 200);
  const client = await Http2Client.connect(t, front.port);
  for (let n = 0; n < 20; n += 1) assert.equal((await client.get('/quick')).body, 'ok');
  const [connection] = backend.connections;
  assert.equal(backend.connections.length, 1);
  const widened = (): number =>
    connection!.frames.filter(({ type, stream }) => type === windowUpdate && stream === 1).reduce((sum, { payload }) => sum + payload.readUInt32BE(), 0);
  assert.ok(widened() < 262_144, 'not all of it has been taken');
  slow.send(frame(windowUpdate, 0, 0, uint32(1_000_000)), frame(windowUpdate, 0, 1, uint32(1_000_000)));
  await connection!.frame(() => widened() >= 131_072);
});
