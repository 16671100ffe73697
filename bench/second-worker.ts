import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import * as os from 'node:os';
import { CpuShare } from './cpu-share.ts';
import { h2load, type Load } from './h2load.ts';
import { processTree } from './process-tree.ts';
import { cpuOf, type Figures, inRounds, type Measure, startWith } from './round-robin.ts';
import type { ServerProcess } from './server-process.ts';
import { connect, handshakes } from './tls-clients.ts';

/**
 * What a second worker adds to the rate. Client and backend need about as much of a machine as one worker does, so every worker is
 * held to a share of a core: then the workers are what is short, however few cores there are. Two servers with one worker and one
 * with two are measured at the same time, so that all have the same machine, and what disturbs one disturbs the others.
 */

/** Of a core, for each worker: little enough that four of them, with clients and a backend, leave some of two cores idle. */
const share = 0.1;
/** Connections kept, or handshakes at a time, for each worker. */
const clientsEach = 64;
const warmUpSeconds = 2;
/** How often clients come all at once, to see how the workers share them. */
const bursts = 10;

interface Done {
  operations: number;
  perSecond: number;
}

/** Keeps a server busy. */
type Work = (server: ServerProcess, seconds: number, clients: number) => Promise<Done>;

export const keptConnections =
  (load: Omit<Load, 'clients'>): Work =>
  async ({ port }, seconds, clients) => {
    const { requests, perSecond } = await h2load(port, { ...load, clients }, { seconds });
    return { operations: requests, perSecond };
  };

export const newConnections: Work = async ({ port }, seconds, clients) => {
  const began = performance.now();
  let operations = 0;
  while (performance.now() < began + seconds * 1_000) {
    await handshakes({ port, count: 4 * clients, lanes: clients });
    operations += 4 * clients;
  }
  return { operations, perSecond: (operations * 1_000) / (performance.now() - began) };
};

export function secondWorker(work: Work): Measure {
  return (bench, peers) =>
    inRounds(bench, peers, async (name, resources) => {
      const start = async (workers: number): Promise<ServerProcess> => {
        const server = resources.use(await startWith(bench, name, { workers }));
        await work(server, warmUpSeconds, clientsEach);
        if (workersOf(server).length < workers) throw new Error('has threads, no worker processes');
        return server;
      };
      const measure = async (server: ServerProcess, clients: number) => {
        using holds = new DisposableStack();
        for (const pid of workersOf(server)) holds.use(new CpuShare(pid, share));
        let rate = 0;
        const cpu = await cpuOf(server, async () => {
          const { operations, perSecond } = await work(server, bench.seconds, clients);
          rate = perSecond;
          return operations;
        });
        return { cpu, rate };
      };
      const [one, other, two] = [await start(1), await start(1), await start(2)];
      return async (): Promise<Figures> => {
        const fullest = await fullestOfBursts(two);
        const before = busySeconds();
        const began = performance.now();
        const [a, b, both] = await Promise.all([measure(one, clientsEach), measure(other, clientsEach), measure(two, 2 * clientsEach)]);
        const busy = (busySeconds() - before) / ((performance.now() - began) / 1_000) / os.cpus().length;
        return { speedup: (2 * both.rate) / (a.rate + b.rate), cpu: (2 * both.cpu) / (a.cpu + b.cpu), fullest, rate: both.rate, busy };
      };
    });
}

/** What a server has besides its first process. */
function workersOf({ pid }: ServerProcess): number[] {
  return processTree(pid).slice(1);
}

/** Seconds of CPU that anybody has had since the machine was started. */
function busySeconds(): number {
  return os.cpus().reduce((sum, { times }) => sum + times.user + times.nice + times.sys + times.irq, 0) / 1_000;
}

/** Of the connections that were made all at once, the share of the worker that has most; the mean. */
async function fullestOfBursts(server: ServerProcess): Promise<number> {
  let sum = 0;
  for (let n = 0; n < bursts; n += 1) {
    const clients = await Promise.all(Array.from({ length: clientsEach }, () => connect(server.port)));
    const counts = connectionCounts(server);
    for (const client of clients) client.destroy();
    sum += Math.max(...counts) / counts.reduce((a, b) => a + b);
  }
  return sum / bursts;
}

/** How many connections to the server's port each worker holds. */
function connectionCounts(server: ServerProcess): number[] {
  const port = server.port.toString(16).toUpperCase().padStart(4, '0');
  // proc_pid_net(5): the local address, the state (01: established) and the inode are columns 2, 4 and 10.
  const rows = readFileSync('/proc/net/tcp', 'latin1').split('\n');
  const columns = rows.map((line) => line.trim().split(/\s+/));
  const own = columns.filter(([, local, , state]) => local?.endsWith(`:${port}`) && state === '01');
  const sockets = new Set(own.map(({ 9: inode }) => `socket:[${inode}]`));
  return workersOf(server).map((pid) => openFiles(pid).filter((file) => sockets.has(file)).length);
}

function openFiles(pid: number): string[] {
  return readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
    try {
      return [readlinkSync(`/proc/${pid}/fd/${fd}`)];
    } catch {
      return []; // closed meanwhile
    }
  });
}
