import { once } from 'node:events';
import * as tls from 'node:tls';

/** A process that makes full handshakes at a steady pace and reports how long each took, in milliseconds. */

export interface HandshakeOrder {
  port: number;
  names: string[];
  perSecond: number;
}

const { port, names, perSecond } = JSON.parse(process.argv[2] ?? '') as HandshakeOrder;
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
process.on('message', () => {
  process.send?.(times);
  times = [];
});
process.on('disconnect', () => process.exit(0));
