import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import * as http from 'node:http';
import type { AddressInfo } from 'node:net';
import test from 'node:test';
import { setImmediate as immediate } from 'node:timers/promises';
import { Http2Body, type BodyTaker } from '../src/engine/http2-body.ts';
import { Exchange } from '../src/proxy/exchange.ts';
import { httpBackend } from './support/backend.ts';
import { configOf } from './support/config.ts';
import { both } from './support/front.ts';
import { answerOf, errorCodes, Http2Client, startHttp2Front } from './support/http2.ts';

class Taker implements BodyTaker {
  readonly pieces: Buffer[] = [];
  readonly releases: (() => void)[] = [];
  takesMore = true;
  ends = 0;

  take(piece: Buffer, release?: () => void): boolean {
    this.pieces.push(piece);
    if (release) this.releases.push(release);
    return this.takesMore;
  }

  bodyEnded(): void {
    this.ends += 1;
  }

  fault(error: Error): void {
    throw error;
  }

  get text(): string {
    return Buffer.concat(this.pieces).toString();
  }
}

/** Adds bytes that are overwritten as soon as they have been looked at. */
function add(body: Http2Body, text: string): void {
  const bytes = Buffer.from(text);
  body.add(bytes);
  bytes.fill('!');
}

test('what comes in one turn goes on in one piece, and the end behind it', async () => {
  const taker = new Taker();
  const body = new Http2Body(taker, false);
  for (const letter of 'hello') add(body, letter);
  body.end([]);
  assert.deepEqual([taker.pieces.length, taker.ends], [0, 0]);
  await immediate();
  assert.deepEqual([taker.text, taker.pieces.length, taker.ends], ['hello', 1, 1]);
  const large = 'abc'.repeat(40_000);
  const other = new Taker();
  const more = new Http2Body(other, false);
  add(more, large);
  await immediate();
  assert.equal(other.text, large);
  assert.deepEqual([other.pieces.length, other.releases.length], [2, 2], 'buffers of 64 KB, to be used again');
});

test('what is not taken is held, in order, and the end with it', async () => {
  const taker = new Taker();
  const body = new Http2Body(taker, false);
  taker.takesMore = false;
  add(body, 'one ');
  await immediate();
  add(body, 'two ');
  add(body, 'x'.repeat(20_000));
  body.end([]);
  await immediate();
  assert.deepEqual([taker.text, taker.ends], ['one ', 0]);
  body.release();
  assert.deepEqual([taker.text, taker.ends], ['one two ', 0]);
  taker.takesMore = true;
  body.release();
  assert.deepEqual([taker.text, taker.ends], [`one two ${'x'.repeat(20_000)}`, 1]);
});

test('nothing is taken of a WebSocket before it is open, nor of a stream that is closed', async () => {
  const taker = new Taker();
  const body = new Http2Body(taker, true);
  add(body, 'early');
  body.end([]);
  await immediate();
  assert.deepEqual([taker.text, taker.ends], ['', 0]);
  body.release();
  assert.deepEqual([taker.text, taker.ends], ['early', 1]);
  const other = new Taker();
  const closed = new Http2Body(other, false);
  add(closed, 'late');
  closed.end([]);
  closed.close();
  await immediate();
  closed.release();
  assert.deepEqual([other.text, other.ends], ['', 0]);
});

both('a backend that stops reading stops its client, not its siblings, and gets everything in the end', async (t, engine) => {
  const asked = Promise.withResolvers<http.IncomingMessage>();
  const server = http.createServer((req, res) => {
    if (req.url === '/slow') asked.resolve(req);
    else res.end('ok');
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close().closeAllConnections());
  const front = await startHttp2Front(t, configOf({ engine, backends: [`http://127.0.0.1:${(server.address() as AddressInfo).port}`] }));
  const client = await Http2Client.connect(t, front.port, { maxSessionMemory: 64 });
  const bytes = randomBytes(30_000_000);
  const stream = client.open([':method', 'POST', ':path', '/slow'], { endStream: false });
  stream.end(bytes);
  const waiting = await asked.promise;
  // The kernel holds some megabytes; the client is stopped when none of this moves any more.
  for (let before = -1; before !== stream.bufferSize;) {
    before = stream.bufferSize;
    assert.equal((await client.get('/')).body, 'ok');
  }
  assert.ok(stream.bufferSize > 10_000_000, `${stream.bufferSize} bytes have not left the client`);
  const sum = createHash('sha256');
  waiting.on('data', (piece: Buffer) => sum.update(piece));
  await once(waiting, 'end');
  assert.equal(sum.digest('hex'), createHash('sha256').update(bytes).digest('hex'));
  stream.close();
  await answerOf(stream);
});

for (const method of ['body', 'bodyEnded', 'clientGone', 'clientDrained'] as const) {
  both(`an error of ours in ${method} ends its stream, and no other`, async (t, engine) => {
    const { url } = await httpBackend(t, (req, res) =>
      req.url === '/wait' ? undefined : req.url === '/large' ? res.end(Buffer.alloc(5_000_000)) : void req.pipe(res),
    );
    const front = await startHttp2Front(t, configOf({ engine, backends: [url] }));
    const client = await Http2Client.connect(t, front.port);
    const sibling = client.open([':method', 'POST', ':path', '/'], { endStream: false });
    sibling.write('a');
    await once(sibling, 'data');
    const broken = t.mock.method(Exchange.prototype, method, () => {
      broken.mock.restore();
      throw new Error('a fault');
    });
    const path = method === 'clientGone' ? '/wait' : method === 'clientDrained' ? '/large' : '/';
    const stream = client.open([':method', 'POST', ':path', path], { endStream: false });
    if (method === 'clientGone') stream.close(errorCodes.cancel);
    else stream.end('body');
    const { rstCode } = await answerOf(stream);
    assert.equal(rstCode, method === 'clientGone' ? errorCodes.cancel : errorCodes.internalError);
    assert.equal((await front.logged('internal')).message, 'internal error: a fault');
    sibling.end('b');
    assert.equal((await answerOf(sibling)).body, 'b');
  });
}
