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

/** libuv's UV_TCP_IPV6ONLY. */
const ipv6Only = 1;

export class ListenError extends Error {
  override name = 'ListenError';
  readonly code = 'listen_failed';
}

const remedies: Record<string, string> = {
  EADDRINUSE: 'another program is listening there; stop it or change listen[].address',
  EACCES: 'ports below 1024 need CAP_NET_BIND_SERVICE, and a unix socket needs a writable folder',
  EADDRNOTAVAIL: 'this machine has no such address',
  ENOENT: 'the folder of the socket does not exist',
};

function listenError(name: string, errno: number): ListenError {
  const word = getSystemErrorName(errno);
  return new ListenError(`cannot listen on ${name}: ${word}: ${remedies[word] ?? 'see listen[].address'}`);
}

async function bind({ address }: Listen): Promise<BoundHandle> {
  if ('fdName' in address) throw new ListenError(`${address.name} is not among the sockets passed by the service manager (LISTEN_FDNAMES)`);
  let handle: BoundHandle | number;
  if ('socketPath' in address) {
    // libuv would report a missing folder as EACCES.
    if (!(await stat(path.dirname(address.socketPath)).catch(() => undefined))) throw listenError(address.name, -constants.errno.ENOENT);
    await removeStaleSocket(address.socketPath, address.name);
    handle = createServerHandle(address.socketPath, -1, -1);
    if (typeof handle !== 'number') await chmod(address.socketPath, 0o660);
  } else {
    const resolved = await lookup(address.host).catch(() => undefined);
    if (!resolved) throw new ListenError(`cannot listen on ${address.name}: the name has no address; see listen[].address`);
    // [::]:443 and 0.0.0.0:443 stand side by side, as in nginx (ipv6only=on).
    handle =
      resolved.family === 6
        ? createServerHandle(resolved.address, address.port, 6, undefined, ipv6Only)
        : createServerHandle(resolved.address, address.port, 4);
  }
  if (typeof handle === 'number') throw listenError(address.name, handle);
  // libuv reports an address in use only when asked for the name or at listen().
  const errno = handle.getsockname?.({}) ?? 0;
  if (errno === 0) return handle;
  handle.close();
  throw listenError(address.name, errno);
}

/** The address with the port that the system chose where the configuration says 0. */
function boundTo(handle: BoundHandle, { address }: Listen): string {
  if (!('port' in address) || address.port !== 0) return address.name;
  const bound: { port?: number } = {};
  handle.getsockname?.(bound);
  return address.name.replace(/0$/, String(bound.port));
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

/** One for each entry: its address, which is given once, except for port 0, which is another port each time. */
function keys(listens: readonly Listen[]): string[] {
  const times = new Map<string, number>();
  return listens.map(({ address: { name } }) => {
    const before = times.get(name) ?? 0;
    times.set(name, before + 1);
    return `${name} ${before}`;
  });
}

export class Sockets {
  readonly #activated: Map<string, number[]>;
  /** By `keys`. Keeping the handle keeps the descriptor open. */
  readonly #bound = new Map<string, BoundHandle>();

  constructor(activated: Map<string, number[]>) {
    this.#activated = activated;
  }

  /**
   * Makes sure that every address is bound. Those no longer named are closed by `release` once no worker accepts on them.
   * @throws ListenError, with everything as it was
   */
  async open(listens: readonly Listen[]): Promise<InheritedSocket[]> {
    const added: string[] = [];
    const sockets: InheritedSocket[] = [];
    try {
      const own = keys(listens);
      for (const [i, listen] of listens.entries()) {
        const key = own[i]!;
        const activated = 'fdName' in listen.address ? this.#activated.get(listen.address.fdName) : undefined;
        if (activated) {
          sockets.push(...activated.map((fd) => ({ listen, fd, where: listen.address.name })));
          continue;
        }
        let bound = this.#bound.get(key);
        if (bound === undefined) {
          bound = await bind(listen);
          this.#bound.set(key, bound);
          added.push(key);
        }
        sockets.push({ listen, fd: bound.fd, where: boundTo(bound, listen) });
      }
      return sockets;
    } catch (error) {
      this.#close(added);
      throw error;
    }
  }

  /**
   * Lets go of what is bound but not in `listens`: closes it, unless a worker in this process has the descriptor and
   * closes it itself. Closing it twice could hit whatever has got its number by then.
   */
  release(listens: readonly Listen[], workerCloses = false): void {
    const kept = new Set(keys(listens));
    const gone = [...this.#bound.keys()].filter((key) => !kept.has(key));
    if (!workerCloses) this.#close(gone);
    for (const key of gone) this.#bound.delete(key);
  }

  #close(keys: readonly string[]): void {
    for (const key of keys) {
      this.#bound.get(key)?.close();
      this.#bound.delete(key);
    }
  }
}
