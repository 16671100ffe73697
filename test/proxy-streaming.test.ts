import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import test from 'node:test';
import { RawBackend, flood } from './support/backend.ts';
import { configOf } from './support/config.ts';
import { both, startFront } from './support/front.ts';

const limit = { timeout: 20_000 };
const SIZE = 256 * 1024 * 1024;
const CHUNK = Buffer.alloc(1 << 16);
const MOST_GROWTH = 192 * 1024 * 1024;

/** Writes `size` bytes as fast as the other side takes them. */
function pour(socket: Socket, size: number): void {
  let left = size;
  const feed = (): void => {
    let room = true;
    while (left > 0 && room) {
      room = socket.write(CHUNK);
      left -= CHUNK.length;
    }
    if (left > 0) socket.once('drain', feed);
  };
  feed();
}

/** Counts bytes without keeping them, and how much the process has grown at most. */
function meter(socket: Socket, size: number): Promise<{ bytes: number; growth: number }> {
  const before = process.memoryUsage.rss();
  let bytes = 0;
  let growth = 0;
  return new Promise((resolve) => {
    socket.removeAllListeners('data');
    socket.on('data', (chunk: Buffer) => {
      bytes += chunk.length;
      growth = Math.max(growth, process.memoryUsage.rss() - before);
      if (bytes >= size) resolve({ bytes, growth });
    });
  });
}

for (const framing of ['length', 'chunked']) {
  const field = framing === 'length' ? `Content-Length: ${SIZE}` : 'Transfer-Encoding: chunked';

  test(`a large download by ${framing} is streamed`, limit, async (t) => {
    const backend = await new RawBackend(({ socket }) => {
      if (framing === 'length') socket.write(`HTTP/1.1 200 OK\r\n${field}\r\n\r\n`);
      else socket.write(`HTTP/1.1 200 OK\r\n${field}\r\n\r\n${SIZE.toString(16)}\r\n`);
      pour(socket, SIZE);
    }).listen(t);
    const front = await startFront(t, configOf({ backends: [backend.url] }));
    const client = await front.connect();
    const counted = meter(client.socket, SIZE);
    client.send('GET / HTTP/1.1\r\nHost: a.test\r\n\r\n');
    const { bytes, growth } = await counted;
    assert(bytes >= SIZE);
    assert(growth < MOST_GROWTH, `grew by ${growth} bytes`);
    client.socket.destroy();
  });

  test(`a large upload by ${framing} is streamed`, limit, async (t) => {
    let counted: Promise<{ bytes: number; growth: number }> | undefined;
    const backend = await new RawBackend(({ socket }) => {
      counted ??= meter(socket, SIZE);
    }).listen(t);
    const front = await startFront(t, configOf({ backends: [backend.url] }));
    const client = await front.connect();
    client.send(`POST / HTTP/1.1\r\nHost: a.test\r\n${field}\r\n\r\n${framing === 'length' ? '' : `${SIZE.toString(16)}\r\n`}`);
    await backend.until(() => counted !== undefined);
    pour(client.socket, SIZE);
    const result = await counted;
    assert(result && result.bytes >= SIZE - CHUNK.length);
    assert(result.growth < MOST_GROWTH, `grew by ${result.growth} bytes`);
    client.socket.destroy();
  });
}

both('a client that does not read stops the backend', async (t, engine) => {
  let sent = () => 0;
  const backend = await new RawBackend(({ socket }) => {
    socket.write('HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n');
    sent = flood(socket);
  }).listen(t);
  const front = await startFront(t, configOf({ engine, backends: [backend.url] }, { timeouts: { response_body: '300ms' } }));
  const client = await front.connect();
  client.socket.pause();
  client.send('GET / HTTP/1.1\r\nHost: a.test\r\n\r\n');
  await front.logged('response_stalled');
  assert(sent() < 100 * 1024 * 1024, `${sent()} bytes were taken`);
  client.socket.destroy();
});
