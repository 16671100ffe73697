import { randomBytes } from 'node:crypto';
import type * as tls from 'node:tls';
import { frame, opcodes } from '../test/support/websocket.ts';
import { serverName } from './credentials.ts';
import { cpuOf, inTurn, type Measure } from './round-robin.ts';
import { connect, event } from './tls-clients.ts';

const payload = Buffer.from('{"type":"position","x":12,"y":7}');
/** Of RFC 6455, 5.2: two octets and the payload, from a server; a client's is masked. */
const answerLength = 2 + payload.length;
const message = frame({ opcode: opcodes.text, payload }, randomBytes(4));
const warmUpMessages = 20_000;

async function open(port: number): Promise<tls.TLSSocket> {
  const socket = await connect(port);
  const fields = [`Host: ${serverName}`, 'Upgrade: websocket', 'Connection: Upgrade', 'Sec-WebSocket-Version: 13'];
  const key = randomBytes(16).toString('base64');
  socket.write(`GET /echo HTTP/1.1\r\n${fields.join('\r\n')}\r\nSec-WebSocket-Key: ${key}\r\n\r\n`);
  const [head] = (await event(socket, 'data')) as [Buffer];
  if (!head.toString('latin1').startsWith('HTTP/1.1 101')) throw new Error(`no WebSocket: ${head.toString('latin1').split('\r\n')[0]}`);
  return socket;
}

/** `count` messages there and back, on all connections at once, one under way on each. */
async function echo(sockets: readonly tls.TLSSocket[], count: number): Promise<void> {
  let begun = 0;
  await Promise.all(
    sockets.map(
      (socket) =>
        new Promise<void>((resolve, reject) => {
          let received = 0;
          const next = (): void => {
            if (begun < count) {
              begun += 1;
              socket.write(message);
              return;
            }
            socket.off('data', read).off('close', lost);
            resolve();
          };
          const read = (bytes: Buffer): void => {
            received += bytes.length;
            if (received < answerLength) return;
            received -= answerLength;
            next();
          };
          const lost = (): void => reject(new Error('a WebSocket was closed'));
          socket.on('data', read).on('close', lost);
          next();
        }),
    ),
  );
}

/** CPU per small message that goes to the backend and comes back. */
export function webSocketEcho(connections: number): Measure {
  return async (bench, peers) => {
    await using opened = new AsyncDisposableStack();
    return await inTurn<{ sockets: tls.TLSSocket[]; count: number }>(bench, peers, {
      backend: 'application',
      async warmUp({ port }, { seconds }) {
        const sockets = await Promise.all(Array.from({ length: connections }, () => open(port)));
        opened.defer(() => sockets.forEach((socket) => socket.destroy()));
        const started = performance.now();
        await echo(sockets, warmUpMessages);
        return { sockets, count: Math.ceil((warmUpMessages * 1000 * seconds) / (performance.now() - started)) };
      },
      async round(server, { sockets, count }) {
        const started = performance.now();
        const cpu = await cpuOf(server, async () => {
          await echo(sockets, count);
          return count;
        });
        return { cpu, rate: (count * 1000) / (performance.now() - started) };
      },
    });
  };
}
