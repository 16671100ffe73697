import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import * as http from 'node:http';
import * as http2 from 'node:http2';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type * as tls from 'node:tls';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { makeCredentials, serverName } from './credentials.ts';
import { quantile } from './material.ts';
import { startPeer } from './peers.ts';
import { connect } from './tls-clients.ts';

/**
 * What clients that do harm cost the good one beside them, and the memory of all our processes:
 * `node bench/overload.ts [COUNT] [SECONDS] [SCENARIO,…]`. One line of JSON each.
 */

const MEGABYTE = 1024 ** 2;
const host = `Host: ${serverName}\r\n`;

interface Assault {
  port: number;
  count: number;
}

type Scenario = (assault: Assault) => Promise<void>;

async function openAll({ port, count }: Assault, use: (socket: tls.TLSSocket) => void): Promise<void> {
  for (let opened = 0; opened < count; opened += 50) {
    const batch = Math.min(50, count - opened);
    const sockets = await Promise.all(Array.from({ length: batch }, () => connect(port)));
    for (const socket of sockets) {
      socket.on('error', () => {});
      use(socket);
    }
  }
}

function drip(socket: tls.TLSSocket, first: string, byte: string): void {
  socket.write(first);
  const timer = setInterval(() => socket.write(byte), 1_000);
  socket.once('close', () => clearInterval(timer));
  socket.resume();
}

const scenarios: Record<string, Scenario> = {
  'nothing else': async () => {},
  'slow heads': (assault) => openAll(assault, (socket) => drip(socket, `GET / HTTP/1.1\r\n${host}X-Slow: `, 'x')),
  'slow bodies': (assault) => openAll(assault, (socket) => drip(socket, `POST /sink HTTP/1.1\r\n${host}Content-Length: 1000000\r\n\r\n`, 'x')),
  'slow readers of an endless answer': (assault) =>
    openAll({ ...assault, count: Math.ceil(assault.count / 10) }, (socket) => {
      socket.write(`GET /endless HTTP/1.1\r\n${host}\r\n`);
      socket.once('data', () => socket.pause());
    }),
  'uploads that the application does not read': (assault) =>
    openAll({ ...assault, count: Math.ceil(assault.count / 50) }, (socket) => {
      const piece = Buffer.alloc(65_536);
      socket.write(`POST /deaf HTTP/1.1\r\n${host}Content-Length: ${1024 ** 3}\r\n\r\n`);
      const feed = (): void => {
        while (socket.write(piece));
      };
      socket.on('drain', feed);
      feed();
    }),
  'pipelined requests without end': (assault) =>
    openAll({ ...assault, count: Math.ceil(assault.count / 100) }, (socket) => {
      const many = `GET /small HTTP/1.1\r\n${host}\r\n`.repeat(1_000);
      const feed = (): void => {
        while (socket.write(many));
      };
      socket.on('drain', feed);
      socket.pause();
      feed();
    }),
  'HTTP/2 streams opened and reset at once (CVE-2023-44487)': async ({ port, count }) => {
    for (let n = 0; n < Math.ceil(count / 100); n += 1) {
      const open = (): void => {
        const session = http2.connect(`https://127.0.0.1:${port}`, { servername: serverName, rejectUnauthorized: false });
        session.on('error', () => {});
        session.once('close', () => setTimeout(open, 100));
        session.once('connect', () => {
          const again = (): void => {
            if (session.destroyed) return;
            for (let stream = 0; stream < 100; stream += 1) {
              const request = session.request({ ':path': '/small', ':authority': serverName });
              request.on('error', () => {});
              request.close(http2.constants.NGHTTP2_CANCEL);
            }
            setTimeout(again, 10);
          };
          again();
        });
      };
      open();
    }
  },
};

async function application(): Promise<http.Server> {
  const server = http.createServer((req, res) => {
    if (req.url === '/endless') {
      const piece = Buffer.alloc(65_536, 'x');
      const feed = (): void => {
        while (!res.destroyed && res.write(piece));
      };
      res.on('drain', feed);
      feed();
    } else if (req.url === '/deaf') {
      req.pause();
    } else if (req.url === '/sink') {
      req.resume();
      req.on('end', () => res.end());
    } else res.end('hello world\n');
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return server;
}

/** Round trips of a good client on one kept connection, in ms. */
async function goodClient(port: number, seconds: number): Promise<number[]> {
  const agent = new (await import('node:https')).Agent({ keepAlive: true, maxSockets: 1, rejectUnauthorized: false, servername: serverName });
  const { get } = await import('node:https');
  const times: number[] = [];
  const end = performance.now() + seconds * 1_000;
  while (performance.now() < end) {
    const began = performance.now();
    const request = get({ host: '127.0.0.1', port, path: '/small', headers: { host: serverName }, agent });
    const [response] = (await once(request, 'response')) as [http.IncomingMessage];
    response.resume();
    await once(response, 'end');
    if (response.statusCode !== 200) throw new Error(`the good client got ${response.statusCode}`);
    times.push(performance.now() - began);
    await delay(5);
  }
  agent.destroy();
  return times.toSorted((a, b) => a - b);
}

if (isMainThread) {
  const [count = 1_000, seconds = 10] = process.argv.slice(2, 4).map(Number);
  const chosen = process.argv[4]?.split(',') ?? Object.keys(scenarios);
  const folder = await mkdtemp(path.join(tmpdir(), 'staplegate-overload-'));
  const backend = await application();
  try {
    const credentials = await makeCredentials(folder, 'ecdsa');
    for (const name of chosen) {
      const setup = { folder, backend: (backend.address() as AddressInfo).port, workers: 1, credentials, staple: false, options: {} };
      await using server = await startPeer('staplegate', setup);
      await goodClient(server.port, 2);
      const worker = new Worker(new URL(import.meta.url), { workerData: { name, port: server.port, count } });
      await once(worker, 'message');
      const times = await goodClient(server.port, seconds);
      const [p50, p99] = [0.5, 0.99].map((q) => Number(quantile(times, q).toFixed(2)));
      console.log(JSON.stringify({ beside: name, count, requests: times.length, p50, p99, megabytes: Math.round(server.memory() / MEGABYTE) }));
      await worker.terminate();
      backend.closeAllConnections();
    }
  } finally {
    backend.close();
    await rm(folder, { recursive: true });
  }
} else {
  const { name, ...assault } = workerData as Assault & { name: string };
  await scenarios[name]!(assault);
  parentPort!.postMessage('begun');
}
