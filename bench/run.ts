import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { startBackend } from './backend.ts';
import { makeCredentials } from './credentials.ts';
import { median } from './material.ts';
import { peers, peerVersion, startPeer } from './peers.ts';
import { cpuMicroseconds } from './process-tree.ts';
import { rows, runLoad } from './rows.ts';
import type { ServerProcess } from './server-process.ts';

const help = `Usage: node bench/run.ts [options]

CPU time per operation of Staplegate and its peers: same backend, same client, in turn.

  --only ROW,…        of: ${Object.keys(rows).join(', ')}
  --peers PEER,…      of: ${Object.keys(peers).join(', ')}
  --rounds N          measurements of each peer; the median counts (default 3)
  --seconds N         about the length of one measurement (default 3)
  --engine NAME       Staplegate's forwarding engine
  --floor             also what Node's TLS alone costs: floor-answer and floor-relay
  --cpu-prof FOLDER   CPU profiles of Staplegate's processes
`;

const { values } = parseArgs({
  options: {
    only: { type: 'string' },
    peers: { type: 'string' },
    rounds: { type: 'string', default: '3' },
    seconds: { type: 'string', default: '3' },
    engine: { type: 'string' },
    floor: { type: 'boolean' },
    'cpu-prof': { type: 'string' },
    help: { type: 'boolean' },
  },
});
if (values.help) {
  process.stdout.write(help);
  process.exit(0);
}

const names = (list: string | undefined, known: object, what: string): string[] | undefined => {
  const given = list?.split(',');
  const unknown = given?.find((name) => !Object.hasOwn(known, name));
  if (unknown !== undefined) {
    process.stderr.write(`${what} ${unknown}: not one of ${Object.keys(known).join(', ')}\n`);
    process.exit(2);
  }
  return given;
};
const chosenRows = names(values.only, rows, 'row') ?? Object.keys(rows);
const asked = names(values.peers, peers, 'peer') ?? Object.keys(peers).filter((name) => !name.startsWith('floor'));
if (values.floor) asked.push('floor-answer', 'floor-relay');
const options = {
  ...(values.engine !== undefined && { engine: values.engine }),
  ...(values['cpu-prof'] !== undefined && { cpuProfiles: path.resolve(values['cpu-prof']) }),
};

const folder = await mkdtemp(path.join(tmpdir(), 'staplegate-bench-'));
try {
  const credentials = await makeCredentials(folder, 'ecdsa');
  await using backend = await startBackend(folder);
  for (const name of chosenRows) {
    const row = rows[name]!;
    const taking = asked.filter((peer) => peers[peer]!.speaks.includes(row.protocol) && peerVersion(peer) !== undefined);
    const servers = new Map<string, ServerProcess>();
    const requests = new Map<string, number>();
    const figures = new Map<string, number[]>(taking.map((peer) => [peer, []]));
    try {
      for (const peer of taking) {
        const server = await startPeer(peer, { folder, backend: backend.port, workers: 1, credentials, staple: false, options });
        servers.set(peer, server);
        const { perSecond } = await runLoad(row, server.port, { seconds: 2 });
        requests.set(peer, Math.round(perSecond * Number(values.seconds)));
      }
      for (let round = 0; round < Number(values.rounds); round += 1) {
        for (const [peer, server] of servers) {
          const before = server.cpuTimes();
          const loaded = await runLoad(row, server.port, { requests: requests.get(peer)! });
          const cpu = cpuMicroseconds(before, server.cpuTimes()) / loaded.requests;
          figures.get(peer)!.push(cpu);
          process.stderr.write(`${name} ${peer}: ${cpu.toFixed(2)} µs CPU, ${Math.round(loaded.perSecond)} per second\n`);
        }
      }
    } finally {
      for (const server of servers.values()) await server.stop();
    }
    const reference = median(figures.get('nginx') ?? []);
    console.log(row.title);
    for (const [peer, all] of figures) {
      const figure = median(all);
      console.log(`  ${peer.padEnd(14)} ${figure.toFixed(1).padStart(8)} µs  ${(figure / reference).toFixed(2).padStart(6)} × nginx`);
    }
  }
} finally {
  await rm(folder, { recursive: true });
}
