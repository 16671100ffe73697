import { once } from 'node:events';
import * as net from 'node:net';
import { execute } from './program.ts';

/** What a client sends first: the bytes of its ClientHello, as captured by a server that never answers. */
export async function firstFlight(connect: (port: number) => unknown): Promise<Buffer> {
  const server = net.createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const client = connect((server.address() as net.AddressInfo).port);
  const [socket] = (await once(server, 'connection')) as [net.Socket];
  socket.on('error', () => {});
  let bytes = Buffer.alloc(0);
  while (bytes.length < 5 || bytes.length < 5 + bytes.readUInt16BE(3)) {
    const [chunk] = (await once(socket, 'data')) as [Buffer];
    bytes = Buffer.concat([bytes, chunk]);
  }
  socket.destroy();
  server.close();
  await client;
  return bytes;
}

export const opensslHello = (...args: string[]): Promise<Buffer> =>
  firstFlight((port) => execute('openssl', ['s_client', '-connect', `127.0.0.1:${port}`, ...args]));

export const gnutlsHello = (...args: string[]): Promise<Buffer> => firstFlight((port) => execute('gnutls-cli', ['-p', String(port), '127.0.0.1', ...args]));

export const curlHello = (host: string): Promise<Buffer> =>
  firstFlight((port) => execute('curl', ['-sk', '--http2', '--resolve', `${host}:${port}:127.0.0.1`, `https://${host}:${port}/`]));

/** The same handshake message cut into records of `size` bytes. */
export function inRecordsOf(size: number, flight: Buffer): Buffer {
  const message = flight.subarray(5);
  const records: Buffer[] = [];
  for (let offset = 0; offset < message.length; offset += size) {
    const fragment = message.subarray(offset, offset + size);
    records.push(Buffer.of(22, 3, 1, fragment.length >> 8, fragment.length & 0xff), fragment);
  }
  return Buffer.concat(records);
}

/** A ClientHello with these extensions, as bytes of one record. */
export function buildHello({
  version = 0x0303,
  suites = [0x1301],
  extensions = [],
}: {
  version?: number;
  suites?: number[];
  extensions?: [number, Buffer][];
}): Buffer {
  const u16 = (n: number) => Buffer.of(n >> 8, n & 0xff);
  const list = Buffer.concat(extensions.flatMap(([type, body]) => [u16(type), u16(body.length), body]));
  const body = Buffer.concat([
    u16(version),
    Buffer.alloc(32),
    Buffer.of(0),
    u16(suites.length * 2),
    ...suites.map(u16),
    Buffer.of(1, 0),
    u16(list.length),
    list,
  ]);
  const message = Buffer.concat([Buffer.of(1, 0), u16(body.length), body]);
  return Buffer.concat([Buffer.of(22, 3, 1), u16(message.length), message]);
}

/** Body of a server_name extension (RFC 6066, 3). */
export function serverNameExtension(...names: string[]): Buffer {
  const entries = names.map((name) => Buffer.concat([Buffer.of(0, name.length >> 8, name.length & 0xff), Buffer.from(name, 'latin1')]));
  const list = Buffer.concat(entries);
  return Buffer.concat([Buffer.of(list.length >> 8, list.length & 0xff), list]);
}
