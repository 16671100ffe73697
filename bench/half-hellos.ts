import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import * as net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { buildHello, serverNameExtension } from '../test/support/hello.ts';
import { startFiles } from './backend.ts';
import { makeCredentials, serverName } from './credentials.ts';
import { quantile } from './material.ts';
import { peerVersion, startPeer } from './peers.ts';
import { cpuMicroseconds } from './process-tree.ts';
import type { ServerProcess } from './server-process.ts';
import { connect, event } from './tls-clients.ts';

/**
 * What good clients feel while COUNT others send half a ClientHello and wait, each replaced when the server lets go of it:
 * `node bench/half-hellos.ts [COUNT,…] [SECONDS] [PEER,…]`. One line of JSON each; the peers take turns.
 */

interface Flood {
  port: number;
  count: number;
}

/** New connections in a second, for those that the server has closed. */
const refillPerSecond = 2_000;
const request = `GET /small HTTP/1.1\r\nHost: ${serverName}\r\nConnection: close\r\n\r\n`;

async function flood({ port, count }: Flood): Promise<void> {
  const half = buildHello({ extensions: [[0, serverNameExtension(serverName)]] }).subarray(0, 40);
  const halves = { open: 0, begun: 0 };
  const begin = (): void => {
    halves.open += 1;
    halves.begun += 1;
    const socket = net.connect(port, '127.0.0.1', () => socket.write(half));
    socket.on('error', () => {}).resume();
    socket.once('close', () => (halves.open -= 1));
  };
  setInterval(() => {
    for (let n = 0; n < refillPerSecond / 100 && halves.open < count; n += 1) begin();
  }, 10);
  while (halves.begun < count) await delay(10);
  parentPort!.postMessage('begun');
  parentPort!.on('message', () => parentPort!.postMessage(halves));
}

interface Felt {
  tried: number;
  served: number;
  p50_ms: number;
  p99_ms: number;
}

/** Fifty new connections in a second, each with one request; what takes longer than five seconds has failed. */
async function goodClients(port: number, seconds: number): Promise<Felt> {
  const times: number[] = [];
  const clients: Promise<void>[] = [];
  const visit = async (): Promise<void> => {
    const began = performance.now();
    const socket = await connect(port, { timeout: 5_000 });
    socket.write(request);
    await event(socket, 'data');
    times.push(performance.now() - began);
    socket.destroy();
  };
  for (const end = performance.now() + seconds * 1_000; performance.now() < end; await delay(20)) {
    clients.push(Promise.race([visit(), delay(5_000, undefined, { ref: false })]).catch(() => {}));
  }
  await Promise.all(clients);
  const sorted = times.toSorted((a, b) => a - b);
  const [p50_ms, p99_ms] = [0.5, 0.99].map((q) => Number(quantile(sorted, q).toFixed(2)));
  return { tried: clients.length, served: times.length, p50_ms: p50_ms!, p99_ms: p99_ms! };
}

async function beside(server: ServerProcess, count: number, seconds: number): Promise<object> {
  if (count === 0) return goodClients(server.port, seconds);
  const worker = new Worker(new URL(import.meta.url), { workerData: { port: server.port, count } });
  await once(worker, 'message');
  const [cpu, began] = [server.cpuTimes(), performance.now()];
  const felt = await goodClients(server.port, seconds);
  const share = cpuMicroseconds(cpu, server.cpuTimes()) / 1_000 / (performance.now() - began);
  worker.postMessage('report');
  const [halves] = (await once(worker, 'message')) as [object];
  await worker.terminate();
  return { ...felt, server_cores: Number(share.toFixed(2)), halves };
}

if (isMainThread) {
  const counts = (process.argv[2] ?? '0,3000,6000').split(',').map(Number);
  const seconds = Number(process.argv[3] ?? 15);
  const names = (process.argv[4]?.split(',') ?? ['staplegate', 'nginx', 'haproxy']).filter((name) => peerVersion(name) !== undefined);
  const folder = await mkdtemp(path.join(tmpdir(), 'staplegate-half-hellos-'));
  try {
    await using files = await startFiles(folder);
    const credentials = await makeCredentials(folder, 'ecdsa');
    for (const count of counts) {
      for (const name of names) {
        await using server = await startPeer(name, { folder, backend: files.port, workers: 2, credentials, staple: false, options: {} });
        await goodClients(server.port, 2);
        console.log(JSON.stringify({ bench: 'half-hellos', peer: name, count, ...(await beside(server, count, seconds)) }));
      }
    }
  } finally {
    await rm(folder, { recursive: true });
  }
} else {
  await flood(workerData as Flood);
}
