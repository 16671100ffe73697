import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import test, { before, type TestContext } from 'node:test';
import * as tls from 'node:tls';
import { Authority } from '../src/demo/authority.ts';
import { HttpFront } from '../src/engine/http-front.ts';
import { RawBackend, httpBackend } from './support/backend.ts';
import { configOf } from './support/config.ts';
import { RawClient } from './support/front.ts';

const limit = { timeout: 10_000 };
let pair: { key: string; cert: string };

before(async () => {
  const { chainPem, keyPem } = await (await Authority.root('proxy over TLS')).issue({ names: ['a.test'] });
  pair = { key: keyPem, cert: chainPem };
});

/** The real thing without the choice of certificates: Node's handshake in front, TLS sockets handed over. */
async function startTls(t: TestContext, backend: string): Promise<{ front: HttpFront; connect: () => Promise<RawClient> }> {
  const log = { error: () => {}, warn: () => {}, info: () => {}, debug: () => {} };
  const front = new HttpFront({ config: configOf({ backends: [backend] }), log });
  const server = tls.createServer(pair, (socket) =>
    front.accept(socket, { clientAddress: '192.0.2.7', clientPort: 1, protocol: 'https', localAddress: '198.51.100.1', localPort: 443, virtualHost: 'a.test' }),
  );
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(async () => {
    server.close();
    await front.close(0);
  });
  const { port } = server.address() as AddressInfo;
  const connect = async (): Promise<RawClient> => {
    const socket = tls.connect({ port, host: '127.0.0.1', rejectUnauthorized: false });
    await once(socket, 'secureConnect');
    return new RawClient(socket);
  };
  return { front, connect };
}

test('requests of one TLS connection, with bodies both ways, and pipelined', limit, async (t) => {
  const { url } = await httpBackend(t, (req, res) => void req.pipe(res));
  const { front, connect } = await startTls(t, url);
  const client = await connect();
  const body = 'x'.repeat(2_000_000);
  const post = `POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
  for (let n = 0; n < 2; n += 1) {
    client.send(post);
    assert.equal((await client.answer()).body.length, body.length);
  }
  client.send('GET / HTTP/1.1\r\nHost: a.test\r\n\r\n'.repeat(4));
  for (let n = 0; n < 4; n += 1) assert.equal((await client.answer()).status, 200);
  assert.equal(front.open, 1);
  const closed = front.close(60_000);
  assert.equal(await client.toEnd(), '');
  assert.equal(client.reset, false, 'a close_notify, not a reset');
  await closed;
});

test('bodies and messages of several TLS clients at the same time', limit, async (t) => {
  const { url, server } = await httpBackend(t, (req, res) => void req.pipe(res));
  server.on('upgrade', (_req, socket, early) => {
    socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n');
    socket.write(early);
    socket.pipe(socket);
  });
  const { connect } = await startTls(t, url);
  await Promise.all(
    Array.from('abcdef', async (letter, n) => {
      const client = await connect();
      const body = letter.repeat(1_000_000);
      if (n % 2 === 0) {
        client.send(`POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
        assert.equal((await client.answer()).body, body);
      } else {
        client.send(`GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n${body}`);
        await client.until(() => client.text.length >= client.text.indexOf('\r\n\r\n') + 4 + body.length);
        assert(client.text.endsWith(`\r\n\r\n${body}`));
      }
      client.socket.destroy();
    }),
  );
});

test('a WebSocket over TLS', limit, async (t) => {
  const backend = await new RawBackend(({ socket, text }) => {
    if (text.endsWith('\r\n\r\n')) socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello');
    else socket.end('bye');
  }).listen(t);
  const { connect } = await startTls(t, backend.url);
  const client = await connect();
  client.send('GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nearly');
  await client.until(() => client.text.endsWith('hello') || client.text.endsWith('bye'));
  assert.match(await client.toEnd(), /^HTTP\/1.1 101 [^]*\r\n\r\nhellobye$/);
  assert(backend.text.endsWith('\r\n\r\nearly'));
});

test('a TLS client that goes away takes its backend connection with it', limit, async (t) => {
  const backend = await new RawBackend(() => {}).listen(t);
  const { connect } = await startTls(t, backend.url);
  const requests = [
    'GET / HTTP/1.1\r\nHost: a.test\r\n\r\n',
    'POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nab',
    'GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n',
  ];
  for (const request of requests) {
    const count = backend.connections.length + 1;
    const client = await connect();
    client.send(request);
    await backend.until((connections) => connections.length === count && connections.at(-1)?.text.includes('\r\n\r\n') === true);
    client.socket.destroy();
    await backend.until((connections) => connections.every(({ ended, socket }) => ended || socket.destroyed));
  }
});
