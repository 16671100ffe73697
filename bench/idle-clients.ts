import { setTimeout as delay } from 'node:timers/promises';
import type * as tls from 'node:tls';
import { serverName } from './credentials.ts';
import { startedAnew, startWith, type Measure } from './round-robin.ts';
import { connect, event } from './tls-clients.ts';

const request = `GET /small HTTP/1.1\r\nHost: ${serverName}\r\n\r\n`;
const atOnce = 20;
const heatingRequests = 2_000;
/** For garbage to be collected and freed pages to be given back. */
const settleMs = 3_000;

async function ask(socket: tls.TLSSocket): Promise<void> {
  socket.write(request);
  await event(socket, 'data');
}

/** Memory per client that has had one answer and stays connected, beyond what the server needs once warm. */
export function idleClients(count: number): Measure {
  return (bench, peers) =>
    startedAnew(
      bench,
      peers,
      (name) => startWith(bench, name, {}),
      async (server) => {
        const first = await connect(server.port);
        for (let n = 0; n < heatingRequests; n += 1) await ask(first);
        await delay(settleMs);
        const before = server.memory();
        const clients: tls.TLSSocket[] = [];
        while (clients.length < count) {
          const group = await Promise.all(Array.from({ length: Math.min(atOnce, count - clients.length) }, () => connect(server.port)));
          await Promise.all(group.map(ask));
          clients.push(...group);
        }
        await delay(settleMs);
        const after = server.memory();
        const lost = clients.filter((client) => client.destroyed || client.readableEnded).length;
        for (const client of [first, ...clients]) client.destroy();
        if (lost > 0) throw new Error(`${lost} of ${count} clients were disconnected`);
        return { kilobytes: (after - before) / count / 1024, idle: before / 1024 / 1024 };
      },
    );
}
