import { once } from 'node:events';
import type * as http from 'node:http';
import * as https from 'node:https';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { type Assault, assaults } from './assaults.ts';
import { startApplication } from './backend.ts';
import { makeCredentials, serverName } from './credentials.ts';
import { quantile } from './material.ts';
import { startPeer } from './peers.ts';
import { cpuMicroseconds } from './process-tree.ts';

/**
 * What clients that do harm cost the good one beside them, and the memory of all processes of the server:
 * `node bench/overload.ts [COUNT] [SECONDS] [ASSAULT,…|all] [PEER,…]`. One line of JSON each. The assault, the good client and the
 * application share the machine with the server, so `nothing` and another server in the same run are what to compare with.
 */

const MEGABYTE = 1024 ** 2;

/** Round trips of a good client in ms, in order of length: one kept connection, one request every 5 ms. */
async function goodClient(port: number, seconds: number): Promise<{ times: number[]; failed: number }> {
  const agent = new https.Agent({ keepAlive: true, maxSockets: 1, rejectUnauthorized: false, servername: serverName });
  const times: number[] = [];
  let failed = 0;
  const end = performance.now() + seconds * 1_000;
  while (performance.now() < end) {
    const began = performance.now();
    const request = https.get({ host: '127.0.0.1', port, path: '/small', headers: { host: serverName }, agent, timeout: 10_000 });
    request.on('timeout', () => request.destroy());
    try {
      const [response] = (await once(request, 'response')) as [http.IncomingMessage];
      response.resume();
      await once(response, 'end');
      if (response.statusCode === 200) times.push(performance.now() - began);
      else failed += 1;
    } catch {
      failed += 1;
    }
    await delay(5);
  }
  agent.destroy();
  return { times: times.toSorted((a, b) => a - b), failed };
}

async function measure(peer: string, name: string, count: number, seconds: number, folder: string): Promise<object> {
  const credentials = await makeCredentials(folder, 'ecdsa');
  await using backend = await startApplication();
  await using server = await startPeer(peer, { folder, backend: backend.port, workers: 1, credentials, staple: false, options: {} });
  await goodClient(server.port, 2);
  const worker = new Worker(new URL(import.meta.url), { workerData: { name, port: server.port, count } });
  await once(worker, 'message');
  const cpu = server.cpuTimes();
  const { times, failed } = await goodClient(server.port, seconds);
  const cores = Number((cpuMicroseconds(cpu, server.cpuTimes()) / seconds / 1e6).toFixed(2));
  const [p50, p99] = [0.5, 0.99].map((q) => Number(quantile(times, q).toFixed(2)));
  const result = { beside: name, peer, count, requests: times.length, failed, p50, p99, megabytes: Math.round(server.memory() / MEGABYTE), cores };
  await worker.terminate();
  return result;
}

if (isMainThread) {
  const [count = 1_000, seconds = 10] = process.argv.slice(2, 4).map(Number);
  const [names = 'all', servers = 'staplegate'] = process.argv.slice(4);
  const folder = await mkdtemp(path.join(tmpdir(), 'staplegate-overload-'));
  try {
    for (const name of names === 'all' ? Object.keys(assaults) : names.split(',')) {
      for (const peer of servers.split(',')) console.log(JSON.stringify(await measure(peer, name, count, seconds, folder)));
    }
  } finally {
    await rm(folder, { recursive: true });
  }
} else {
  const { name, ...assault } = workerData as Assault & { name: string };
  await assaults[name]!(assault);
  parentPort!.postMessage('begun');
}
