import assert from 'node:assert/strict';
import test from 'node:test';
import { RawBackend } from './support/backend.ts';
import { configOf } from './support/config.ts';
import { startFront } from './support/front.ts';

test('a backend connection with a PROXY header carries requests of one client only', { timeout: 10_000 }, async (t) => {
  const asked = (text: string): number => text.split('\r\n\r\n').length - 1;
  const backend = await new RawBackend((connection) => {
    if (!connection.text.endsWith('\r\n\r\n')) return;
    const upgrade = connection.text.includes('Upgrade: websocket');
    connection.socket.write(
      upgrade ? 'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n' : 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok',
    );
  }).listen(t);
  const front = await startFront(t, configOf({ routes: [{ backends: [backend.url], proxy_protocol: 'v1' }] }));
  const clients = [await front.connect(), await front.connect()];
  for (let n = 0; n < 3; n += 1) {
    for (const client of clients) {
      client.send('GET / HTTP/1.1\r\nHost: a.test\r\n\r\n');
      assert.equal((await client.answer()).status, 200);
    }
  }
  const header = (port: number | undefined): string => `PROXY TCP4 192.0.2.7 198.51.100.1 ${port} 443\r\nGET / HTTP/1.1\r\n`;
  assert.equal(backend.connections.length, 2);
  for (const [n, { socket }] of clients.entries()) {
    const text = backend.connections[n]?.text ?? '';
    assert.ok(text.startsWith(header(socket.localPort)), text);
    assert.equal(text.split('PROXY ').length, 2, 'once for a connection');
    assert.equal(asked(text), 3, 'which is kept');
  }

  const tunnel = await front.connect();
  tunnel.send(
    'GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n',
  );
  await tunnel.until(() => tunnel.text.startsWith('HTTP/1.1 101 '));
  assert.ok(backend.connections[2]?.text.startsWith(header(tunnel.socket.localPort)), 'a WebSocket, too');
  tunnel.socket.destroy();
});
