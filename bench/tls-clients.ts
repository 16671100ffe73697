import * as tls from 'node:tls';
import { serverName } from './credentials.ts';

/** The same for every server: no server shall do more work because it knows a newer group or prefers a longer key. */
const sameForAll = {
  host: '127.0.0.1',
  rejectUnauthorized: false,
  ecdhCurve: 'X25519',
  ciphers: 'TLS_AES_128_GCM_SHA256:ECDHE+AESGCM',
  ALPNProtocols: ['http/1.1'],
};

export async function connect(port: number, options: tls.ConnectionOptions = {}): Promise<tls.TLSSocket> {
  const socket = tls.connect({ ...sameForAll, servername: serverName, port, ...options });
  await event(socket, 'secureConnect');
  return socket;
}

/** The arguments of the next event of this name. @throws Error when the connection ends before */
export async function event(socket: tls.TLSSocket, name: string): Promise<unknown[]> {
  const { promise, resolve, reject } = Promise.withResolvers<unknown[]>();
  const arrived = (...args: unknown[]): void => resolve(args);
  const ended = (): void => reject(new Error('a connection was closed'));
  socket.once(name, arrived).once('error', reject).once('close', ended);
  try {
    return await promise;
  } finally {
    socket.off(name, arrived).off('error', reject).off('close', ended);
  }
}

export interface Handshakes {
  port: number;
  count: number;
  /** Server names, in turn. */
  names?: readonly string[];
  /** TLS 1.3 with the newest ticket of the connection before. */
  resumed?: boolean;
  /** So many at a time; 4. */
  lanes?: number;
}

/**
 * Handshakes and nothing else, some at a time: each connection is closed when it is made, and over when the server has closed it too.
 * @returns how many had a staple
 * @throws Error when a connection fails, or was not resumed where it should have been
 */
export async function handshakes({ port, count, names = [serverName], resumed = false, lanes = 4 }: Handshakes): Promise<number> {
  let begun = 0;
  let stapled = 0;
  const lane = async (): Promise<void> => {
    let session: Buffer | undefined;
    // The first connection of a lane gets the ticket for the second.
    if (resumed) session = await handshake(undefined, names[0]);
    while (begun < count) {
      session = await handshake(session, names[begun++ % names.length]);
    }
  };
  const handshake = async (session: Buffer | undefined, servername = serverName): Promise<Buffer | undefined> => {
    let ticket = session;
    const socket = tls.connect({ ...sameForAll, port, servername, requestOCSP: true, ...(session && { session }) });
    socket.on('session', (newest: Buffer) => (ticket = newest));
    socket.on('OCSPResponse', (response: Buffer | null) => (stapled += response === null ? 0 : 1));
    const closed = new Promise<void>((resolve) => void socket.once('close', () => resolve()));
    await event(socket, 'secureConnect');
    if (session && !socket.isSessionReused()) throw new Error('a session was not resumed');
    // Read to the end: tickets come after the handshake.
    socket.resume().end();
    await closed;
    return resumed ? ticket : undefined;
  };
  await Promise.all(Array.from({ length: lanes }, lane));
  return stapled;
}
