import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import type * as http from 'node:http';
import * as https from 'node:https';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { assaults } from './assaults.ts';
import { startApplication } from './backend.ts';
import { makeCredentials, serverName } from './credentials.ts';
import { quantile } from './material.ts';
import { startPeer } from './peers.ts';
import { cpuMicroseconds, type CpuTimes, cpuTimes } from './process-tree.ts';

/**
 * What clients that do harm cost the good one beside them, and the memory of all processes of the server:
 * `node bench/overload.ts [COUNT] [SECONDS] [ASSAULT,…|all] [PEER,…]`. One line of JSON each: the good client's round trips in ms
 * before the assault and beside it, and how many times longer they are then. Where root runs it, all but the assault have real-time
 * priority (sched(7)): then neither the assault nor other programs take a core from them, and what is measured is the server's own work.
 */

const MEGABYTE = 1024 ** 2;
/** CPU_PROF=FOLDER leaves Staplegate's CPU profiles there. */
const options = process.env['CPU_PROF'] === undefined ? {} : { cpuProfiles: process.env['CPU_PROF'] };

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

/** What is started afterwards inherits it. */
function takePriority(): void {
  try {
    execFileSync('chrt', ['--fifo', '--pid', '1', String(process.pid)], { stdio: 'ignore' });
  } catch {
    console.error('without real-time priority, for which root is needed: what else runs here is measured, too');
  }
}

/** Begins an assault in a process of its own, with the priority of any other program. */
async function assail(name: string, port: number, count: number): Promise<AsyncDisposable & { cpuTimes(): CpuTimes }> {
  const argv = ['--other', '0', process.execPath, fileURLToPath(import.meta.url), 'assault', name, String(port), String(count)];
  const child = spawn('chrt', argv, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
  const ended = once(child, 'exit');
  await Promise.race([once(child, 'message'), ended]);
  return {
    cpuTimes: () => cpuTimes(child.pid!),
    async [Symbol.asyncDispose]() {
      child.kill('SIGKILL');
      await ended;
    },
  };
}

const rounded = (figure: number): number => Number(figure.toFixed(2));

async function measure(peer: string, name: string, count: number, seconds: number, folder: string): Promise<object> {
  const credentials = await makeCredentials(folder, 'ecdsa');
  await using backend = await startApplication();
  await using server = await startPeer(peer, { folder, backend: backend.port, workers: 1, credentials, staple: false, options });
  await goodClient(server.port, 2);
  const alone = await goodClient(server.port, seconds);
  const before = server.memory();
  await using assault = await assail(name, server.port, count);
  const cpu = [server.cpuTimes(), assault.cpuTimes()] as const;
  const beside = await goodClient(server.port, seconds);
  const [cores, assaultCores] = [cpuMicroseconds(cpu[0], server.cpuTimes()), cpuMicroseconds(cpu[1], assault.cpuTimes())].map((all) => all / seconds / 1e6);
  const [p50, p99] = [0.5, 0.99].map((q) => {
    const [without, with_] = [quantile(alone.times, q), quantile(beside.times, q)];
    return { alone: rounded(without), beside: rounded(with_), times: rounded(with_ / without) };
  });
  const memory = server.memory();
  return {
    beside: name,
    peer,
    count,
    requests: beside.times.length,
    failed: beside.failed,
    p50,
    p99,
    megabytes: Math.round(memory / MEGABYTE),
    kilobytes_each: rounded((memory - before) / 1024 / count),
    cores: rounded(cores!),
    assault_cores: rounded(assaultCores!),
  };
}

if (process.argv[2] === 'assault') {
  const [name = '', port, count] = process.argv.slice(3);
  await assaults[name]!({ port: Number(port), count: Number(count) });
  process.send!('begun');
} else {
  takePriority();
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
}
