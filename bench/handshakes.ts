import { once } from 'node:events';
import * as tls from 'node:tls';
import { parentPort, workerData } from 'node:worker_threads';

/** A thread that makes full handshakes at a steady pace and reports how long each took, in milliseconds. */

const { port, names, perSecond } = workerData as { port: number; names: string[]; perSecond: number };
let times: number[] = [];
let count = 0;

async function handshake(): Promise<void> {
  const servername = names[count++ % names.length]!;
  const started = performance.now();
  const socket = tls.connect({ port, host: '127.0.0.1', servername, rejectUnauthorized: false, requestOCSP: true });
  await once(socket, 'secureConnect');
  times.push(performance.now() - started);
  socket.destroy();
}

setInterval(() => void handshake(), 1000 / perSecond);
parentPort?.on('message', () => {
  parentPort?.postMessage(times);
  times = [];
});
