import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import test from 'node:test';
import { RawBackend, httpBackend } from './support/backend.ts';
import { Exchange } from '../src/proxy/exchange.ts';
import { configOf } from './support/config.ts';
import { both, startFront } from './support/front.ts';

const limit = { timeout: 10_000 };

function get(path: string): string {
  return `GET ${path} HTTP/1.1\r\nHost: a.test\r\n\r\n`;
}

test('buffers are read into again only when nobody needs their bytes', limit, async (t) => {
  const value = 'v'.repeat(20_000);
  let finish = (): void => {};
  const halting = await new RawBackend(({ socket, text }) => {
    if (!text.includes('\r\n\r\n')) return;
    socket.write(`HTTP/1.1 200 OK\r\nX-Long: ${value}`);
    finish = () => socket.write('\r\nContent-Length: 2\r\n\r\nok');
  }).listen(t);
  const big = Buffer.alloc(3_000_000, 'b');
  const busy = await httpBackend(t, (_req, res) => res.end(big));
  const routes = [
    { path: '/', backends: [busy.url] },
    { path: '/halting', backends: [halting.url] },
  ];
  const front = await startFront(t, configOf({ routes }));
  const waiting = await front.connect();
  waiting.send(get('/halting'));
  await halting.until(([first]) => first?.text.includes('\r\n\r\n') === true);
  for (let n = 0; n < 5; n += 1) {
    const { body } = await front.ask(get('/'));
    assert.equal(createHash('sha256').update(body, 'latin1').digest('hex'), createHash('sha256').update(big).digest('hex'));
  }
  finish();
  const { head, body } = await waiting.answer();
  assert.equal(/^X-Long: (.*)$/m.exec(head)?.[1], value);
  assert.equal(body, 'ok');
});

test('slow clients get each their own bytes', limit, async (t) => {
  const { url } = await httpBackend(t, (req, res) => res.end(Buffer.alloc(2_000_000, req.url?.slice(1))));
  const front = await startFront(t, configOf({ backends: [url] }));
  const clients = await Promise.all(Array.from('abcdef', async (letter) => ({ letter, client: await front.connect() })));
  for (const { letter, client } of clients) {
    client.socket.pause();
    client.send(get(`/${letter}`));
  }
  for (const { letter, client } of clients.toReversed()) {
    client.socket.resume();
    assert.equal((await client.answer()).body, letter.repeat(2_000_000));
  }
});

test('clients that send at the same time to a slow backend have each their own bytes sent', limit, async (t) => {
  const letters = 'abcdef';
  const size = 2_000_000;
  const arrived: (() => void)[] = [];
  const { url } = await httpBackend(t, (req, res) => {
    arrived.push(() => req.pipe(res));
    if (arrived.length === letters.length) for (const go of arrived) go();
  });
  const front = await startFront(t, configOf({ backends: [url] }));
  await Promise.all(
    Array.from(letters, async (letter, n) => {
      const client = await front.connect();
      const body = letter.repeat(size);
      const chunk = `${(size / 100).toString(16)}\r\n${letter.repeat(size / 100)}\r\n`;
      const framed = n % 2 === 0 ? `Content-Length: ${size}\r\n\r\n${body}` : `Transfer-Encoding: chunked\r\n\r\n${chunk.repeat(100)}0\r\n\r\n`;
      client.send(`POST / HTTP/1.1\r\nHost: a.test\r\n${framed}`);
      assert.equal((await client.answer()).body, body);
    }),
  );
});

both('an error of ours in one exchange costs that exchange, not the process', async (t, engine) => {
  const waiting = Promise.withResolvers<() => void>();
  const { url } = await httpBackend(t, (req, res) => (req.url === '/slow' ? waiting.resolve(() => res.end('good')) : res.end('bad')));
  const front = await startFront(t, configOf({ engine, backends: [url] }));
  const slow = await front.connect();
  slow.send(get('/slow'));
  const answer = await waiting.promise;
  const broken = t.mock.method(Exchange.prototype, 'received', () => {
    broken.mock.restore();
    throw new Error('a fault');
  });
  assert.doesNotMatch(await front.all(get('/bad')), /bad/);
  const { level, message } = await front.logged('internal');
  assert.deepEqual([level, message], ['error', 'internal error: a fault']);
  answer();
  assert.equal((await slow.answer()).body, 'good');
});

const POST = 'POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\n\r\n';

for (const method of ['connected', 'answered', 'ended', 'clientGone', 'expire', 'body'] as const) {
  both(`an error of ours in ${method} is contained`, async (t, engine) => {
    const answering = method !== 'expire' && method !== 'clientGone';
    const backend = await new RawBackend(({ socket, text }) => {
      if (answering && text.endsWith('body')) socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
    }).listen(t);
    const front = await startFront(t, configOf({ engine, backends: [backend.url] }, { timeouts: { response_header: method === 'expire' ? '1ms' : '10s' } }));
    const broken = t.mock.method(Exchange.prototype, method, () => {
      throw new Error(method);
    });
    const client = await front.connect();
    client.send(`${POST}body`);
    if (method === 'clientGone') {
      await backend.until(([first]) => first?.text.endsWith('body') === true);
      client.socket.resetAndDestroy();
    } else await client.toEnd();
    assert.equal((await front.logged('internal')).message, `internal error: ${method}`);
    broken.mock.restore();
    await backend.until((connections) => connections.every(({ ended, socket }) => ended || socket.destroyed));
  });
}
