import assert from 'node:assert/strict';
import dns, { type LookupAddress } from 'node:dns';
import { once } from 'node:events';
import * as net from 'node:net';
import type { TestContext } from 'node:test';
import { unaccepting } from './support/backend.ts';
import { configOf } from './support/config.ts';
import { both, startFront } from './support/front.ts';

/** A listener on one address, which closes each connection after its answer, so that the next request connects anew. */
async function listenerAt(t: TestContext, host: string, port = 0): Promise<number> {
  const answer = `HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: ${host.length}\r\n\r\n${host}`;
  const server = net.createServer((socket) => socket.on('error', () => {}).on('data', () => socket.end(answer))).listen(port, host);
  await once(server, 'listening');
  t.after(() => server.close());
  return (server.address() as net.AddressInfo).port;
}

/** What the system would say of the name app.test. */
function resolving(t: TestContext, addresses: () => string[]): void {
  type Callback = (error: null, found: LookupAddress[] | string, family?: number) => void;
  const system = dns.lookup as unknown as (name: string, options: dns.LookupAllOptions, callback: Callback) => void;
  t.mock.method(dns, 'lookup', (name: string, options: dns.LookupAllOptions, callback: Callback) => {
    if (name !== 'app.test') return system(name, options, callback);
    const found = addresses().map((address) => ({ address, family: net.isIP(address) }));
    process.nextTick(() => (options.all ? callback(null, found) : callback(null, found[0]!.address, found[0]!.family)));
  });
}

const get = 'GET / HTTP/1.1\r\nHost: a.test\r\n\r\n';

for (const [listening, other] of [
  ['127.0.0.1', '::1'],
  ['::1', '127.0.0.1'],
] as const) {
  both(`of a name with two addresses the one that answers is used: ${listening}`, async (t, engine) => {
    const port = await listenerAt(t, listening);
    for (const addresses of [
      [listening, other],
      [other, listening],
    ]) {
      resolving(t, () => addresses);
      const front = await startFront(t, configOf({ engine, backends: [`http://app.test:${port}`] }));
      assert.equal((await front.ask(get)).body, listening);
      t.mock.restoreAll();
    }
  });
}

both('an address that does not answer holds the next one up for a moment only', async (t, engine) => {
  const { port } = new URL(await unaccepting(t));
  await listenerAt(t, '127.0.0.2', Number(port));
  resolving(t, () => ['127.0.0.1', '127.0.0.2']);
  const front = await startFront(t, configOf({ engine, backends: [`http://app.test:${port}`] }, { timeouts: { connect: '8s' } }));
  assert.equal((await front.ask(get)).body, '127.0.0.2');
});

both('when none answers, timeouts.connect holds for all together', async (t, engine) => {
  const { port } = new URL(await unaccepting(t));
  resolving(t, () => ['127.0.0.1', '127.0.0.1', '127.0.0.1']);
  const front = await startFront(t, configOf({ engine, backends: [`http://app.test:${port}`] }, { timeouts: { connect: '150ms' } }));
  assert.equal((await front.ask(get)).status, 504);
  assert.equal((await front.logged('backend_connect_timeout')).facts['setting'], 'timeouts.connect');
});

both('a name is looked up for each connection, so an application may move', async (t, engine) => {
  let address = '127.0.0.1';
  const port = await listenerAt(t, '127.0.0.1');
  await listenerAt(t, '127.0.0.2', port);
  resolving(t, () => [address]);
  const front = await startFront(t, configOf({ engine, backends: [`http://app.test:${port}`] }));
  assert.equal((await front.ask(get)).body, '127.0.0.1');
  address = '127.0.0.2';
  assert.equal((await front.ask(get)).body, '127.0.0.2');
});
