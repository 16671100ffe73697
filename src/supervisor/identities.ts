import type { VirtualHostStatus } from '../admin/status.ts';
import type { Certificate } from '../certificates/certificate.ts';
import { CertificateStore } from '../certificates/store.ts';
import type { Config, VirtualHost } from '../config/schema.ts';
import type { Log } from '../log.ts';
import { Stapler } from '../ocsp/stapler.ts';
import type { Snapshot, SnapshotUpdate } from '../snapshot.ts';
import { Rollout } from './rollout.ts';
import { StapleBatch } from './staple-batch.ts';
import type { PolicyProblem } from './tls-policies.ts';
import { virtualHostStatus } from './virtual-host-status.ts';

export class StartError extends Error {
  override name = 'StartError';
  readonly code = 'no_certificates';
}

/** The certificates of the virtual hosts with their staples, on the whole way from the files to the workers. */
export class Identities {
  readonly stapler: Stapler;
  readonly #store: CertificateStore;
  readonly #staples: StapleBatch;
  readonly #rollout: Rollout;

  /** @param send to all workers */
  constructor(stateDir: string, log: Log, send: (update: SnapshotUpdate) => void) {
    this.#store = new CertificateStore({ log, onChange: (changed) => void this.#rollout.propose(changed) });
    this.stapler = new Stapler({
      directory: stateDir,
      log,
      onStaple: (fingerprint, staple) => {
        this.#staples.add(fingerprint, staple);
        this.#rollout.review();
      },
    });
    this.#staples = new StapleBatch({ isStorming: () => this.stapler.isStorming, send });
    this.#rollout = new Rollout({
      stapler: this.stapler,
      log,
      now: Date.now,
      onSwitch: (virtualHosts) => send({ type: 'identities', virtualHosts: [...virtualHosts], ...this.#rollout.inService(virtualHosts) }),
    });
  }

  /** @throws FolderInUse */
  async open(config: Config): Promise<void> {
    await this.stapler.open();
    this.#setVirtualHosts(config);
  }

  /**
   * Reads certificates and cached staples; resolves when all virtual hosts are in service.
   * @throws StartError when none can be
   */
  async begin(config: Config): Promise<void> {
    await this.read(config);
    const certificates = this.#certificatesOf(config);
    const isServable = certificates.size < config.virtualHosts.length || [...certificates.values()].some((own) => own.length > 0);
    if (config.listen.some(({ protocol }) => protocol === 'https') && !isServable) {
      throw new StartError('no virtual host has a usable certificate; see the messages above');
    }
    await this.#rollout.begin(certificates, config.ocsp.startupWait);
  }

  /** Reads the certificates of a configuration, to be brought into service by `propose`. */
  read(config: Config): Promise<void> {
    return this.#store.load(config);
  }

  /** Brings what was read into service. Resolves after the first chance of a staple. */
  async propose(config: Config): Promise<void> {
    this.#setVirtualHosts(config);
    await this.#rollout.propose(this.#certificatesOf(config));
  }

  #setVirtualHosts(config: Config): void {
    this.stapler.keep = config.ocsp.keep;
    this.#rollout.setVirtualHosts(openedHosts(config));
  }

  #certificatesOf(config: Config): Map<string, readonly Certificate[]> {
    return new Map(openedHosts(config).map(({ serverName }) => [serverName, this.#store.identities(serverName)]));
  }

  /** Reads again what depends on files that have changed; `[]` only looks at the clock. */
  async recheck(paths: readonly string[]): Promise<void> {
    await this.#store.recheck(paths);
    await this.stapler.reread(paths);
  }

  /** Switches what is ready by now. */
  review(): void {
    this.#rollout.review();
  }

  /** All pairs of certificate and key, and responses given by hand. */
  get files(): string[] {
    return [...this.#store.files(), ...this.stapler.files()];
  }

  get directories(): string[] {
    return this.#store.directories();
  }

  inService(): Pick<Snapshot, 'identities' | 'staples' | 'awaited'> {
    return { ...this.#rollout.inService(), awaited: this.#rollout.awaited };
  }

  status(config: Config, policyProblems: readonly PolicyProblem[]): VirtualHostStatus[] {
    return virtualHostStatus({ config, store: this.#store, stapler: this.stapler, rollout: this.#rollout, policyProblems });
  }

  async close(): Promise<void> {
    await this.stapler.close();
    this.#staples.close();
  }
}

/** The virtual hosts whose TLS ends here. */
function openedHosts({ virtualHosts }: Config): VirtualHost[] {
  return virtualHosts.filter(({ passthrough }) => !passthrough);
}
