import { lookup } from 'node:dns/promises';
import { chmod, lstat, stat, unlink } from 'node:fs/promises';
import * as net from 'node:net';
import { constants } from 'node:os';
import path from 'node:path';
import { getSystemErrorName } from 'node:util';
import type { Listen } from '../config/schema.ts';
import type { InheritedSocket } from '../worker/worker.ts';

/**
 * The listening sockets. The supervisor binds them and keeps them open; workers inherit the file descriptors and
 * accept. While a worker is replaced, the kernel keeps queueing connections, so none is refused or lost. Sockets
 * handed over by systemd are used in the same way.
 */

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

/** Where a socket is bound, with names resolved. */
type Place = TcpPlace | { socketPath: string } | { fdName: string };

interface TcpPlace {
  host: string;
  port: number;
  family: 4 | 6;
}

function isWildcard({ host }: TcpPlace): boolean {
  return host === '0.0.0.0' || host === '::';
}

function overlap(a: TcpPlace, b: TcpPlace): boolean {
  return a.family === b.family && a.port === b.port && (a.host === b.host || isWildcard(a) || isWildcard(b));
}

/** Whether connections to `b` belong to whoever listens on `a`, when nobody listens on `b`. */
function covers(a: Place, b: Place): boolean {
  return 'port' in a && 'port' in b && isWildcard(a) && overlap(a, b);
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

async function locate({ address }: Listen): Promise<Place> {
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
function assertFree({ host, port, family }: TcpPlace, name: string): void {
  if (port !== 0) checked(createServerHandle(host, port, family, undefined, family === 6 ? flag.ipv6Only : 0), name).close();
}

async function bind(place: Place, name: string): Promise<BoundHandle> {
  if ('fdName' in place) throw new ListenError(`${name} is not among the sockets passed by the service manager (LISTEN_FDNAMES)`);
  if ('port' in place) {
    // [::]:443 and 0.0.0.0:443 stand side by side, as in nginx (ipv6only=on).
    const flags = flag.reusePort | (place.family === 6 ? flag.ipv6Only : 0);
    return checked(createServerHandle(place.host, place.port, place.family, undefined, flags), name);
  }
  // libuv would report a missing folder as EACCES.
  if (!(await stat(path.dirname(place.socketPath)).catch(() => undefined))) throw listenError(name, -constants.errno.ENOENT);
  await removeStaleSocket(place.socketPath, name);
  const handle = checked(createServerHandle(place.socketPath, -1, -1), name);
  await chmod(place.socketPath, 0o660);
  return handle;
}

/** The place with the port that the system chose where the configuration says 0. */
function withPort(place: Place, handle: BoundHandle): Place {
  if (!('port' in place) || place.port !== 0) return place;
  const bound: { port?: number } = {};
  handle.getsockname?.(bound);
  return { ...place, port: bound.port ?? 0 };
}

/** The address in words, with its real port. */
function inWords({ address }: Listen, place: Place): string {
  return 'port' in address && 'port' in place && address.port === 0 ? address.name.replace(/0$/, String(place.port)) : address.name;
}

/** A socket file outlives the process that made it: one that nobody answers on is removed, anything else is left alone. */
async function removeStaleSocket(file: string, name: string): Promise<void> {
  const status = await lstat(file).catch(() => undefined);
  if (!status) return;
  if (!status.isSocket()) throw new ListenError(`cannot listen on ${name}: ${file} exists and is not a socket`);
  const answered = await new Promise<boolean>((resolve) => {
    const probe = net.connect(file);
    probe.once('connect', () => resolve(true)).once('error', () => resolve(false));
    probe.once('connect', () => probe.destroy());
  });
  if (answered) throw listenError(name, -constants.errno.EADDRINUSE);
  await unlink(file);
}

/**
 * Sockets passed by systemd, by name (sd_listen_fds(3)): descriptors 3 and up, meant for this process only. Those of one
 * socket unit share a name. The variables are removed so that no child takes them for its own.
 */
export function activatedSockets(environment: NodeJS.ProcessEnv, pid: number): Map<string, number[]> {
  const { LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES } = environment;
  delete environment['LISTEN_PID'];
  delete environment['LISTEN_FDS'];
  delete environment['LISTEN_FDNAMES'];
  if (Number(LISTEN_PID) !== pid) return new Map();
  const names = (LISTEN_FDNAMES ?? '').split(':');
  const count = Math.min(Number(LISTEN_FDS) || 0, 1024);
  const descriptors = Array.from({ length: Math.max(count, 0) }, (_, i) => ({ name: names[i] || `${i}`, fd: 3 + i }));
  return new Map(
    Array.from(
      Map.groupBy(descriptors, ({ name }) => name),
      ([name, own]) => [name, own.map(({ fd }) => fd)],
    ),
  );
}

interface Bound {
  /** With the real port. */
  place: Place;
  /** Keeping the handle keeps the descriptor open. */
  handle: BoundHandle;
}

/** Names a place among those of one configuration. Port 0 is another port each time. */
function keyOf(place: Place, taken: ReadonlyMap<string, Listen>): string {
  if (!('port' in place)) return JSON.stringify(place);
  const key = `${place.host} ${place.port}`;
  if (place.port !== 0) return key;
  return `${key} ${[...taken.keys()].filter((other) => other.startsWith(`${key} `)).length}`;
}

/**
 * SO_REUSEPORT lets two of our own sockets listen where one address contains the other, so that 127.0.0.1:443 can become
 * 0.0.0.0:443, or the reverse, without a moment when nobody listens. It would also let a second program of the same user
 * share a port and its traffic, so before one is bound, a socket without it has to find the address free.
 */
export class Sockets {
  readonly #activated: Map<string, number[]>;
  /** By `keyOf`. */
  readonly #bound = new Map<string, Bound>();
  /** Every place that was ever bound: workers may still be emptying a queue that is not in `#bound` any more. */
  readonly #known = new Map<string, TcpPlace>();

  constructor(activated: Map<string, number[]>) {
    this.#activated = activated;
  }

  /**
   * Makes sure that every address is bound. What is no longer needed is closed by `release` once no worker accepts on it.
   * @throws ListenError, with everything as it was
   */
  async open(listens: readonly Listen[]): Promise<InheritedSocket[]> {
    const added: string[] = [];
    const sockets: InheritedSocket[] = [];
    const named = new Map<string, Listen>();
    try {
      for (const listen of listens) {
        const activated = 'fdName' in listen.address ? this.#activated.get(listen.address.fdName) : undefined;
        if (activated) {
          sockets.push(...activated.map((fd) => ({ listen, fd, where: listen.address.name })));
          continue;
        }
        const place = await locate(listen);
        const { name } = listen.address;
        const key = keyOf(place, named);
        const twin = named.get(key);
        if (twin) throw new ListenError(`cannot listen on ${name}: it is the same address as ${twin.address.name}; see listen[].address`);
        named.set(key, listen);
        let bound = this.#bound.get(key);
        if (bound === undefined) {
          if ('port' in place && ![...this.#known.values()].some((other) => overlap(place, other))) assertFree(place, name);
          const handle = await bind(place, name);
          bound = { place: withPort(place, handle), handle };
          this.#bound.set(key, bound);
          if ('port' in bound.place) this.#known.set(key, bound.place);
          added.push(key);
        }
        sockets.push({ listen, fd: bound.handle.fd, where: inWords(listen, bound.place) });
      }
    } catch (error) {
      this.#close(added);
      throw error;
    }
    return [...sockets, ...this.#covered(named)];
  }

  /**
   * To be asked before the first of the sockets listens, long after `open`.
   * @throws ListenError when another program has begun to listen on one of the addresses meanwhile
   */
  assertStillFree(): void {
    for (const { place } of this.#bound.values()) if ('port' in place) assertFree(place, `${place.host}:${place.port}`);
  }

  /**
   * Lets go of what is bound but not among `kept`: closes it, unless a worker in this process has the descriptor and
   * closes it itself. Closing it twice could hit whatever has got its number by then.
   */
  release(kept: readonly InheritedSocket[], workerCloses = false): void {
    const fds = new Set(kept.map(({ fd }) => fd));
    const gone = [...this.#bound].filter(([, { handle }]) => !fds.has(handle.fd)).map(([key]) => key);
    if (!workerCloses) this.#close(gone);
    for (const key of gone) this.#bound.delete(key);
  }

  /** Sockets of addresses that are not named any more but contained in one that is: closing them would reset who waits there. */
  #covered(named: ReadonlyMap<string, Listen>): InheritedSocket[] {
    return [...this.#bound].flatMap(([key, { place, handle }]) => {
      const owner = named.has(key) ? undefined : [...named].find(([other]) => covers(this.#bound.get(other)!.place, place));
      return owner === undefined ? [] : [{ listen: owner[1], fd: handle.fd, where: inWords(owner[1], this.#bound.get(owner[0])!.place) }];
    });
  }

  #close(keys: readonly string[]): void {
    for (const key of keys) {
      this.#bound.get(key)?.handle.close();
      this.#bound.delete(key);
    }
  }
}
