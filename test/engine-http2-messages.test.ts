import assert from 'node:assert/strict';
import test from 'node:test';
import { setImmediate as immediate } from 'node:timers/promises';
import { HttpFront } from '../src/engine/http-front.ts';
import { RawBackend, answering, messages } from './support/backend.ts';
import { configOf } from './support/config.ts';
import { both } from './support/front.ts';
import { flags, frame, FrameClient, frameTypes, getHead, headerBlock, startHttp2Front } from './support/http2.ts';

/** Bodies and trailers of HTTP/2 requests (RFC 9113, 8.1), frame by frame, and the HTTP/1.1 that they become. */

const PADDED = 8;
const postHead = [[':method', 'POST'], ...getHead.slice(1)] as (readonly [string, string])[];

function padded(text: string, padding: number): Buffer {
  return Buffer.concat([Buffer.of(padding), Buffer.from(text, 'latin1'), Buffer.alloc(padding)]);
}

both('neither empty nor padded DATA frames end a body or add to it', async (t, engine) => {
  const backend = await answering().listen(t);
  const front = await startHttp2Front(t, configOf({ engine, backends: [backend.url] }));
  const client = await FrameClient.connect(t, front.port);
  for (const [n, length] of [undefined, '10'].entries()) {
    const stream = 2 * n + 1;
    client.headers(stream, length === undefined ? postHead : [...postHead, ['content-length', length]], false);
    client.data(stream, '', false);
    client.send(frame(frameTypes.data, PADDED, stream, padded('hello', 200)));
    client.send(frame(frameTypes.data, PADDED, stream, padded('', 255)));
    client.data(stream, '', false);
    // The backend has a part of it before the rest comes.
    await backend.until((connections) => connections.some(({ text }) => text.split('hello').length === n + 2));
    client.data(stream, '', false);
    client.data(stream, 'world', false);
    client.data(stream, '');
    assert.equal(await client.outcome(stream), 200);
  }
  const arrived = backend.connections.flatMap(({ text }) => messages(text));
  assert.deepEqual(
    arrived.map(({ body, lines }) => [body, lines.filter((line) => /^(content-length|transfer-encoding):/i.test(line))]),
    [
      ['helloworld', ['Transfer-Encoding: chunked']],
      ['helloworld', ['content-length: 10']],
    ],
  );
});

both('frames that come in pieces are put together, whatever others send meanwhile', async (t, engine) => {
  const accept = t.mock.method(HttpFront.prototype, 'accept');
  const backend = await answering().listen(t);
  const front = await startHttp2Front(t, configOf({ engine, backends: [backend.url] }));
  const [client, other] = [await FrameClient.connect(t, front.port), await FrameClient.connect(t, front.port)];
  other.headers(1, getHead);
  assert.equal(await other.outcome(1), 200);
  const socket = accept.mock.calls.map(({ arguments: [one] }) => one).find(({ remotePort }) => remotePort === client.socket.localPort);
  assert.ok(socket);
  const block = headerBlock([...postHead, ['x-name', 'mine']]);
  const bytesOf = (stream: number): Buffer =>
    Buffer.concat([
      frame(frameTypes.headers, 0, stream, block.subarray(0, 30)),
      frame(frameTypes.continuation, flags.endHeaders, stream, block.subarray(30)),
      frame(frameTypes.data, PADDED | flags.endStream, stream, padded('hello', 3)),
    ]);
  const count = bytesOf(1).length - 1;
  for (let at = 1; at <= count; at += 1) {
    const [stream, asking] = [2 * at - 1, 2 * at + 1];
    const bytes = bytesOf(stream);
    const before = socket.bytesRead;
    client.send(bytes.subarray(0, at));
    while (socket.bytesRead < before + at) await immediate();
    other.headers(asking, [...getHead, ['x-name', 'other'.repeat(20)]]);
    assert.equal(await other.outcome(asking), 200);
    client.send(bytes.subarray(at));
    assert.equal(await client.outcome(stream), 200, `cut at ${at}`);
  }
  const posted = backend.connections.flatMap(({ text }) => messages(text)).filter(({ startLine }) => startLine.startsWith('POST'));
  assert.equal(posted.length, count);
  for (const { lines, body } of posted) assert.deepEqual([lines.includes('x-name: mine'), body], [true, 'hello']);
});

both('trailers end a request, and stop here; what is malformed in them takes the request back', async (t, engine) => {
  const backend = await answering().listen(t);
  const front = await startHttp2Front(t, configOf({ engine, backends: [backend.url] }));
  const client = await FrameClient.connect(t, front.port);
  const trailers = (stream: number, fields: readonly (readonly [string, string])[], isLast = true): void =>
    client.send(frame(frameTypes.headers, flags.endHeaders | (isLast ? flags.endStream : 0), stream, headerBlock(fields)));
  client.headers(1, postHead, false);
  client.data(1, 'hello', false);
  trailers(1, [
    ['x-sum', '1'],
    ['x-forwarded-for', '1'],
  ]);
  assert.equal(await client.outcome(1), 200);
  const [whole] = messages(backend.text);
  assert.equal(whole?.body, 'hello');
  assert.doesNotMatch(backend.text, /x-sum|: 1\r/);

  const malformed: [fields: readonly (readonly [string, string])[], isLast: boolean][] = [
    [[[':path', '/smuggled']], true],
    [[['X-Upper', '1']], true],
    [[['connection', 'close']], true],
    // Fields in the middle of a body.
    [[['x-sum', '1']], false],
  ];
  for (const [n, [fields, isLast]] of malformed.entries()) {
    const one = await FrameClient.connect(t, front.port);
    const count = backend.connections.length;
    one.headers(1, [...postHead.filter(([name]) => name !== ':path'), [':path', `/${n}`]], false);
    one.data(1, 'hel', false);
    await backend.until((connections) => connections.some(({ text }) => text.includes(` /${n} `) && text.includes('hel')));
    one.send(frame(frameTypes.headers, flags.endHeaders | (isLast ? flags.endStream : 0), 1, headerBlock(fields)));
    await one.frame(({ type, payload }) => (type === frameTypes.rstStream || type === frameTypes.goaway) && payload.readUInt32BE(payload.length - 4) > 0);
    one.socket.destroy();
    await one.toEnd();
    assert.ok(backend.connections.length <= count + 1);
    await backend.until((connections) => connections.every(({ text, ended, socket }) => !text.includes(` /${n} `) || ended || socket.destroyed));
  }
  assert.doesNotMatch(backend.text, /smuggled|hel\r\n0\r\n\r\n/);
});

both('DATA behind the end of a request reaches nobody', async (t, engine) => {
  const backend = await new RawBackend(({ socket, text }) => {
    if (text.includes('/next ')) socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
  }).listen(t);
  const front = await startHttp2Front(t, configOf({ engine, backends: [backend.url] }));
  for (const head of [getHead, [...postHead, ['content-length', '0'] as const]]) {
    const client = await FrameClient.connect(t, front.port);
    const count = backend.connections.length;
    client.headers(1, head);
    await backend.until((connections) => connections.length > count && connections.at(-1)?.text.endsWith('\r\n\r\n') === true);
    client.data(1, 'GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n');
    // RFC 9113, 5.1: it is a stream error, or the end of the connection.
    await client.frame(({ type, payload }) => (type === frameTypes.rstStream || type === frameTypes.goaway) && payload.readUInt32BE(payload.length - 4) > 0);
    client.socket.destroy();
    await backend.until((connections) => connections.every(({ ended, socket }) => ended || socket.destroyed));
  }
  assert.doesNotMatch(backend.text, /smuggled/);
  const client = await FrameClient.connect(t, front.port);
  client.headers(1, [...getHead.slice(0, 3), [':path', '/next']]);
  assert.equal(await client.outcome(1), 200);
});

both('a target that is not visible ASCII reaches nobody', async (t, engine) => {
  const backend = await answering().listen(t);
  const front = await startHttp2Front(t, configOf({ engine, backends: [backend.url] }));
  const client = await FrameClient.connect(t, front.port);
  const paths = ['/\xe9', '/\xc3\xa9', '/\x7f', '/\t', '/a#b', 'x', 'https://b.test/'];
  for (const [n, path] of paths.entries()) {
    client.headers(2 * n + 1, [...getHead.slice(0, 3), [':path', path]]);
    assert.match(String(await client.outcome(2 * n + 1)), /^(?:400|RST 1)$/, JSON.stringify(path));
  }
  assert.equal(backend.connections.length, 0);
});

both('te: trailers is passed on as HTTP/1.1 has it, and Expect without a body is not', async (t, engine) => {
  const backend = await answering().listen(t);
  const front = await startHttp2Front(t, configOf({ engine, backends: [backend.url] }));
  const client = await FrameClient.connect(t, front.port);
  client.headers(1, [...getHead, ['te', 'trailers'], ['expect', '100-continue'], ['x-last', '1']]);
  assert.equal(await client.outcome(1), 200);
  const [arrived] = messages(backend.text);
  assert.deepEqual(
    arrived?.lines.filter((line) => /^(connection|te|expect|x-last):/i.test(line)),
    ['x-last: 1', 'Connection: keep-alive, TE', 'TE: trailers'],
  );
});

test('a body without a length is counted for a backend that speaks HTTP/1.0', { timeout: 10_000 }, async (t) => {
  const backend = await new RawBackend(({ socket, text }) => {
    if (/\r\n\r\n(?:helloworld)?$/.test(text) && !/content-length: [1-9]\d*\r\n[^]*\r\n\r\n$/i.test(text)) socket.end('HTTP/1.0 200 OK\r\n\r\nold');
  }).listen(t);
  const front = await startHttp2Front(t, configOf({ routes: [{ path: '/', backends: [backend.url], http_version: 1.0 }] }));
  const client = await FrameClient.connect(t, front.port);
  client.headers(1, postHead, false);
  client.data(1, 'hello', false);
  client.data(1, 'world');
  assert.equal(await client.outcome(1), 200);
  client.headers(3, getHead);
  assert.equal(await client.outcome(3), 200);
  const [posted, got] = backend.connections.map(({ text }) => text);
  assert.match(posted ?? '', /^POST \/ HTTP\/1\.0\r\nHost: a\.test\r\nContent-Length: 10\r\n[^]*\r\n\r\nhelloworld$/);
  assert.doesNotMatch(posted ?? '', /transfer-encoding/i);
  assert.match(got ?? '', /^GET \/ HTTP\/1\.0\r\nHost: a\.test\r\n(?!.*content-length)/is);
});
