import type { KeyType } from './credentials.ts';
import { cpuOf, inTurn, type Measure } from './round-robin.ts';
import { handshakes } from './tls-clients.ts';

const warmUpCount = 300;

/** CPU per connection: handshake and close, nothing sent in between. Staplegate staples, the others have no staple to send. */
export function handshakeCost({ keyType = 'ecdsa', resumed = false }: { keyType?: KeyType; resumed?: boolean }): Measure {
  return (bench, peers) =>
    inTurn<number>(bench, peers, {
      keyType,
      staple: true,
      async warmUp({ port }, { seconds }) {
        const started = performance.now();
        await handshakes({ port, count: warmUpCount, resumed });
        return Math.ceil((warmUpCount * 1000 * seconds) / (performance.now() - started));
      },
      async round(server, count) {
        let stapled = 0;
        const cpu = await cpuOf(server, async () => {
          stapled = await handshakes({ port: server.port, count, resumed });
          return count;
        });
        return { cpu, stapled: stapled / count };
      },
    });
}
