import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import * as net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { configOf, makeMaterial, quantile } from './material.ts';
import { startSignedResponder } from './responder.ts';

/**
 * The first fetch for many certificates from one responder, and what handshakes feel of it, compared with the quiet
 * afterwards: `node bench/ocsp-storm.ts [COUNT]`.
 */

const count = Number(process.argv[2] ?? 10_000);
const folder = await mkdtemp(path.join(tmpdir(), 'staplegate-bench-'));
const placeholder = net.createServer().listen(0, '127.0.0.1');
await once(placeholder, 'listening');
const { port: responderPort } = placeholder.address() as net.AddressInfo;
const material = await makeMaterial(folder, count, [`http://127.0.0.1:${responderPort}/`]);
const responder = await startSignedResponder(material);
const config = path.join(folder, 'config.yaml');
placeholder.close();
await responder.listen(responderPort);
await writeFile(config, configOf(material.names, material.certificatesDir, folder, 1));

const program = spawn(process.execPath, [fileURLToPath(new URL('../src/main.ts', import.meta.url)), 'run', '--config', config], {
  stdio: ['ignore', 'inherit', 'pipe'],
});
let good = 0;
let port = 0;
const serving = Promise.withResolvers<void>();
const done = Promise.withResolvers<void>();
createInterface({ input: program.stderr }).on('line', (line) => {
  port = Number(/listening on 127\.0\.0\.1:(\d+)/.exec(line)?.[1] ?? port);
  if (line.includes(' serving ')) serving.resolve();
  if (line.includes('result=good')) {
    good += 1;
    if (good === count) done.resolve();
  }
});
await serving.promise;

const clients = new Worker(new URL('handshakes.ts', import.meta.url), { workerData: { port, names: material.names.slice(0, 20), perSecond: 50 } });
const report = async (): Promise<number[]> => {
  clients.postMessage('report');
  const [times] = (await once(clients, 'message')) as [number[]];
  return times.toSorted((a, b) => a - b);
};
const started = performance.now();
await done.promise;
const storm = await report();
const took = (performance.now() - started) / 1000;
await setTimeout(2_000);
await report();
await setTimeout(20_000);
const idle = await report();
const memory = Number(/VmHWM:\s+(\d+)/.exec(await readFile(`/proc/${program.pid}/status`, 'utf8'))?.[1]);
const figures = (times: number[]) => ({
  handshakes: times.length,
  p50_ms: Number(quantile(times, 0.5).toFixed(2)),
  p99_ms: Number(quantile(times, 0.99).toFixed(2)),
});
console.log(
  JSON.stringify({
    bench: 'ocsp-storm',
    certificates: count,
    seconds: Number(took.toFixed(1)),
    most_at_once: responder.most(),
    asked: responder.asked(),
    supervisor_peak_mb: Math.round(memory / 1024),
    idle: figures(idle),
    storm: figures(storm),
    p99_ratio: Number((quantile(storm, 0.99) / quantile(idle, 0.99)).toFixed(2)),
  }),
);
await clients.terminate();
program.kill('SIGTERM');
await once(program, 'exit');
responder.close();
await rm(folder, { recursive: true });
