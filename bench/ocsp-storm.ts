import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout } from 'node:timers/promises';
import type { HandshakeOrder } from './handshakes.ts';
import { makeMaterial, quantile } from './material.ts';
import { cpuShares, Neighbour } from './neighbour.ts';
import { Program } from './program.ts';
import { signedAnswers } from './responder.ts';

/**
 * The first fetch for many certificates from one responder, and what handshakes feel of it: `node bench/ocsp-storm.ts [COUNT]`. Every
 * few seconds the responder is stopped, and with it the storm, so that handshakes with and without it are measured in turn, beside
 * the same neighbours.
 */

const count = Number(process.argv[2] ?? 10_000);
/** Milliseconds of storm, and of the pause that follows: less than a question may take. */
const turn = 9_000;
const rest = 2_000;
const startup = 4_000;
const folder = await mkdtemp(path.join(tmpdir(), 'staplegate-bench-'));
const responder = new Neighbour('responder-process.ts');
const { port } = await responder.ask<{ port: number }>();
const material = await makeMaterial(folder, count, [`http://127.0.0.1:${port}/`]);
await responder.ask({ answers: await signedAnswers(material) });

let good = 0;
let first = 0;
let last = 0;
const done = Promise.withResolvers<void>();
const program = await Program.start(folder, material, (line, after) => {
  if (!line.includes('result=good')) return;
  first ||= after;
  last = after;
  if (++good === count) done.resolve();
});
const order: HandshakeOrder = { port: program.port, names: material.names.slice(0, 20), perSecond: 100 };
const clients = new Neighbour('handshakes.ts', JSON.stringify(order));
const pids = { supervisor: program.pid, worker: await program.workerPid(), responder: responder.pid, clients: clients.pid, bench: process.pid };
await setTimeout(500);
await clients.ask();

interface Handshakes {
  times: number[];
  cores: Record<string, number>[];
}
const during = async ({ times, cores }: Handshakes, work: () => Promise<unknown>): Promise<void> => {
  const { shares } = await cpuShares(pids, work);
  cores.push(shares);
  times.push(...(await clients.ask<number[]>()));
};
const figures = ({ times, cores }: Handshakes) => {
  const sorted = times.toSorted((a, b) => a - b);
  const milliseconds = (q: number) => Number(quantile(sorted, q).toFixed(2));
  const share = (name: string) => Number((cores.reduce((sum, shares) => sum + shares[name]!, 0) / cores.length).toFixed(2));
  return {
    handshakes: times.length,
    p50_ms: milliseconds(0.5),
    p99_ms: milliseconds(0.99),
    cores: Object.fromEntries(Object.keys(pids).map((name) => [name, share(name)])),
  };
};

const starting: Handshakes = { times: [], cores: [] };
const storming: Handshakes = { times: [], cores: [] };
const pausing: Handshakes = { times: [], cores: [] };
// The start has work of its own: all certificates are looked at again when they are watched.
await during(starting, () => Promise.race([setTimeout(startup), done.promise]));
for (;;) {
  await during(storming, () => Promise.race([setTimeout(turn), done.promise]));
  if (good === count) break;
  process.kill(responder.pid, 'SIGSTOP');
  await setTimeout(200);
  await clients.ask();
  await during(pausing, () => setTimeout(rest));
  process.kill(responder.pid, 'SIGCONT');
  await setTimeout(200);
  await clients.ask();
}
const { asked, most } = await responder.ask<{ asked: number; most: number }>();
const peak = await program.memory('VmHWM');
const start = figures(starting);
const storm = figures(storming);
const pause = figures(pausing);

console.log(
  JSON.stringify({
    bench: 'ocsp-storm',
    certificates: count,
    listening_ms: Math.round(program.listeningAfter),
    storm_seconds: Number(((last - first) / 1000).toFixed(1)),
    paused_seconds: (pausing.cores.length * (rest + 200)) / 1000,
    most_connections: most,
    asked,
    supervisor_peak_mb: Math.round(peak / 1024),
    supervisor_after_mb: Math.round((await program.memory('VmRSS')) / 1024),
    start,
    storm,
    pause,
    p99_ratio: Number((storm.p99_ms / pause.p99_ms).toFixed(2)),
  }),
);
await Promise.all([clients.end(), responder.end()]);
await program.stop();
await rm(folder, { recursive: true });
