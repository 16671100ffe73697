import assert from 'node:assert/strict';
import type { ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { setImmediate as immediate } from 'node:timers/promises';
import { HttpFront } from '../src/engine/http-front.ts';
import { answering, RawBackend, httpBackend } from './support/backend.ts';
import { LeapingClock } from './support/clock.ts';
import { configOf } from './support/config.ts';
import { both, startFront } from './support/front.ts';
import { overfill } from './support/overfill.ts';

/** Clients that take their time: what was promised to them is kept, and what is kept for them is bounded. */

function get(path = '/', fields = ''): string {
  return `GET ${path} HTTP/1.1\r\nHost: a.test\r\n${fields}\r\n`;
}

async function untilFull(socket: Socket | undefined): Promise<void> {
  for (;;) {
    if (socket?.writableLength !== 0) return;
    await immediate();
  }
}

both('a client that pipelines and does not read its answers gets no more of them', async (t, engine) => {
  const body = 'x'.repeat(50_000);
  const asked = { slow: 0, other: 0 };
  const { url } = await httpBackend(t, (req, res) => {
    asked[req.url === '/other' ? 'other' : 'slow'] += 1;
    res.end(body);
  });
  const front = await startFront(t, configOf({ engine, backends: [url] }));
  const client = await front.connect();
  client.socket.pause();
  const count = 600;
  client.send(get().repeat(count));
  // Others are served meanwhile, one after the other: enough time to answer the first one more often than the kernel holds.
  for (let n = 0; n < 200; n += 1) await front.ask(get('/other'));
  assert.ok(asked.slow < count / 2, `${asked.slow} of ${count} answers were fetched for a client that reads none`);
  client.socket.resume();
  for (let n = 0; n < count; n += 1) assert.equal((await client.answer()).body.length, body.length);
});

both('the last answer of a connection reaches a client that takes longer than the wait for its end', async (t, engine) => {
  const clock = new LeapingClock(t);
  const accept = t.mock.method(HttpFront.prototype, 'accept');
  const asked = Promise.withResolvers<ServerResponse>();
  const { url } = await httpBackend(t, (_req, res) => asked.resolve(res));
  const front = await startFront(t, configOf({ engine, backends: [url] }, { log: { access: true } }));
  const client = await front.connect();
  client.socket.pause();
  client.send(get('/', 'Connection: close\r\n'));
  const answer = await asked.promise;
  const socket = accept.mock.calls[0]?.arguments[0];
  assert.ok(socket);
  const sent = await overfill(answer, socket);
  while (!front.log.some(({ facts }) => facts['status'] === 200)) await immediate();
  assert.ok(socket.writableLength > 0);

  await clock.leap(front, 10_000);
  client.socket.resume();
  assert.equal((await client.answer()).body.length, sent);
});

both('a client that drips its request body ends, though it never pauses for long', async (t, engine) => {
  const { url } = await httpBackend(t, (req, res) => {
    let length = 0;
    req.on('data', (bytes: Buffer) => {
      length += bytes.length;
      got?.resolve();
    });
    req.on('end', () => res.end(String(length)));
  });
  let got: PromiseWithResolvers<void> | undefined;
  let later = 0;
  const clock = performance.now.bind(performance);
  t.mock.method(performance, 'now', () => clock() + later);
  const front = await startFront(t, configOf({ engine, backends: [url] }));
  for (const [size, status] of [
    [20_000, 200],
    [2, 408],
  ] as const) {
    const client = await front.connect();
    client.send('POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n');
    for (let n = 0; n < 4 && client.text === ''; n += 1) {
      got = Promise.withResolvers();
      client.send(`${size.toString(16)}\r\n${'x'.repeat(size)}\r\n`);
      await Promise.race([got.promise, client.until(() => client.text !== '')]);
      later += 25_000;
    }
    if (status === 200) client.send('0\r\n\r\n');
    assert.equal((await client.answer()).status, status);
  }
  assert.equal((await front.logged('client_body_timeout')).facts['setting'], 'limits.request_body_rate');
});

both('a client that has drained a tunnel is not bound by the limits of an answer', async (t, engine) => {
  const accept = t.mock.method(HttpFront.prototype, 'accept');
  const message = 'm'.repeat(12_000_000);
  const backend = await new RawBackend(({ socket, text }) => {
    if (text.endsWith('again')) socket.write('here');
    else if (text.includes('/ws')) socket.write(`HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n${message}`);
    else if (text.endsWith('\r\n\r\n')) socket.write('HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc');
  }).listen(t);
  const front = await startFront(t, configOf({ engine, backends: [backend.url] }, { timeouts: { response_body: '50ms' } }));
  const client = await front.connect();
  client.socket.pause();
  client.send(get('/ws', 'Connection: Upgrade\r\nUpgrade: websocket\r\n'));
  await backend.until(([first]) => first?.text.endsWith('\r\n\r\n') === true);
  const socket = accept.mock.calls[0]?.arguments[0];
  await untilFull(socket);
  client.socket.resume();
  await client.until(() => client.text.endsWith(message));
  // Whatever bounds the tunnel by response_body now would end it before this one, which begins later.
  assert.match(await front.all(get('/stalls')), /abc$/);
  await front.logged('response_stalled');
  client.send('again');
  await client.until(() => client.text.endsWith('here'));
});

both('a head that comes byte by byte has no more time than one that stands still', async (t, engine) => {
  const front = await startFront(t, configOf({ engine, backends: ['http://127.0.0.1:1'] }, { timeouts: { request_header: '200ms' } }));
  const client = await front.connect();
  client.send('GET / HTTP/1.1\r\nHost: a.test\r\nX: ');
  const drip = setInterval(() => client.send('x'), 10);
  t.after(() => clearInterval(drip));
  assert.equal((await client.answer()).status, 408);
  clearInterval(drip);
});

both('what is left of a request behind its answer, and a client that does not close, are waited for 5 s', async (t, engine) => {
  const clock = new LeapingClock(t);
  const backend = await answering().listen(t);
  const front = await startFront(t, configOf({ engine, routes: [{ path: '/here', backends: [backend.url] }] }));
  const [owing, staying] = [await front.connect(), await front.connect()];
  owing.send('POST /nowhere HTTP/1.1\r\nHost: a.test\r\nContent-Length: 10\r\n\r\nabc');
  assert.equal((await owing.answer()).status, 404);
  staying.send(get('/here', 'Connection: close\r\n'));
  assert.equal((await staying.answer()).status, 200);
  await clock.leap(front, 2_500);
  assert.equal(front.front.open, 2);
  await clock.leap(front, 2_500);
  while (front.front.open > 0) await immediate();
  assert.equal(await owing.toEnd(), '');
});
