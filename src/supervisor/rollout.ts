import { setImmediate } from 'node:timers/promises';
import { areServedAlike, type Certificate } from '../certificates/certificate.ts';
import { encodePem } from '../certificates/pem.ts';
import type { OcspPolicy } from '../config/policies.ts';
import type { VirtualHost } from '../config/schema.ts';
import type { Log } from '../log.ts';
import type { ResponseFile } from '../ocsp/given-response.ts';
import type { Stapler } from '../ocsp/stapler.ts';
import type { Identity, Snapshot } from '../snapshot.ts';

/** A non-must-staple certificate is worth serving without its staple; start-up gives a responder this long all the same. */
const courtesyWaitMs = 2_000;
/** At the start, virtual hosts that are ready within this time are sent to the workers together. */
const batchMs = 50;
/** And no more than this at once: what a worker makes of a message is garbage afterwards. */
const largestBatch = 250;

export interface RolloutOptions {
  stapler: Pick<Stapler, 'setCertificates' | 'current' | 'settled' | 'firstStaple' | 'isSettled'>;
  log: Log;
  now: () => number;
  /** These certificates are to be served from now on; their staples, where there are any, are ready. */
  onSwitch: (virtualHosts: readonly string[]) => void;
}

/**
 * Brings certificates into service together with their staples: a renewed certificate waits for its first OCSP answer
 * while the old one is valid; one that demands a staple (RFC 7633) waits for a good one.
 */
export class Rollout {
  readonly #options: RolloutOptions;
  #policies = new Map<string, OcspPolicy>();
  readonly #serving = new Map<string, readonly Certificate[]>();
  /** Read at the start, and in service as soon as they had their chance of a staple. */
  #starting: ReadonlyMap<string, readonly Certificate[]> = new Map();
  #reviewing: Promise<void> | undefined;
  readonly #awaiting = new Map<string, { certificates: readonly Certificate[]; since: number; said: boolean }>();

  constructor(options: RolloutOptions) {
    this.#options = options;
  }

  /** The certificates in service, of some virtual hosts or of all, with their staples. */
  inService(virtualHosts: readonly string[] = [...this.#serving.keys()]): Pick<Snapshot, 'identities' | 'staples'> {
    const identities = virtualHosts.flatMap((name) => this.certificates(name).map((certificate) => identity(name, certificate)));
    const staples: Snapshot['staples'] = new Map();
    for (const { fingerprint } of identities) {
      const staple = this.#options.stapler.current(fingerprint);
      if (staple) staples.set(fingerprint, staple);
    }
    return { identities, staples };
  }

  /** The virtual hosts of which nobody can say yet what they serve. */
  get awaited(): string[] {
    return [...this.#policies.keys()].filter((name) => !this.#serving.has(name));
  }

  /** What a virtual host (its server_name) serves now. */
  certificates(virtualHost: string): readonly Certificate[] {
    return this.#serving.get(virtualHost) ?? [];
  }

  /** Forgets the virtual hosts that are not among these. */
  setVirtualHosts(virtualHosts: readonly VirtualHost[]): void {
    this.#policies = new Map(virtualHosts.map(({ serverName, ocsp }) => [serverName, ocsp]));
    for (const map of [this.#serving, this.#awaiting]) for (const name of map.keys()) if (!this.#policies.has(name)) map.delete(name);
    this.#tellStapler();
  }

  /**
   * Start-up: each virtual host goes into service when its staples are here or had their chance; none waits for another's.
   * @param startupWaitMs how long must-staple certificates are waited for
   */
  async begin(certificates: ReadonlyMap<string, readonly Certificate[]>, startupWaitMs: number): Promise<void> {
    this.#starting = certificates;
    this.#tellStapler();
    const ready: string[] = [];
    const send = (): void => {
      if (ready.length > 0) this.#options.onSwitch(ready.splice(0));
    };
    const timer = setInterval(send, batchMs);
    const starts = Array.from(certificates, async ([virtualHost, own]) => {
      await Promise.all(own.map((certificate) => this.#firstChance(certificate, startupWaitMs)));
      this.#serving.set(virtualHost, own);
      if (ready.push(virtualHost) === largestBatch) send();
    });
    await Promise.all(starts);
    clearInterval(timer);
    send();
    this.#starting = new Map();
  }

  #firstChance({ fingerprint, mustStaple }: Certificate, startupWaitMs: number): Promise<void> {
    const { stapler } = this.#options;
    return mustStaple ? stapler.firstStaple(fingerprint, startupWaitMs) : stapler.settled(fingerprint, Math.min(startupWaitMs, courtesyWaitMs));
  }

  /**
   * Virtual hosts have these certificates now: those that are others than before switch when `review` finds them ready. Resolves
   * after their first chance.
   */
  async propose(proposals: ReadonlyMap<string, readonly Certificate[]>): Promise<void> {
    const since = this.#options.now();
    const others: [string, readonly Certificate[]][] = [];
    for (const [virtualHost, certificates] of proposals) {
      if (areSame(this.certificates(virtualHost), certificates)) {
        this.#awaiting.delete(virtualHost);
        this.#serving.set(virtualHost, certificates);
      } else {
        this.#awaiting.set(virtualHost, { certificates, since, said: false });
        others.push([virtualHost, certificates]);
      }
    }
    this.#tellStapler();
    const { stapler } = this.#options;
    const chances = others.map(async ([virtualHost, certificates]) => {
      const { timeout } = this.#policies.get(virtualHost) ?? { timeout: 0 };
      await Promise.all(certificates.map(({ fingerprint }) => stapler.settled(fingerprint, timeout)));
      await this.#reviewSoon();
    });
    await Promise.all(chances);
  }

  /** Once for all that are settled now: there may be ten thousand, and each review looks at all. */
  #reviewSoon(): Promise<void> {
    this.#reviewing ??= setImmediate().then(() => {
      this.#reviewing = undefined;
      this.review();
    });
    return this.#reviewing;
  }

  /** Switches what is ready. To be called when a staple came, and from time to time. */
  review(): void {
    const switched: string[] = [];
    for (const [virtualHost, waiting] of this.#awaiting) {
      const missing = waiting.certificates.find((certificate) => !this.#isReady(virtualHost, certificate, waiting.since));
      if (missing === undefined) {
        this.#awaiting.delete(virtualHost);
        this.#serving.set(virtualHost, waiting.certificates);
        switched.push(virtualHost);
      } else if (missing.mustStaple && !waiting.said) {
        waiting.said = true;
        this.#options.log.warn('the new certificate must be stapled: the old one is served until its staple is here', {
          code: 'awaiting_staple',
          virtual_host: virtualHost,
          file: missing.source.certificate,
        });
      }
    }
    if (switched.length === 0) return;
    // Workers have the new certificates before the staples of the old ones go.
    this.#options.onSwitch(switched);
    this.#tellStapler();
  }

  #isReady(virtualHost: string, { fingerprint, mustStaple }: Certificate, since: number): boolean {
    const policy = this.#policies.get(virtualHost);
    const now = this.#options.now();
    const old = this.certificates(virtualHost);
    const oldIsValid = old.length > 0 && old.every(({ notAfter }) => now < notAfter);
    if (!policy?.stapling || !oldIsValid || this.#options.stapler.current(fingerprint) !== undefined) return true;
    return !mustStaple && (this.#options.stapler.isSettled(fingerprint) || now - since >= policy.timeout);
  }

  #tellStapler(): void {
    const entries = [...this.#policies].flatMap(([virtualHost, policy]) => {
      const starting = this.#starting.get(virtualHost) ?? [];
      const certificates = new Set([...starting, ...this.certificates(virtualHost), ...(this.#awaiting.get(virtualHost)?.certificates ?? [])]);
      return [...certificates].map((certificate) => ({ certificate, policy, file: responseFile(certificate) }));
    });
    this.#options.stapler.setCertificates(entries);
  }
}

/** Where a response may be given by hand: the file that is named, or where HAProxy looks for it. */
export function responseFile({ source: { certificate, ocspResponse } }: Certificate): ResponseFile {
  return { path: ocspResponse ?? `${certificate}.ocsp`, configured: ocspResponse !== undefined };
}

function identity(virtualHost: string, { fingerprint, keyType, leaf, intermediates, keyPem }: Certificate): Identity {
  return { virtualHost, fingerprint, keyType, certificate: encodePem('CERTIFICATE', leaf.raw), intermediates, key: keyPem };
}

/** Whether workers would notice no difference: every reload reads the same certificates anew. */
function areSame(a: readonly Certificate[], b: readonly Certificate[]): boolean {
  return a.length === b.length && a.every((certificate, i) => areServedAlike(certificate, b[i]!));
}
