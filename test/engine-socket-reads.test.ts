import assert from 'node:assert/strict';
import { once } from 'node:events';
import * as net from 'node:net';
import type { Duplex } from 'node:stream';
import { test, type TestContext } from 'node:test';
import * as tls from 'node:tls';
import { Authority } from '../src/demo/authority.ts';
import { sharedBytes, takeReads } from '../src/engine/socket-reads.ts';

const limit = { timeout: 20_000 };

/** Both ends of a connection to this server. */
async function connected(
  t: TestContext,
  server: net.Server,
  event: string,
  connect: (port: number) => net.Socket,
): Promise<{ client: net.Socket; accepted: net.Socket }> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const client = connect((server.address() as net.AddressInfo).port);
  const [accepted] = (await once(server, event)) as [net.Socket];
  t.after(() => {
    client.destroy();
    server.close();
  });
  return { client, accepted };
}

/** What `client` says, as `accepted` reads it, and whether all of it came in the shared bytes. */
async function reads(client: Duplex, accepted: Duplex): Promise<{ text: string; isShared: boolean }> {
  let text = '';
  let isShared = true;
  takeReads(accepted, (bytes) => {
    text += bytes.toString();
    isShared &&= bytes.buffer === sharedBytes.buffer;
  });
  client.end('x'.repeat(100_000));
  await once(accepted, 'end');
  return { text, isShared };
}

test('what an accepted connection reads comes in the shared bytes, over TCP and over TLS', limit, async (t) => {
  const authority = await Authority.root('CA');
  const { chainPem: cert, keyPem: key } = await authority.issue({ names: ['a.test'] });
  const overTcp = await connected(t, net.createServer(), 'connection', (port) => net.connect(port, '127.0.0.1'));
  const overTls = await connected(t, tls.createServer({ cert, key }), 'secureConnection', (port) =>
    tls.connect({ port, host: '127.0.0.1', rejectUnauthorized: false }),
  );
  for (const { client, accepted } of [overTcp, overTls]) {
    assert.deepEqual(await reads(client, accepted), { text: 'x'.repeat(100_000), isShared: true });
  }
});

test('a socket that cannot read into them is read as a stream', limit, async (t) => {
  const { client, accepted } = await connected(t, net.createServer(), 'connection', (port) => net.connect(port, '127.0.0.1'));
  Object.defineProperty((accepted as net.Socket & { _handle: object })._handle, 'useUserBuffer', { value: undefined });
  assert.deepEqual(await reads(client, accepted), { text: 'x'.repeat(100_000), isShared: false });
});
