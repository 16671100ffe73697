import { lookup } from 'node:dns/promises';
import { chmod, lstat, stat, unlink } from 'node:fs/promises';
import * as net from 'node:net';
import { constants } from 'node:os';
import path from 'node:path';
import { getSystemErrorName } from 'node:util';
import type { Listen } from '../config/schema.ts';
import type { Place, TcpPlace } from './place.ts';

/** A bound socket that nobody polls in this process. Node has no documented way to bind without accepting. */
interface BoundHandle {
  readonly fd: number;
  getsockname?(out: { port?: number }): number;
  close(): void;
}
type CreateServerHandle = (address: string, port: number, addressType: 4 | 6 | -1, fd?: undefined, flags?: number) => BoundHandle | number;
const { _createServerHandle: createServerHandle } = net as unknown as { _createServerHandle: CreateServerHandle };

/** libuv's UV_TCP_IPV6ONLY and UV_TCP_REUSEPORT. */
const flag = { ipv6Only: 1, reusePort: 2 };

/** A place that is bound. */
export interface Bound {
  /** With the real port. */
  place: Place;
  /** Keeping the handle keeps the descriptor open. */
  handle: BoundHandle;
}

export class ListenError extends Error {
  override name = 'ListenError';
  readonly code = 'listen_failed';
}

const remedies: Record<string, string> = {
  EADDRINUSE: 'another program is listening there; stop it or change listen[].address',
  EACCES: 'ports below 1024 need CAP_NET_BIND_SERVICE, and a unix socket needs a writable folder',
  EADDRNOTAVAIL: 'this machine has no such address',
  EINVAL: 'an address of one link (fe80::…) or IPv4 in the notation of IPv6; [::] and 0.0.0.0 take connections to all addresses',
  ENOENT: 'the folder of the socket does not exist',
};

function listenError(name: string, errno: number): ListenError {
  const word = getSystemErrorName(errno);
  return new ListenError(`cannot listen on ${name}: ${word}: ${remedies[word] ?? 'see listen[].address'}`);
}

/** @throws ListenError when the name has no address */
export async function locate({ address }: Listen): Promise<Place> {
  if (!('port' in address)) return address;
  const resolved = await lookup(address.host).catch(() => undefined);
  if (!resolved) throw new ListenError(`cannot listen on ${address.name}: the name has no address; see listen[].address`);
  return { host: resolved.address, port: address.port, family: resolved.family === 6 ? 6 : 4 };
}

function checked(handle: BoundHandle | number, name: string): BoundHandle {
  if (typeof handle === 'number') throw listenError(name, handle);
  // libuv reports an address in use only when asked for the name or at listen().
  const errno = handle.getsockname?.({}) ?? 0;
  if (errno === 0) return handle;
  handle.close();
  throw listenError(name, errno);
}

/** @throws ListenError when somebody listens there */
export function assertFree({ host, port, family }: TcpPlace, name: string): void {
  if (port !== 0) checked(createServerHandle(host, port, family, undefined, family === 6 ? flag.ipv6Only : 0), name).close();
}

/** @throws ListenError */
export async function bind(place: Place, name: string): Promise<Bound> {
  if ('fdName' in place) throw new ListenError(`${name} is not among the sockets passed by the service manager (LISTEN_FDNAMES)`);
  return 'port' in place ? bindTcp(place, name) : bindUnix(place, name);
}

function bindTcp(place: TcpPlace, name: string): Bound {
  // [::]:443 and 0.0.0.0:443 stand side by side, as in nginx (ipv6only=on).
  const flags = flag.reusePort | (place.family === 6 ? flag.ipv6Only : 0);
  const handle = checked(createServerHandle(place.host, place.port, place.family, undefined, flags), name);
  const real = { port: place.port };
  handle.getsockname?.(real);
  return { place: { ...place, port: real.port }, handle };
}

async function bindUnix(place: { socketPath: string }, name: string): Promise<Bound> {
  // libuv would report a missing folder as EACCES.
  if (!(await stat(path.dirname(place.socketPath)).catch(() => undefined))) throw listenError(name, -constants.errno.ENOENT);
  await removeStaleSocket(place.socketPath, name);
  const handle = checked(createServerHandle(place.socketPath, -1, -1), name);
  await chmod(place.socketPath, 0o660);
  return { place, handle };
}

/** A socket file outlives the process that made it: one that nobody answers on is removed, anything else is left alone. */
async function removeStaleSocket(file: string, name: string): Promise<void> {
  const status = await lstat(file).catch(() => undefined);
  if (!status) return;
  if (!status.isSocket()) throw new ListenError(`cannot listen on ${name}: ${file} exists and is not a socket`);
  const answered = await new Promise<boolean>((resolve) => {
    const probe = net.connect(file).once('error', () => resolve(false));
    probe.once('connect', () => {
      probe.destroy();
      resolve(true);
    });
  });
  if (answered) throw listenError(name, -constants.errno.EADDRINUSE);
  await unlink(file);
}
