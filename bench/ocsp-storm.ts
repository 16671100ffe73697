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
 * The first fetch for many certificates from one responder, and what handshakes feel of it, compared with the quiet
 * afterwards: `node bench/ocsp-storm.ts [COUNT]`. Where all share two cores, the responder and the supervisor take CPU time from
 * the client as well, so the quiet is measured again beside dummies that take the same shares and do nothing.
 */

const count = Number(process.argv[2] ?? 10_000);
const quiet = 20_000;
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
const order: HandshakeOrder = { port: program.port, names: material.names.slice(0, 20), perSecond: 50 };
const clients = new Neighbour('handshakes.ts', JSON.stringify(order));
const pids = { supervisor: program.pid, worker: await program.workerPid(), responder: responder.pid, clients: clients.pid, bench: process.pid };
await setTimeout(500);
await clients.ask();

const during = async (work: () => Promise<unknown>) => {
  const { shares } = await cpuShares(pids, work);
  const times = (await clients.ask<number[]>()).toSorted((a, b) => a - b);
  const milliseconds = (q: number) => Number(quantile(times, q).toFixed(2));
  return { handshakes: times.length, p50_ms: milliseconds(0.5), p99_ms: milliseconds(0.99), cores: shares };
};
const beside = async (...shares: number[]) => {
  const dummies = shares.filter((share) => share > 0.01).map((share) => new Neighbour('dummy.ts', String(share)));
  await setTimeout(500);
  await clients.ask();
  const figures = await during(() => setTimeout(quiet));
  await Promise.all(dummies.map((dummy) => dummy.end()));
  return figures;
};

const storm = await during(() => done.promise);
const { asked, most } = await responder.ask<{ asked: number; most: number }>();
const peak = await program.memory('VmHWM');
await setTimeout(5_000);
const { responder: responderShare = 0, supervisor: supervisorShare = 0, bench: benchShare = 0 } = storm.cores;
const idle = await beside();
const idleBesideResponder = await beside(responderShare + benchShare);
const idleBesideAll = await beside(responderShare + benchShare, supervisorShare);

console.log(
  JSON.stringify({
    bench: 'ocsp-storm',
    certificates: count,
    listening_ms: Math.round(program.listeningAfter),
    storm_seconds: Number(((last - first) / 1000).toFixed(1)),
    most_connections: most,
    asked,
    supervisor_peak_mb: Math.round(peak / 1024),
    supervisor_after_mb: Math.round((await program.memory('VmRSS')) / 1024),
    storm,
    idle,
    idle_beside_dummy_responder: idleBesideResponder,
    idle_beside_dummy_supervisor_too: idleBesideAll,
    p99_ratio: Number((storm.p99_ms / idle.p99_ms).toFixed(2)),
    p99_ratio_beside_dummy_responder: Number((storm.p99_ms / idleBesideResponder.p99_ms).toFixed(2)),
  }),
);
await Promise.all([clients.end(), responder.end()]);
await program.stop();
await rm(folder, { recursive: true });
