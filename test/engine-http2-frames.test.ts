import assert from 'node:assert/strict';
import { RawBackend, answering, messages } from './support/backend.ts';
import { configOf } from './support/config.ts';
import { both } from './support/front.ts';
import { errorCodes, flags, frame, FrameClient, frameTypes, getHead, headerBlock, Http2Client, startHttp2Front } from './support/http2.ts';

/** Frames that no polite client sends: what is wrong with one stream, and what becomes of it. */

const { cancel, internalError, noError, protocolError } = errorCodes;
const malformed = `RST ${protocolError}`;
type Head = (readonly [name: string, value: string])[];

function headWith(...fields: [string, string][]): Head {
  return [...getHead, ...fields];
}

function headBut(name: string, value?: string): Head {
  return getHead.flatMap(([one, usual]) => (one === name ? (value === undefined ? [] : [[one, value] as const]) : [[one, usual] as const]));
}

both('malformed heads are refused, each its stream only, and no backend hears of them', async (t, engine) => {
  const backend = await answering().listen(t);
  const front = await startHttp2Front(t, configOf({ engine, backends: [backend.url] }));
  const heads: [outcome: number | string, head: Head][] = [
    [malformed, headWith(['connection', 'close'])],
    [malformed, headWith(['transfer-encoding', 'chunked'])],
    [malformed, headWith(['upgrade', 'websocket'])],
    [malformed, headWith(['keep-alive', '5'])],
    [malformed, headWith(['proxy-connection', 'close'])],
    [malformed, headWith(['te', 'gzip'])],
    [malformed, headWith(['te', 'trailers, gzip'])],
    [malformed, headWith(['X-Upper', '1'])],
    [malformed, headWith(['content-length', '+2'])],
    [malformed, headWith(['content-length', '0'], ['content-length', '0'])],
    [malformed, headWith(['content-length', '5'])],
    [malformed, headWith(['host', 'a.test'], ['host', 'a.test'])],
    [malformed, headWith([':path', '/again'])],
    [malformed, headWith([':foo', 'x'])],
    [malformed, [...getHead.slice(0, 3), ['x-a', '1'], [':path', '/']]],
    [malformed, headBut(':method')],
    [malformed, headBut(':scheme')],
    [malformed, headBut(':path')],
    [malformed, headBut(':authority')],
    [malformed, headBut(':path', '')],
    [malformed, headBut(':path', '*')],
    [malformed, headBut(':path', 'http://a.test/')],
    [malformed, headBut(':path', '/a b')],
    [malformed, headBut(':path', '/ HTTP/1.1\r\nX: y')],
    [malformed, headBut(':method', 'GET / HTTP/1.1\r\nX:')],
    [malformed, headBut(':scheme', 'http://x/?')],
    [malformed, headBut(':authority', 'user@a.test')],
    [malformed, headBut(':authority', 'a.test/x')],
    [malformed, headBut(':authority', '')],
    [malformed, [[':method', 'CONNECT'], [':protocol', 'websocket'], ...getHead.slice(1)]],
    [400, headBut(':path', '/a#b')],
    [400, headBut(':authority', 'a.test,b.test')],
    [400, headBut(':authority', 'a.test:port')],
    [400, headWith(['host', 'b.test'])],
    [405, headBut(':method', 'TRACE')],
  ];
  const client = await FrameClient.connect(t, front.port);
  let stream = 1;
  for (const [outcome, head] of heads) {
    client.headers(stream, head);
    assert.equal(await client.outcome(stream), outcome, JSON.stringify(head));
    stream += 2;
  }
  assert.equal(backend.connections.length, 0);
  client.headers(stream, getHead);
  assert.equal(await client.outcome(stream), 200);
});

both('Host beside :authority may say the same, and alone it is as good', async (t, engine) => {
  const backend = await answering().listen(t);
  const front = await startHttp2Front(t, configOf({ engine, backends: [backend.url] }));
  const client = await FrameClient.connect(t, front.port);
  const heads = [getHead, headWith(['x-a', '1'], ['host', 'A.test']), [...headBut(':authority'), ['x-a', '1'], ['host', 'A.test']] as Head];
  for (const [n, head] of heads.entries()) {
    client.headers(2 * n + 1, head);
    assert.equal(await client.outcome(2 * n + 1), 200);
  }
  const hosts = backend.connections.flatMap(({ text }) => messages(text)).map(({ lines }) => lines.filter((line) => /host:|x-a/i.test(line)));
  assert.deepEqual(hosts, [
    ['Host: a.test', 'X-Forwarded-Host: a.test'],
    ['Host: a.test', 'x-a: 1', 'X-Forwarded-Host: a.test'],
    ['Host: A.test', 'x-a: 1', 'X-Forwarded-Host: A.test'],
  ]);
});

both('a field that HTTP/1 could not carry does not reach the backend', async (t, engine) => {
  const backend = await answering().listen(t);
  const front = await startHttp2Front(t, configOf({ engine, backends: [backend.url] }));
  const client = await FrameClient.connect(t, front.port);
  const fields: [string, string][] = [
    ['x-evil', '1\r\nevil: 1'],
    ['x-evil', '1\nevil: 1'],
    ['x-evil', '1\revil: 1'],
    ['x-evil', '\0'],
    ['x-evil', ' 1'],
    ['x-evil', '1\t'],
    ['x evil', '1'],
    ['x-evil:', '1'],
    ['x-evil\r\ny', '1'],
    ['', 'evil'],
    ['cookie', 'a=1\r\nevil: 1'],
  ];
  // RFC 9113, 8.2.1: its request is malformed.
  for (const [n, one] of fields.entries()) {
    client.headers(2 * n + 1, headWith(one, ['x-good', '1']));
    assert.equal(await client.outcome(2 * n + 1), malformed, JSON.stringify(one));
  }
  assert.equal(backend.connections.length, 0);
});

both('a body that is not as long as its Content-Length says is never a whole request', async (t, engine) => {
  const backend = await answering().listen(t);
  const front = await startHttp2Front(t, configOf({ engine, backends: [backend.url] }));
  for (const [length, body] of [
    ['5', 'hell'],
    ['5', 'helloGET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n'],
    ['0', 'GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n'],
  ] as const) {
    const client = await FrameClient.connect(t, front.port);
    client.headers(1, [...headBut(':method', 'POST'), ['content-length', length]], false);
    client.data(1, body);
    // Too much of it ends the connection, too.
    await client.frame(({ type, payload }) => (type === frameTypes.rstStream || type === frameTypes.goaway) && payload.readUInt32BE(payload.length - 4) > 0);
    client.socket.destroy();
    await client.toEnd();
  }
  await backend.until((connections) => connections.every(({ ended, socket }) => ended || socket.destroyed));
  assert.doesNotMatch(backend.text, /smuggled/);
  assert.deepEqual(
    backend.connections.flatMap(({ text }) => messages(text)).filter(({ lines }) => !lines.includes('content-length: 0')),
    [],
  );
});

both('a head in many CONTINUATION frames is one head', async (t, engine) => {
  const backend = await answering().listen(t);
  const front = await startHttp2Front(t, configOf({ engine, backends: [backend.url] }));
  const client = await FrameClient.connect(t, front.port);
  const block = headerBlock(headWith(['x-long', 'x'.repeat(100)]));
  const parts = [block.subarray(0, 20), block.subarray(20, 60), block.subarray(60)];
  client.send(frame(frameTypes.headers, flags.endStream, 1, parts[0]), frame(frameTypes.continuation, 0, 1, parts[1]));
  client.send(frame(frameTypes.continuation, flags.endHeaders, 1, parts[2]));
  assert.equal(await client.outcome(1), 200);
  assert.match(backend.text, /^x-long: x{100}\r$/m);
});

both('a client that takes its request back takes it back from the backend, and its siblings go on', async (t, engine) => {
  const backend = await new RawBackend(({ socket, text }) => {
    if (text.includes('/begun')) socket.write('HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc');
  }).listen(t);
  const other = await answering().listen(t);
  const config = configOf({ engine, backends: [backend.url], routes: [{ path: '/other', backends: [other.url] }] });
  const front = await startHttp2Front(t, config);
  const client = await FrameClient.connect(t, front.port);
  const requests: [method: string, path: string, body: string | undefined, fields: Head][] = [
    ['GET', '/silent', undefined, []],
    ['HEAD', '/silent', undefined, []],
    ['POST', '/silent', 'ab', [['content-length', '5']]],
    ['POST', '/silent', 'ab', []],
    ['HEAD', '/silent', 'ab', []],
    ['GET', '/begun', undefined, []],
  ];
  let stream = 1;
  for (const [method, path, body, fields] of requests) {
    for (const code of [cancel, noError, internalError]) {
      const count = backend.connections.length + 1;
      client.headers(stream, [[':method', method], [':path', path], ...getHead.slice(1, 3), ...fields], body === undefined);
      if (body !== undefined) client.data(stream, body, false);
      await backend.until((connections) => connections.length === count && /\r\n\r\n/.test(connections.at(-1)?.text ?? ''));
      if (body !== undefined) await backend.until((connections) => connections.at(-1)?.text.includes(body) === true);
      client.reset(stream, code);
      const last = backend.connections.at(-1);
      await backend.until(() => last?.ended === true || last?.socket.destroyed === true);
      // What was cut is not taken for the whole.
      assert.doesNotMatch(last?.text ?? '', /\r\n0\r\n\r\n$/);
      client.headers(stream + 2, headBut(':path', '/other'));
      assert.equal(await client.outcome(stream + 2), 200);
      stream += 4;
    }
  }
  assert.equal(front.front.open, 1);
});

both('a request that is taken back before it was looked at never reaches a backend', async (t, engine) => {
  const backend = await answering().listen(t);
  const front = await startHttp2Front(t, configOf({ engine, backends: [backend.url] }));
  const client = await FrameClient.connect(t, front.port);
  const reset = Buffer.alloc(4);
  reset.writeUInt32BE(cancel);
  client.send(frame(frameTypes.headers, flags.endHeaders | flags.endStream, 1, headerBlock(getHead)), frame(frameTypes.rstStream, 0, 1, reset));
  client.headers(3, getHead);
  assert.equal(await client.outcome(3), 200);
  assert.equal(messages(backend.text).length, 1);
  assert.equal((await (await Http2Client.connect(t, front.port)).get()).status, 200);
});
