import { type CertificateStatus, distinctCertificates } from '../../admin/status.ts';
import { CertificateStore } from '../../certificates/store.ts';
import type { Config } from '../../config/schema.ts';
import type { Log } from '../../log.ts';
import type { Clock } from '../../ocsp/clock.ts';
import { Stapler } from '../../ocsp/stapler.ts';
import { responseFile } from '../../supervisor/rollout.ts';
import { certificateStatus } from '../../supervisor/virtual-host-status.ts';
import { Progress } from './progress.ts';

/** Nothing that is planned ever begins: a command neither asks responders nor waits for anything. */
const stopped: Clock = { now: Date.now, random: Math.random, setTimeout: () => () => {} };

/** The certificates of a configuration and the responses kept on disk for them, verified as a start would, for when Staplegate does not run. */
export class StoppedStapler {
  readonly stapler: Stapler;
  /** What went wrong with the folder of the responses, for people. */
  readonly troubles: string[] = [];
  readonly #config: Config;
  readonly #store: CertificateStore;
  readonly #progress = new Progress();

  constructor(config: Config) {
    this.#config = config;
    // Certificates say what is wrong with them in their status, and `staplegate check` says it of their files.
    const warn: Log['warn'] = (message, facts) => void (String(facts?.['code']).startsWith('cache_') && this.troubles.push(message));
    const log: Log = { error() {}, warn, info() {}, debug() {} };
    this.#store = new CertificateStore({ log });
    this.stapler = new Stapler({ directory: config.stateDir, log, onStaple() {}, clock: stopped });
  }

  async readCertificates(): Promise<void> {
    this.#progress.show('reading certificates…');
    await this.#store.load(this.#config);
    this.#progress.end();
  }

  async readResponses(): Promise<void> {
    this.#progress.show('verifying responses…');
    const { virtualHosts } = this.#config;
    this.stapler.setCertificates(
      virtualHosts.flatMap(({ serverName, ocsp: policy }) =>
        this.#store.identities(serverName).map((certificate) => ({ certificate, policy, file: responseFile(certificate) })),
      ),
    );
    await this.stapler.idle();
    this.#progress.end();
  }

  certificates(): CertificateStatus[] {
    const statusOf = certificateStatus(this.stapler);
    return distinctCertificates(this.#config.virtualHosts.map(({ serverName }) => ({ certificates: this.#store.identities(serverName).map(statusOf) })));
  }
}
