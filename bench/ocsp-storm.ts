import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { makeMaterial, quantile } from './material.ts';
import { Program } from './program.ts';
import { SignedResponder } from './responder.ts';

/**
 * The first fetch for many certificates from one responder, and what handshakes feel of it, compared with the quiet
 * afterwards: `node bench/ocsp-storm.ts [COUNT]`.
 */

const count = Number(process.argv[2] ?? 10_000);
const folder = await mkdtemp(path.join(tmpdir(), 'staplegate-bench-'));
const responder = new SignedResponder();
const material = await makeMaterial(folder, count, [await responder.listen()]);
await responder.sign(material);

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
const clients = new Worker(new URL('handshakes.ts', import.meta.url), {
  workerData: { port: program.port, names: material.names.slice(0, 20), perSecond: 50 },
});
const report = async (): Promise<number[]> => {
  clients.postMessage('report');
  const [times] = (await once(clients, 'message')) as [number[]];
  return times.toSorted((a, b) => a - b);
};
await done.promise;
const storm = await report();
await setTimeout(5_000);
await report();
await setTimeout(20_000);
const idle = await report();

const figures = (times: number[]) => ({
  handshakes: times.length,
  p50_ms: Number(quantile(times, 0.5).toFixed(2)),
  p99_ms: Number(quantile(times, 0.99).toFixed(2)),
});
console.log(
  JSON.stringify({
    bench: 'ocsp-storm',
    certificates: count,
    listening_ms: Math.round(program.listeningAfter),
    storm_seconds: Number(((last - first) / 1000).toFixed(1)),
    most_connections: responder.most,
    asked: responder.asked,
    supervisor_peak_mb: Math.round((await program.memory('VmHWM')) / 1024),
    supervisor_after_mb: Math.round((await program.memory('VmRSS')) / 1024),
    idle: figures(idle),
    storm: figures(storm),
    p99_ratio: Number((quantile(storm, 0.99) / quantile(idle, 0.99)).toFixed(2)),
  }),
);
await clients.terminate();
await program.stop();
responder.close();
await rm(folder, { recursive: true });
