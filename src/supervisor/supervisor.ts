import { isDeepStrictEqual } from 'node:util';
import { serveControl } from '../admin/control.ts';
import { stapleHandlers } from '../admin/staples.ts';
import type { Status } from '../admin/status.ts';
import { FileWatcher } from '../certificates/watcher.ts';
import type { Config } from '../config/schema.ts';
import type { createLog } from '../log.ts';
import type { Snapshot } from '../snapshot.ts';
import { version } from '../version.ts';
import type { InheritedSocket } from '../worker/worker.ts';
import { backendFileNames } from './backend-files.ts';
import { Configuration } from './configuration.ts';
import { Identities } from './identities.ts';
import { notifyServiceManager } from './service-manager.ts';
import type { Sockets } from './sockets.ts';
import { TicketSecret } from './ticket-secret.ts';
import { resources, warnOfLimits, workerCount, workerLimits } from './worker-limits.ts';
import { Workers } from './workers.ts';

/** How often what time alone changes is looked at: certificates that became valid, old ones that ran out. */
const reviewMs = 30_000;

/**
 * Owns everything that must survive a worker: configuration, certificates, staples, sockets. Builds the snapshot that
 * workers serve from and sends them what changes.
 */
export class Supervisor {
  readonly #log: ReturnType<typeof createLog>;
  readonly #configuration: Configuration;
  readonly #identities: Identities;
  readonly #sockets: Sockets;
  readonly #workers: Workers;
  readonly #tickets: TicketSecret;
  readonly #configWatcher: FileWatcher;
  readonly #certificateWatcher: FileWatcher;
  #control: { close(): Promise<void> } | undefined;
  /** What workers accept on. */
  #inherited: readonly InheritedSocket[] = [];
  readonly #startedAt = Date.now();
  readonly #ending = new AbortController();
  #reviewing: NodeJS.Timeout | undefined;
  /** The start, reloads and certificate changes, one after another. */
  #queue: Promise<unknown> = Promise.resolve();

  constructor(config: Config, sockets: Sockets, log: ReturnType<typeof createLog>) {
    this.#sockets = sockets;
    this.#log = log;
    this.#configuration = new Configuration(config, log);
    this.#workers = new Workers(() => this.#snapshot(), log);
    this.#identities = new Identities(config.stateDir, log, (update) => this.#workers.send(update));
    this.#tickets = new TicketSecret({ log, onChange: (ticketSecret) => this.#workers.send({ type: 'ticketSecret', ticketSecret }) });
    // Files are named to the watchers after they were read. Both report what is new to them and has changed lately, so
    // that no change falls in between.
    this.#configWatcher = new FileWatcher({ log, onChange: () => this.#enqueue(() => this.#reloadChanged()) });
    this.#certificateWatcher = new FileWatcher({
      log,
      onChange: async (paths) => {
        await this.#enqueue(() => this.#identities.recheck(paths));
        this.#watchFiles();
      },
    });
  }

  /**
   * Accepts connections, then loads certificates and cached staples: a handshake waits until its virtual host is ready.
   * Resolves when all are.
   * @throws StartError, ListenError, FolderInUse; everything is closed again
   */
  async start(): Promise<void> {
    try {
      await this.#enqueue(() => this.#start());
    } catch (error) {
      await this.close();
      throw error;
    }
    await notifyServiceManager(this.#log, '--ready', `--status=serving ${hosts(this.#configuration.config)}`);
  }

  async #start(): Promise<void> {
    const { config } = this.#configuration;
    this.#inherited = await this.#sockets.open(config.listen);
    this.#workers.prepare(workerCount(config), this.#inherited);
    this.#configuration.use(config);
    await this.#identities.open(config);
    await this.#tickets.open(config.stateDir, config.tls.ticketRotation);
    warnOfLimits(config.limits, resources(workerCount(config)), this.#log);
    this.#sockets.assertStillFree();
    await this.#workers.start(workerCount(config), this.#inherited, 0);
    this.#sayListening();
    await this.#identities.begin(config);
    await this.#serveControl();
    this.#log.info(`serving ${hosts(config)}`, { workers: workerCount(config) });
    this.#watchFiles();
    this.#reviewing = setInterval(() => this.#review(), reviewMs);
  }

  /** Reads the configuration again. Anything wrong keeps the one in force. @returns whether the new one is in force */
  reload(): Promise<boolean> {
    return this.#enqueue(() => this.#reload());
  }

  #reload(): Promise<boolean> {
    return this.#configuration.reload((config) => this.#adopt(config), this.#ending.signal);
  }

  async #reloadChanged(): Promise<void> {
    if (await this.#configuration.isOutdated()) await this.#reload();
  }

  /** Stops accepting, lets open requests finish within `shutdown_grace`, and gives everything back. */
  async close(): Promise<void> {
    this.#ending.abort();
    await notifyServiceManager(this.#log, '--stopping');
    clearInterval(this.#reviewing);
    const { config } = this.#configuration;
    const finished = this.#workers.close(config.shutdownGrace);
    // While one descriptor is open the kernel goes on queueing connections that nobody will ever accept.
    this.#sockets.release([], workerCount(config) === 0);
    // A reload may be waiting for a responder: when nobody is asked any more, it waits no longer.
    await this.#identities.close();
    await this.#queue.catch(() => {}); // whoever asked for it has the failure
    await Promise.all([finished, this.#tickets.close(), this.#configWatcher.close(), this.#certificateWatcher.close(), this.#control?.close()]);
  }

  async status(): Promise<Status> {
    return { ...this.#status, connections: await this.#workers.connections() };
  }

  get #status(): Omit<Status, 'connections'> {
    const { config, files, status } = this.#configuration;
    return {
      version,
      pid: process.pid,
      startedAt: this.#startedAt,
      configuration: status,
      listeners: this.#listeners,
      stapling: this.#identities.stapler.counters,
      virtualHosts: this.#identities.status(config, files.problems),
    };
  }

  /** Everything or nothing: what fails leaves the configuration before in force. */
  async #adopt(config: Config): Promise<void> {
    const old = this.#configuration.config;
    const isOneProcess = workerCount(config) === 0;
    if (isOneProcess !== (workerCount(old) === 0)) throw new Error('workers: a change from or to 0 needs a restart');
    const sockets = await this.#sockets.open(config.listen);
    const others = !isDeepStrictEqual(old.listen, config.listen) || workerCount(old) !== workerCount(config);
    try {
      await this.#load(config);
      if (others) await this.#workers.start(workerCount(config), sockets, config.shutdownGrace);
      else this.#workers.send({ type: 'snapshot', snapshot: this.#snapshot() });
    } catch (error) {
      if (this.#ending.signal.aborted) throw error;
      this.#sockets.release(this.#inherited, isOneProcess);
      if (this.#configuration.config !== old) await this.#load(old);
      throw error;
    }
    this.#inherited = sockets;
    this.#sockets.release(sockets, isOneProcess);
    if (others) this.#sayListening();
    this.#log.configure(config.log);
    warnOfLimits(config.limits, resources(workerCount(config)), this.#log);
    void this.#tickets.setRotation(config.tls.ticketRotation);
    if (old.stateDir !== config.stateDir) this.#log.warn('state_dir changes at the next start only', { code: 'restart_needed' });
    this.#watchFiles();
  }

  /** Reads what a configuration names and brings its certificates into service. */
  async #load(config: Config): Promise<void> {
    await this.#identities.read(config);
    this.#configuration.use(config);
    await this.#identities.propose(config);
  }

  get #listeners(): string[] {
    return [...new Set(this.#inherited.map(({ listen, where }) => `${where} (${listen.protocol})`))];
  }

  #sayListening(): void {
    for (const listener of this.#listeners) this.#log.info(`listening on ${listener}`);
  }

  #snapshot(): Snapshot {
    const { config, files } = this.#configuration;
    return {
      config,
      ...this.#identities.inService(),
      clientAuthorities: files.clientAuthorities,
      backendFiles: files.backendFiles,
      ticketSecret: this.#tickets.current,
      limits: workerLimits(config.limits, resources(workerCount(config))),
    };
  }

  /** Without it everything is served all the same. */
  async #serveControl(): Promise<void> {
    const { stateDir } = this.#configuration.config;
    try {
      this.#control = await serveControl(stateDir, {
        'GET /status': () => this.status(),
        ...stapleHandlers(this.#identities.stapler, () => this.#status),
      });
    } catch (error) {
      const cause = error instanceof Error ? error.message : String(error);
      this.#log.warn(`no control socket, so staplegate status will not work (state_dir): ${cause}`, { code: 'control_socket' });
    }
  }

  #review(): void {
    void this.#enqueue(() => this.#identities.recheck([]));
    this.#identities.review();
  }

  /** The configuration with the authorities that it names, all pairs of certificate and key, and responses given by hand. */
  #watchFiles(): void {
    const { config, files } = this.#configuration;
    void this.#configWatcher.update([config.file, ...files.clientAuthorities.keys(), ...backendFileNames(config)]);
    void this.#certificateWatcher.update(this.#identities.files, this.#identities.directories);
  }

  #enqueue<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#queue.then(work);
    this.#queue = done.catch(() => {}); // the caller has the failure; the next in the queue must run nevertheless
    return done;
  }
}

function hosts({ virtualHosts }: Config): string {
  return virtualHosts.length === 1 ? '1 virtual host' : `${virtualHosts.length} virtual hosts`;
}
