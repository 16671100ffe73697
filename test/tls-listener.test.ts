import assert from 'node:assert/strict';
import { once } from 'node:events';
import * as net from 'node:net';
import test from 'node:test';
import { noConnections } from '../src/connection-counters.ts';
import { Sockets } from '../src/supervisor/sockets.ts';
import { Admission } from '../src/tls/admission.ts';
import { Listener } from '../src/tls/listener.ts';
import { configOf } from './support/config.ts';
import { recordedLog } from './support/stapling.ts';

test('who waits in the queue of a socket that is closed is accepted before', { timeout: 10_000 }, async () => {
  const config = configOf({ backends: ['http://127.0.0.1:1'] }, { listen: [{ address: '127.0.0.1:0' }] });
  const [socket] = await new Sockets(new Map()).open(config.listen);
  const log = recordedLog();
  const limits = { connections: 1000, handshakes: 500, connectionsPerAddress: undefined };
  const listener = new Listener({
    listen: config.listen[0]!,
    config: () => config,
    log,
    admission: new Admission({ counters: noConnections(), limits, log, makeRoom: () => {} }),
    onConnection: (arrival) => {
      arrival.settled();
      arrival.socket.end('accepted');
    },
  });
  await listener.start(socket!.fd);
  const port = Number(socket!.where.split(':')[1]);
  const clients = Array.from({ length: 50 }, () => net.connect(port, '127.0.0.1'));
  const answers = clients.map(async (client) => {
    let text = '';
    client.setEncoding('utf8').on('data', (piece: string) => (text += piece));
    await once(client, 'close');
    return text;
  });
  // The system calls are made in the next tick: the kernel has all of them in its queue, and nobody has accepted yet.
  await new Promise((resolve) => process.nextTick(resolve));
  await listener.close();
  assert.deepEqual(new Set(await Promise.all(answers)), new Set(['accepted']));
  await assert.rejects(once(net.connect(port, '127.0.0.1'), 'connect'), { code: 'ECONNREFUSED' });
});
