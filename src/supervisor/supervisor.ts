import { isDeepStrictEqual } from 'node:util';
import { serveControl } from '../admin/control.ts';
import { stapleHandlers } from '../admin/staples.ts';
import type { Status } from '../admin/status.ts';
import type { Certificate } from '../certificates/certificate.ts';
import { CertificateStore } from '../certificates/store.ts';
import { FileWatcher } from '../certificates/watcher.ts';
import { loadConfig } from '../config/load.ts';
import type { Config, VirtualHost } from '../config/schema.ts';
import type { createLog } from '../log.ts';
import { Stapler } from '../ocsp/stapler.ts';
import type { Snapshot } from '../snapshot.ts';
import { version } from '../version.ts';
import type { InheritedSocket } from '../worker/worker.ts';
import { backendFileNames } from './backend-files.ts';
import { type NamedFiles, readNamedFiles } from './named-files.ts';
import { Rollout } from './rollout.ts';
import { StapleBatch } from './staple-batch.ts';
import { notifyServiceManager } from './service-manager.ts';
import type { Sockets } from './sockets.ts';
import { TicketSecret } from './ticket-secret.ts';
import { virtualHostStatus } from './virtual-host-status.ts';
import { resources, warnOfLimits, workerCount, workerLimits } from './worker-limits.ts';
import { Workers } from './workers.ts';

/** How often what time alone changes is looked at: certificates that became valid, old ones that ran out. */
const reviewMs = 30_000;

export class StartError extends Error {
  override name = 'StartError';
  readonly code = 'no_certificates';
}

/**
 * Owns everything that must survive a worker: configuration, certificates, staples, sockets. Builds the snapshot that
 * workers serve from and sends them what changes.
 */
export class Supervisor {
  readonly #log: ReturnType<typeof createLog>;
  readonly #sockets: Sockets;
  readonly #store: CertificateStore;
  readonly #stapler: Stapler;
  readonly #staples: StapleBatch;
  readonly #rollout: Rollout;
  readonly #workers: Workers;
  readonly #tickets: TicketSecret;
  readonly #configWatcher: FileWatcher;
  readonly #certificateWatcher: FileWatcher;
  #config: Config;
  #files: NamedFiles = { clientAuthorities: new Map(), backendFiles: new Map(), problems: [] };
  #control: { close(): Promise<void> } | undefined;
  /** What workers accept on. */
  #inherited: readonly InheritedSocket[] = [];
  #listeners: string[] = [];
  readonly #startedAt = Date.now();
  #loadedAt = Date.now();
  #refused: string | undefined;
  #isClosing = false;
  readonly #timers: NodeJS.Timeout[] = [];
  /** The start, reloads and certificate changes, one after another. */
  #queue: Promise<unknown> = Promise.resolve();

  constructor(config: Config, sockets: Sockets, log: ReturnType<typeof createLog>) {
    this.#config = config;
    this.#sockets = sockets;
    this.#log = log;
    this.#store = new CertificateStore({ log, onChange: (changed) => void this.#rollout.propose(changed) });
    this.#stapler = new Stapler({
      directory: config.stateDir,
      log,
      onStaple: (fingerprint, staple) => {
        this.#staples.add(fingerprint, staple);
        this.#rollout.review();
      },
    });
    this.#staples = new StapleBatch({ isStorming: () => this.#stapler.isStorming, send: (update) => this.#workers.send(update) });
    this.#rollout = new Rollout({
      stapler: this.#stapler,
      log,
      now: Date.now,
      onSwitch: (virtualHosts) => this.#workers.send({ type: 'identities', virtualHosts: [...virtualHosts], ...this.#rollout.inService(virtualHosts) }),
    });
    this.#workers = new Workers(() => this.#snapshot(), log);
    this.#tickets = new TicketSecret({ log, onChange: (ticketSecret) => this.#workers.send({ type: 'ticketSecret', ticketSecret }) });
    // Files are named to the watchers after they were read. Both report what is new to them and has changed lately, so
    // that no change falls in between.
    this.#configWatcher = new FileWatcher({ files: [], log, onChange: () => this.#enqueue(() => this.#reloadChanged()) });
    this.#certificateWatcher = new FileWatcher({
      files: [],
      log,
      onChange: async (paths) => {
        await this.#enqueue(async () => {
          await this.#store.recheck(paths);
          await this.#stapler.reread(paths);
        });
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
      await this.#enqueue(() => this.#start(this.#config));
    } catch (error) {
      await this.close();
      throw error;
    }
    await notifyServiceManager(this.#log, '--ready', `--status=serving ${hosts(this.#config)}`);
  }

  async #start(config: Config): Promise<void> {
    const sockets = await this.#sockets.open(config.listen);
    this.#inherited = sockets;
    this.#workers.prepare(workerCount(config), sockets);
    this.#readFiles(config);
    await this.#stapler.open();
    this.#stapler.keep = config.ocsp.keep;
    await this.#tickets.open(config.stateDir, config.tls.ticketRotation);
    const opened = openedHosts(config);
    this.#rollout.setVirtualHosts(opened);
    warnOfLimits(config.limits, resources(workerCount(config)), this.#log);
    this.#sockets.assertStillFree();
    await this.#workers.start(workerCount(config), sockets, 0);
    this.#sayListening(sockets);
    await this.#store.load(config);
    const certificates = this.#certificatesOf(opened);
    const isServable = opened.length < config.virtualHosts.length || [...certificates.values()].some((own) => own.length > 0);
    if (config.listen.some(({ protocol }) => protocol === 'https') && !isServable) {
      throw new StartError('no virtual host has a usable certificate; see the messages above');
    }
    await this.#rollout.begin(certificates, config.ocsp.startupWait);
    await this.#serveControl();
    this.#log.info(`serving ${hosts(config)}`, { workers: workerCount(config) });
    this.#watchFiles();
    this.#timers.push(setInterval(() => this.#review(), reviewMs));
  }

  /** Reads the configuration again. Anything wrong keeps the one in force. @returns whether the new one is in force */
  reload(): Promise<boolean> {
    return this.#enqueue(() => this.#reload());
  }

  async #reload(): Promise<boolean> {
    this.#log.info(`reloading ${this.#config.file}`);
    try {
      await this.#adopt(await loadConfig(this.#config.file));
      this.#refused = undefined;
      this.#loadedAt = Date.now();
      this.#log.info('configuration reloaded', { code: 'reloaded' });
      return true;
    } catch (error) {
      if (this.#isClosing) return false;
      this.#refused = error instanceof Error ? error.message : String(error);
      for (const line of this.#refused.split('\n')) this.#log.error(line, { code: 'reload_refused' });
      this.#log.error('the new configuration is not used; the one before stays in force', { code: 'reload_refused' });
      return false;
    }
  }

  /** A file has changed, or is only new to the watcher; a comment is no reason to reload either. */
  async #reloadChanged(): Promise<void> {
    if (this.#refused !== undefined || !(await this.#isInForce())) await this.#reload();
  }

  async #isInForce(): Promise<boolean> {
    try {
      const config = await loadConfig(this.#config.file);
      return isDeepStrictEqual([config, readNamedFiles(config, this.#files)], [this.#config, this.#files]);
    } catch {
      return false; // the reload says what is wrong
    }
  }

  /** Stops accepting, lets open requests finish within `shutdown_grace`, and gives everything back. */
  async close(): Promise<void> {
    this.#isClosing = true;
    await notifyServiceManager(this.#log, '--stopping');
    for (const timer of this.#timers) clearInterval(timer);
    const finished = this.#workers.close(this.#config.shutdownGrace);
    // While one descriptor is open the kernel goes on queueing connections that nobody will ever accept.
    this.#sockets.release([], workerCount(this.#config) === 0);
    // A reload may be waiting for a responder: without the stapler it waits no longer.
    await this.#stapler.close();
    this.#staples.close();
    await this.#queue.catch(() => {}); // whoever asked for it has the failure
    await Promise.all([finished, this.#tickets.close(), this.#configWatcher.close(), this.#certificateWatcher.close(), this.#control?.close()]);
  }

  async status(): Promise<Status> {
    return { ...this.#status, connections: await this.#workers.connections() };
  }

  get #status(): Omit<Status, 'connections'> {
    return {
      version,
      pid: process.pid,
      startedAt: this.#startedAt,
      configuration: { file: this.#config.file, loadedAt: this.#loadedAt, ...(this.#refused !== undefined && { refused: this.#refused }) },
      listeners: this.#listeners,
      stapling: this.#stapler.counters,
      virtualHosts: virtualHostStatus({
        config: this.#config,
        store: this.#store,
        stapler: this.#stapler,
        rollout: this.#rollout,
        policyProblems: this.#files.problems,
      }),
    };
  }

  async #adopt(config: Config): Promise<void> {
    const old = this.#config;
    const isOneProcess = workerCount(config) === 0;
    if (isOneProcess !== (workerCount(old) === 0)) throw new Error('workers: a change from or to 0 needs a restart');
    const sockets = await this.#sockets.open(config.listen);
    const others = !isDeepStrictEqual(old.listen, config.listen) || workerCount(old) !== workerCount(config);
    try {
      await this.#load(config);
      if (others) await this.#workers.start(workerCount(config), sockets, config.shutdownGrace);
      else this.#workers.send({ type: 'snapshot', snapshot: this.#snapshot() });
    } catch (error) {
      if (this.#isClosing) throw error;
      this.#sockets.release(this.#inherited, isOneProcess);
      if (this.#config !== old) await this.#load(old);
      throw error;
    }
    this.#inherited = sockets;
    this.#sockets.release(sockets, isOneProcess);
    if (others) this.#sayListening(sockets);
    this.#log.configure(config.log);
    warnOfLimits(config.limits, resources(workerCount(config)), this.#log);
    this.#stapler.keep = config.ocsp.keep;
    void this.#tickets.setRotation(config.tls.ticketRotation);
    if (old.stateDir !== config.stateDir) this.#log.warn('state_dir changes at the next start only', { code: 'restart_needed' });
    this.#watchFiles();
  }

  #readFiles(config: Config): void {
    this.#files = readNamedFiles(config, this.#files);
    for (const { severity, virtualHost, code, message } of this.#files.problems) this.#log[severity](message, { code, virtual_host: virtualHost });
  }

  /** Reads what a configuration names and brings its certificates into service. */
  async #load(config: Config): Promise<void> {
    this.#readFiles(config);
    await this.#store.load(config);
    this.#config = config;
    const opened = openedHosts(config);
    this.#rollout.setVirtualHosts(opened);
    await this.#rollout.propose(this.#certificatesOf(opened));
  }

  #certificatesOf(virtualHosts: readonly VirtualHost[]): Map<string, readonly Certificate[]> {
    return new Map(virtualHosts.map(({ serverName }) => [serverName, this.#store.identities(serverName)]));
  }

  #sayListening(sockets: readonly InheritedSocket[]): void {
    this.#listeners = [...new Set(sockets.map(({ listen, where }) => `${where} (${listen.protocol})`))];
    for (const listener of this.#listeners) this.#log.info(`listening on ${listener}`);
  }

  #snapshot(): Snapshot {
    return {
      config: this.#config,
      ...this.#rollout.inService(),
      awaited: this.#rollout.awaited,
      clientAuthorities: this.#files.clientAuthorities,
      backendFiles: this.#files.backendFiles,
      ticketSecret: this.#tickets.current,
      limits: workerLimits(this.#config.limits, resources(workerCount(this.#config))),
    };
  }

  /** Without it everything is served all the same. */
  async #serveControl(): Promise<void> {
    try {
      this.#control = await serveControl(this.#config.stateDir, { 'GET /status': () => this.status(), ...stapleHandlers(this.#stapler, () => this.#status) });
    } catch (error) {
      const cause = error instanceof Error ? error.message : String(error);
      this.#log.warn(`no control socket, so staplegate status will not work (state_dir): ${cause}`, { code: 'control_socket' });
    }
  }

  #review(): void {
    void this.#enqueue(() => this.#store.recheck([]));
    this.#rollout.review();
  }

  /** The configuration with the authorities that it names, all pairs of certificate and key, and responses given by hand. */
  #watchFiles(): void {
    this.#configWatcher.update([this.#config.file, ...this.#files.clientAuthorities.keys(), ...backendFileNames(this.#config)]);
    this.#certificateWatcher.update([...this.#store.files(), ...this.#stapler.files()], this.#store.directories());
  }

  #enqueue<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#queue.then(work);
    this.#queue = done.catch(() => {}); // the caller has the failure; the next in the queue must run nevertheless
    return done;
  }
}

/** The virtual hosts whose TLS ends here. */
function openedHosts({ virtualHosts }: Config): VirtualHost[] {
  return virtualHosts.filter(({ passthrough }) => !passthrough);
}

function hosts({ virtualHosts }: Config): string {
  return virtualHosts.length === 1 ? '1 virtual host' : `${virtualHosts.length} virtual hosts`;
}
