import { setTimeout as delay } from 'node:timers/promises';
import { type ConnectionCounters, noConnections } from '../connection-counters.ts';
import type { Listen } from '../config/schema.ts';
import { HttpFront } from '../engine/http-front.ts';
import { Passthrough } from '../engine/passthrough.ts';
import type { createLog } from '../log.ts';
import type { ServableStaple, Snapshot, SnapshotUpdate } from '../snapshot.ts';
import { Admission } from '../tls/admission.ts';
import type { Arrival } from '../tls/arrival.ts';
import { Listener } from '../tls/listener.ts';
import { TlsFront } from '../tls/tls-front.ts';

/** At the end, a handshake under way gets the time of a few round trips. */
const arrivalMs = 2_000;

/** One address to serve on: its words in the configuration and the listening socket, open as `fd` in this process. */
export interface InheritedSocket {
  listen: Listen;
  fd: number;
  /** The address in words, with the real port. */
  where: string;
}

/** What `new Worker` serves with its sockets: the whole of a worker, in a process of its own or in the supervisor's. */
export class Worker {
  readonly #log: ReturnType<typeof createLog>;
  /** What has become of its connections so far. */
  readonly connections: ConnectionCounters = noConnections();
  readonly #admission: Admission;
  readonly #tls: TlsFront;
  readonly #http: HttpFront;
  readonly #passthrough: Passthrough;
  /** By file descriptor. */
  #listeners = new Map<number, Listener>();
  #snapshot: Snapshot;
  #staples: Map<string, ServableStaple>;

  constructor(snapshot: Snapshot, log: ReturnType<typeof createLog>) {
    this.#log = log;
    this.#snapshot = snapshot;
    this.#staples = new Map(snapshot.staples);
    this.#http = new HttpFront({ config: snapshot.config, backendFiles: snapshot.backendFiles, log });
    this.#admission = new Admission({ counters: this.connections, limits: snapshot.limits, log, makeRoom: () => this.#http.endLongestIdle() });
    this.#passthrough = new Passthrough({ config: snapshot.config, log });
    this.#tls = new TlsFront({
      log,
      counters: this.connections,
      staple: (fingerprint) => this.#staples.get(fingerprint),
      onSecure: ({ socket, virtualHost, clientCertificate, ...ends }) =>
        this.#http.accept(socket, { protocol: 'https', ...addresses(ends), virtualHost: virtualHost.serverName, clientCertificate, session: socket }),
      onUnopened: ({ peer, local, virtualHost, ...connection }) =>
        void this.#passthrough.accept({ ...connection, source: peer, destination: local, virtualHost: virtualHost.serverName }),
    });
    this.#tls.update(snapshot);
  }

  /**
   * Accepts on these sockets and on no others.
   * @throws the system's error when one cannot listen; those before are served further
   */
  async listen(sockets: readonly InheritedSocket[]): Promise<void> {
    const before = this.#listeners;
    const now = new Map(sockets.map(({ listen, fd }) => [fd, before.get(fd) ?? this.#listener(listen)]));
    try {
      for (const [fd, listener] of now) if (!before.has(fd)) await listener.start(fd);
    } catch (error) {
      for (const [fd, listener] of now) if (!before.has(fd)) void listener.close();
      throw error;
    }
    for (const { listen, fd } of sockets) now.get(fd)!.listen = listen;
    for (const [fd, listener] of before) if (!now.has(fd)) void listener.close();
    this.#listeners = now;
  }

  #listener(listen: Listen): Listener {
    const listener = new Listener({
      listen,
      config: () => this.#snapshot.config,
      log: this.#log,
      admission: this.#admission,
      onConnection: (arrival) => {
        if (listener.listen.protocol === 'https') {
          this.#tls.accept(arrival);
          return;
        }
        arrival.settled();
        this.#http.accept(arrival.socket, { protocol: 'http', ...addresses(arrival), virtualHost: undefined });
      },
    });
    return listener;
  }

  apply(update: SnapshotUpdate): void {
    switch (update.type) {
      case 'snapshot': {
        this.#snapshot = update.snapshot;
        this.#staples = new Map(update.snapshot.staples);
        this.#log.configure(update.snapshot.config.log);
        this.#admission.limits = update.snapshot.limits;
        this.#http.update(update.snapshot.config, update.snapshot.backendFiles);
        this.#passthrough.update(update.snapshot.config);
        this.#http.endOutdated(this.#tls.update(update.snapshot));
        break;
      }
      case 'identities':
        for (const [fingerprint, staple] of update.staples) this.#staples.set(fingerprint, staple);
        this.#tls.setIdentities(update.virtualHosts, update.identities);
        break;
      case 'staples':
        for (const [fingerprint, staple] of update.staples) {
          if (staple) this.#staples.set(fingerprint, staple);
          else this.#staples.delete(fingerprint);
        }
        break;
      case 'ticketSecret':
        this.#tls.setTicketSecret(update.ticketSecret);
        break;
    }
  }

  /**
   * Accepts nothing new, lets open exchanges finish within `graceMs`, then cuts them. May be called again, with less patience.
   * @param hasSuccessor others serve the same sockets: idle connections are not closed under a request that is on its way, and
   *   tunnels have `tunnel_grace`
   */
  async close(graceMs: number, hasSuccessor = false): Promise<void> {
    const began = performance.now();
    this.#http.announceEnd();
    const arrived = Promise.all(Array.from(this.#listeners.values(), (listener) => listener.close()));
    await Promise.race([arrived, delay(Math.min(graceMs, arrivalMs), undefined, { ref: false })]);
    const left = Math.max(0, graceMs - (performance.now() - began));
    const tunnels = hasSuccessor ? Math.max(left, this.#snapshot.config.tunnelGrace) : left;
    await Promise.all([this.#http.close(left, hasSuccessor, tunnels), this.#passthrough.close(tunnels)]);
  }
}

/** The ends of a connection, as the proxy names them. */
function addresses({ peer, local }: Pick<Arrival, 'peer' | 'local'>) {
  return { clientAddress: peer.address, clientPort: peer.port, localAddress: local.address, localPort: local.port };
}
