import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import test from 'node:test';
import { RawBackend, httpBackend } from './support/backend.ts';
import { configOf } from './support/config.ts';
import { startFront } from './support/front.ts';

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
