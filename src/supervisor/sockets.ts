import type { Listen } from '../config/schema.ts';
import type { InheritedSocket } from '../worker/worker.ts';
import { assertFree, bind, type Bound, ListenError, locate } from './bind.ts';
import { covers, inWords, overlap, type Place, type TcpPlace } from './place.ts';

/** Names a place among those of one configuration. Port 0 is another port each time. */
function keyOf(place: Place, taken: ReadonlyMap<string, Listen>): string {
  if (!('port' in place)) return JSON.stringify(place);
  const key = `${place.host} ${place.port}`;
  if (place.port !== 0) return key;
  return `${key} ${[...taken.keys()].filter((other) => other.startsWith(`${key} `)).length}`;
}

/**
 * The listening sockets. The supervisor binds them and keeps them open; workers inherit the file descriptors and
 * accept. While a worker is replaced, the kernel keeps queueing connections, so none is refused or lost. Sockets
 * handed over by systemd are used in the same way.
 *
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
        if (!this.#bound.has(key)) {
          await this.#bind(key, place, name);
          added.push(key);
        }
        const bound = this.#bound.get(key)!;
        sockets.push({ listen, fd: bound.handle.fd, where: inWords(listen, bound.place) });
      }
    } catch (error) {
      this.#close(added);
      throw error;
    }
    return [...sockets, ...this.#covered(named)];
  }

  async #bind(key: string, place: Place, name: string): Promise<void> {
    if ('port' in place && ![...this.#known.values()].some((other) => overlap(place, other))) assertFree(place, name);
    const bound = await bind(place, name);
    this.#bound.set(key, bound);
    if ('port' in bound.place) this.#known.set(key, bound.place);
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
