import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import * as net from 'node:net';
import test from 'node:test';
import { setImmediate as immediate } from 'node:timers/promises';
import { HttpFront } from '../src/engine/http-front.ts';
import { RawBackend, answering, httpBackend, messages } from './support/backend.ts';
import { LeapingClock } from './support/clock.ts';
import { configOf } from './support/config.ts';
import { overfill } from './support/overfill.ts';
import { errorCodes, frame, FrameClient, type Frame, frameTypes, getHead, startHttp2Front } from './support/http2.ts';

/** How long HTTP/2 connections live, and how they end: no request may get lost (RFC 9113, 6.8). */

const limit = { timeout: 20_000 };
const anyStream = 2 ** 31 - 1;

/** The last streams that the client was told of, each once. */
function goaways(client: FrameClient): number[] {
  return [...new Set(client.frames.filter(({ type }) => type === frameTypes.goaway).map(({ payload }) => payload.readUInt32BE()))];
}

function isPing({ type, flags }: Frame): boolean {
  return type === frameTypes.ping && flags === 0;
}

function isReset(stream: number): (frame: Frame) => boolean {
  return (frame) => frame.type === frameTypes.rstStream && frame.stream === stream;
}

/** Answers when it is told to. */
async function waiting(t: test.TestContext): Promise<RawBackend & { answer: () => void }> {
  const backend = await new RawBackend(() => {}).listen(t);
  return Object.assign(backend, {
    answer: () => {
      for (const { socket } of backend.connections) socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
    },
  });
}

test('an idle connection ends after keep_alive, and the client learns which request was the last', limit, async (t) => {
  const backend = await answering().listen(t);
  const front = await startHttp2Front(t, configOf({ backends: [backend.url] }, { timeouts: { keep_alive: '50ms' } }));
  const client = await FrameClient.connect(t, front.port);
  client.headers(1, getHead);
  assert.equal(await client.outcome(1), 200);
  await client.frame(({ type }) => type === frameTypes.goaway);
  client.headers(3, getHead);
  await client.toEnd();
  assert.deepEqual(goaways(client), [1]);
  assert.equal(messages(backend.text).length, 1);
});

test('the first request must come within request_header, and be it the preface', limit, async (t) => {
  const front = await startHttp2Front(t, configOf({ backends: ['http://127.0.0.1:9'] }, { timeouts: { request_header: '100ms' } }));
  const silent = net.connect(front.port, '127.0.0.1').resume();
  const polite = await FrameClient.connect(t, front.port);
  await Promise.all([once(silent, 'close'), polite.toEnd()]);
});

test('at the end, streams are answered, what crosses the announcement too, and idle connections close', limit, async (t) => {
  const backend = await waiting(t);
  const front = await startHttp2Front(t, configOf({ backends: [backend.url] }));
  const idle = await FrameClient.connect(t, front.port);
  const busy = await FrameClient.connect(t, front.port);
  busy.acknowledges = false;
  idle.headers(1, getHead);
  busy.headers(1, getHead);
  await backend.until((connections) => connections.filter(({ text }) => text !== '').length === 2);
  backend.answer();
  assert.deepEqual([await idle.outcome(1), await busy.outcome(1)], [200, 200]);
  busy.headers(3, getHead);
  await backend.until(() => messages(backend.text).length === 3);
  const closed = front.front.close(60_000);
  await idle.toEnd();
  // The announcement comes with the next request.
  busy.headers(5, getHead);
  const ping = await busy.frame(isPing);
  busy.acknowledge(ping);
  await backend.until(() => messages(backend.text).length === 4);
  await busy.frame((frame) => frame.type === frameTypes.goaway && frame.payload.readUInt32BE() === 5);
  busy.headers(7, getHead);
  backend.answer();
  assert.deepEqual([await busy.outcome(3), await busy.outcome(5)], [200, 200]);
  await busy.toEnd();
  await closed;
  assert.deepEqual([goaways(idle), goaways(busy)], [[1], [anyStream, 5]]);
  assert.equal(messages(backend.text).length, 4);
});

test('with a successor, an idle connection may ask once more, and is then told to go there', limit, async (t) => {
  const backend = await answering().listen(t);
  const front = await startHttp2Front(t, configOf({ backends: [backend.url] }));
  const client = await FrameClient.connect(t, front.port);
  client.headers(1, getHead);
  await client.outcome(1);
  const closed = front.front.close(60_000, true);
  client.headers(3, getHead);
  assert.equal(await client.outcome(3), 200);
  await client.toEnd();
  await closed;
  assert.deepEqual(goaways(client), [anyStream, 3]);
});

test('what is not answered within the grace is cut', limit, async (t) => {
  const backend = await new RawBackend(() => {}).listen(t);
  const front = await startHttp2Front(t, configOf({ backends: [backend.url] }));
  const client = await FrameClient.connect(t, front.port);
  client.headers(1, getHead);
  await backend.until((connections) => connections.some(({ text }) => text !== ''));
  await front.front.close(50);
  await client.toEnd();
  await backend.until((connections) => connections.every(({ ended, socket }) => ended || socket.destroyed));
});

test('a connection whose rules for client certificates changed answers what it has read, and nothing after', limit, async (t) => {
  const backend = await waiting(t);
  const front = await startHttp2Front(t, configOf({ backends: [backend.url] }));
  const client = await FrameClient.connect(t, front.port);
  client.headers(1, getHead);
  await backend.until((connections) => connections.some(({ text }) => text !== ''));
  front.front.endOutdated(new Set(['a.test']));
  client.headers(3, getHead);
  await client.frame(({ type }) => type === frameTypes.goaway);
  client.headers(5, getHead);
  backend.answer();
  assert.equal(await client.outcome(1), 200);
  await client.toEnd();
  assert.equal(goaways(client)[0], 1);
  assert.equal(messages(backend.text).length, 1);
});

test('a stream whose answer the client does not take is reset, and its siblings are served', limit, async (t) => {
  const backend = await answering('x'.repeat(200_000)).listen(t);
  const tail = await answering('x'.repeat(10_000)).listen(t);
  const small = await answering('').listen(t);
  const routes = [
    { path: '/tail', backends: [tail.url] },
    { path: '/small', backends: [small.url] },
  ];
  const front = await startHttp2Front(t, configOf({ backends: [backend.url], routes }, { timeouts: { response_body: '300ms' } }));
  const client = await FrameClient.connect(t, front.port, 100);
  client.headers(1, getHead);
  // This one has been given whole: only the client is missing.
  client.headers(3, [...getHead.slice(0, 3), [':path', '/tail']]);
  const resets = await Promise.all([client.frame(isReset(1)), client.frame(isReset(3))]);
  assert.deepEqual(new Set(resets.map(({ payload }) => payload.readUInt32BE())), new Set([errorCodes.internalError]));
  await front.logged('response_stalled');
  client.headers(5, [...getHead.slice(0, 3), [':path', '/small']]);
  assert.equal(await client.outcome(5), 200);
});

test('a client that reads nothing at all loses its connection', limit, async (t) => {
  const backend = await answering('x'.repeat(30_000_000)).listen(t);
  const front = await startHttp2Front(t, configOf({ backends: [backend.url] }, { timeouts: { response_body: '300ms', keep_alive: '100ms' } }));
  const client = await FrameClient.connect(t, front.port, anyStream);
  client.send(frame(frameTypes.windowUpdate, 0, 0, Buffer.from([0x70, 0, 0, 0])));
  client.headers(1, getHead);
  assert.equal(await client.outcome(1), 200);
  client.socket.pause();
  await front.logged('response_stalled');
  // The reset cannot be delivered either.
  while (front.front.open > 0) await immediate();
});

test('a client that says goodbye gets the answers that it waits for, and then the connection ends', limit, async (t) => {
  const backend = await waiting(t);
  const front = await startHttp2Front(t, configOf({ backends: [backend.url] }));
  const client = await FrameClient.connect(t, front.port);
  client.headers(1, getHead);
  client.send(frame(frameTypes.goaway, 0, 0, Buffer.alloc(8)));
  await backend.until((connections) => connections.some(({ text }) => text !== ''));
  backend.answer();
  assert.equal(await client.outcome(1), 200);
  await client.toEnd();
  assert.deepEqual(goaways(client), [1]);
});

test('TLS before 1.2 is no ground for HTTP/2 (RFC 9113, 9.2)', limit, async (t) => {
  for (const version of ['TLSv1', 'TLSv1.1']) {
    const front = await startHttp2Front(t, configOf({ backends: ['http://127.0.0.1:9'] }), {
      session: { getProtocol: () => version, getCipher: () => ({ name: 'AES128-SHA' }) },
    });
    const client = await FrameClient.connect(t, front.port);
    const { payload } = await client.frame(({ type }) => type === frameTypes.goaway);
    assert.equal(payload.readUInt32BE(4), errorCodes.inadequateSecurity);
    await client.toEnd();
  }
});

test('a slow client gets the end of its answers after GOAWAY, as long as it takes something', limit, async (t) => {
  const clock = new LeapingClock(t);
  const accept = t.mock.method(HttpFront.prototype, 'accept');
  const asked = Promise.withResolvers<ServerResponse>();
  const { url } = await httpBackend(t, (_req, res) => asked.resolve(res));
  const front = await startHttp2Front(t, configOf({ backends: [url] }, { log: { access: true } }));
  const client = await FrameClient.connect(t, front.port, anyStream);
  client.send(frame(frameTypes.windowUpdate, 0, 0, Buffer.from([0x70, 0, 0, 0])));
  client.headers(1, getHead);
  const answer = await asked.promise;
  const socket = accept.mock.calls[0]?.arguments[0];
  assert.ok(socket);
  client.socket.pause();
  const sent = await overfill(answer, socket);
  while (!front.log.some(({ facts }) => facts['status'] === 200)) await immediate();
  front.front.endOutdated(new Set(['a.test']));
  await clock.leap(front, 10_000);
  assert.ok(socket.writableLength > 0 && !socket.destroyed);
  client.socket.resume();
  await client.toEnd();
  const bytes = client.frames.filter(({ type }) => type === frameTypes.data).map(({ payload }) => payload.length);
  assert.equal(
    bytes.reduce((all, one) => all + one, 0),
    sent,
  );
});

test('who breaks the rules learns which, although more of it is on its way', limit, async (t) => {
  const front = await startHttp2Front(t, configOf({ backends: ['http://127.0.0.1:9'] }));
  const client = await FrameClient.connect(t, front.port);
  const wrong = frame(frameTypes.data, 0, 0, Buffer.alloc(1_000));
  client.send(wrong);
  const { payload } = await client.frame(({ type }) => type === frameTypes.goaway);
  for (let n = 0; n < 20; n += 1) client.send(wrong);
  assert.equal(payload.readUInt32BE(4), errorCodes.protocolError);
  await client.toEnd();
  const line = await front.logged('http2_error');
  assert.match(line.message, /DATA of a stream that is idle/);
});

test('who breaks the rules and does not stop is cut at once', limit, async (t) => {
  const now = performance.now();
  // So that no deadline ends it.
  t.mock.method(performance, 'now', () => now);
  const front = await startHttp2Front(t, configOf({ backends: ['http://127.0.0.1:9'] }));
  const client = await front.connect();
  while (!client.closed) {
    client.send('\0'.repeat(16_384));
    await immediate();
  }
});
