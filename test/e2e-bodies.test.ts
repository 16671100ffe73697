import assert from 'node:assert/strict';
import { once } from 'node:events';
import * as http2 from 'node:http2';
import test, { type TestContext } from 'node:test';
import { setImmediate as immediate } from 'node:timers/promises';
import { httpBackend } from './support/backend.ts';
import { answerOf } from './support/http2.ts';
import { seeded } from './support/random.ts';
import { ServedSite } from './support/served-site.ts';

/** Buffers are read into again and again, for whoever has something to say: nobody may ever get what was another one's. */

const SIZES = [0, 1, 300, 4_096, 4_097, 8_193, 16_384, 65_535, 65_537, 150_000, 400_000];
const ROUNDS = 12;
const random = seeded(20_260_122);

function any<T>(values: readonly T[]): T {
  return values[Math.floor(random() * values.length)]!;
}

/** Says on every line whose it is. */
function bodyOf(name: string): Buffer {
  return Buffer.alloc(any(SIZES), `${name}\n`);
}

function* piecesOf(bytes: Buffer): Generator<Buffer> {
  for (let at = 0; at < bytes.length;) {
    const end = at + 1 + Math.floor(random() * any([200, 20_000, 50_000]));
    yield bytes.subarray(at, end);
    at = end;
  }
}

function chunked(body: Buffer): Buffer {
  const chunks = Array.from(piecesOf(body), (piece) => [Buffer.from(`${piece.length.toString(16)}\r\n`), piece, Buffer.from('\r\n')]);
  return Buffer.concat([...chunks.flat(), Buffer.from('0\r\n\r\n')]);
}

function assertSame(got: Buffer, body: Buffer, name: string): void {
  if (got.equals(body)) return;
  const at = got.findIndex((byte, i) => byte !== body[i]);
  assert.fail(`${name} got ${got.length} of ${body.length} bytes, from ${at} on ${JSON.stringify(got.subarray(at, at + 60).toString('latin1'))}`);
}

/** Sends back what it gets: by its length where that is known, else in chunks; or as a WebSocket would. */
async function echo(t: TestContext): Promise<string> {
  const { url, server } = await httpBackend(t, (req, res) => {
    const length = req.headers['content-length'];
    if (length !== undefined) res.setHeader('Content-Length', length);
    // Heads of more than one read, and connections that are new.
    if (random() < 0.2) res.setHeader('X-Long', `${req.url} `.repeat(1_000));
    if (random() < 0.2) res.setHeader('Connection', 'close');
    req.on('error', () => res.destroy());
    req.pipe(res);
  });
  server.on('upgrade', (_req, socket) => {
    socket.on('error', () => {});
    socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n');
    socket.pipe(socket);
  });
  return url;
}

async function http1(server: ServedSite, host: string, who: string): Promise<void> {
  const { raw } = await server.connect(host);
  for (let n = 0; n < ROUNDS; n += 1) {
    const name = `${who}-${n}`;
    const body = bodyOf(name);
    const [framing, framed] = random() < 0.5 ? ['Transfer-Encoding: chunked', chunked(body)] : [`Content-Length: ${body.length}`, body];
    const head = Buffer.from(`POST /${name} HTTP/1.1\r\nHost: ${host}\r\nX-Name: ${name}\r\n${framing}\r\n\r\n`);
    for (const piece of piecesOf(Buffer.concat([head, framed]))) {
      raw.socket.write(piece);
      if (random() < 0.5) await immediate();
    }
    if (random() < 0.3) {
      raw.socket.pause();
      for (let turns = 0; turns < 50; turns += 1) await immediate();
      raw.socket.resume();
    }
    assertSame(Buffer.from((await raw.answer()).body, 'latin1'), body, name);
  }
  raw.socket.destroy();
}

/** Goes away in the middle of what it sends or gets. */
async function leaving(server: ServedSite, host: string, who: string): Promise<void> {
  for (let n = 0; n < ROUNDS; n += 1) {
    const { raw } = await server.connect(host);
    raw.socket.on('error', () => {});
    const body = Buffer.alloc(200_000, `${who}-${n}\n`);
    raw.send(`POST / HTTP/1.1\r\nHost: ${host}\r\nContent-Length: ${body.length}\r\n\r\n${body.subarray(0, 20_000 + random() * 180_000).toString('latin1')}`);
    if (random() < 0.7) await raw.until(() => raw.text.length > 1000).catch(() => {});
    raw.socket.destroy();
  }
}

async function http2Streams(server: ServedSite, host: string, who: string): Promise<void> {
  const session = http2.connect(`https://127.0.0.1:${server.port}`, { ca: server.site.root.pem, servername: host });
  await once(session, 'connect');
  const streams = Array.from({ length: 3 }, async (_, one) => {
    for (let n = 0; n < ROUNDS; n += 1) {
      const name = `${who}-${one}-${n}`;
      const body = bodyOf(name);
      const stream = session.request({ ':method': 'POST', ':authority': host, ...(random() < 0.5 && { 'content-length': body.length }) });
      const answer = answerOf(stream);
      for (const piece of piecesOf(body)) stream.write(piece);
      stream.end();
      assertSame(Buffer.from((await answer).body, 'latin1'), body, name);
    }
  });
  await Promise.all(streams);
  session.destroy();
}

async function tunnel(server: ServedSite, host: string, who: string): Promise<void> {
  const { raw } = await server.connect(host);
  raw.send(`GET /${who} HTTP/1.1\r\nHost: ${host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n`);
  await raw.until(() => raw.text.endsWith('\r\n\r\n'));
  for (let n = 0; n < ROUNDS; n += 1) {
    const name = `${who}-${n}`;
    const isLong = n === 5;
    const body = isLong ? Buffer.alloc(6_000_000, `${name}\n`) : bodyOf(name);
    raw.text = '';
    // More small frames than the kernel holds, for a client that does not read.
    if (isLong) raw.socket.pause();
    for (let at = 0; at < body.length; at += 2_000) raw.socket.write(body.subarray(at, at + 2_000));
    for (let turns = isLong ? 200 : 0; turns > 0; turns -= 1) await immediate();
    raw.socket.resume();
    await raw.until(() => raw.text.length >= body.length);
    assertSame(Buffer.from(raw.text, 'latin1'), body, name);
  }
  raw.socket.destroy();
}

test('what many clients send and get at a time is never mixed up', { timeout: 60_000 }, async (t) => {
  const backends = [await echo(t)];
  const server = await ServedSite.start(t, { 'app.test': { backends }, 'old.test': { backends, engine: 'http-proxy' } });
  const clients = [http1, http1, http1, http2Streams, http2Streams, tunnel, tunnel, leaving];
  await Promise.all(['app.test', 'old.test'].flatMap((host) => clients.map((client, n) => client(server, host, `${host}-${client.name}-${n}`))));
});
