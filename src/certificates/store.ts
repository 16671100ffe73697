import type { Config } from '../config/schema.ts';
import type { Log } from '../log.ts';
import { assign, type Assignment, type Pair, type Problem, sourceKey } from './assignment.ts';
import { areServedAlike, type Certificate, type CertificateSource } from './certificate.ts';
import { CertificateError } from './certificate-error.ts';
import { issuerFiles, loadPair, scanDirectory } from './files.ts';
import { inSlices } from './in-slices.ts';

export interface CertificateStoreOptions {
  log: Log;
  /** These virtual hosts have other certificates now; called by a recheck, not by a load. */
  onChange?: (changed: ReadonlyMap<string, readonly Certificate[]>) => void;
  /** Milliseconds since the epoch. */
  now?: () => number;
}

/**
 * The certificates of the virtual hosts, as last read without error: a pair that is half-written, mismatched or gone for
 * a moment keeps its predecessor. Who asks decides when workers see a change.
 */
export class CertificateStore {
  readonly #log: Log;
  readonly #onChange: NonNullable<CertificateStoreOptions['onChange']>;
  readonly #now: () => number;
  #config: Config | undefined;
  /** By source, so that a pair named by several virtual hosts is read once. */
  #pairs = new Map<string, Pair>();
  #directoryProblems: CertificateError[] = [];
  #assigned: Assignment = { certificates: new Map(), problems: [], usedPairs: new Set() };
  /** Loads and rechecks run one after another. */
  #queue: Promise<void> = Promise.resolve();

  constructor({ log, onChange = () => {}, now = Date.now }: CertificateStoreOptions) {
    this.#log = log;
    this.#onChange = onChange;
    this.#now = now;
  }

  /** Reads every pair of a configuration. What fails is in problems(); pairs that were read before keep serving. */
  load(config: Config): Promise<void> {
    return this.#enqueue(async () => {
      const previous = this.#pairs;
      const sameDirectory = this.#config?.certificatesDir === config.certificatesDir;
      this.#config = config;
      this.#pairs = new Map();
      for (const source of config.virtualHosts.flatMap((host) => host.certificates)) this.#add(source, previous.get(sourceKey(source)));
      this.#scan(sameDirectory ? previous : new Map());
      await inSlices([...this.#pairs.values()], (pair) => this.#read(pair, true));
      const before = this.#assigned.certificates;
      this.#assign();
      // A renewed certificate may be met here first; those of new virtual hosts are no change.
      for (const [virtualHost, certificates] of this.#others(before))
        if (before.has(virtualHost)) this.#say(virtualHost, certificates, before.get(virtualHost)!);
    });
  }

  /**
   * Reads again the pairs that depend on one of `paths`; `[]` reads none and only looks at the clock. Then
   * reports every virtual host whose certificates are others now.
   */
  recheck(paths: readonly string[]): Promise<void> {
    return this.#enqueue(async () => {
      const directory = this.#config?.certificatesDir;
      if (directory !== undefined && paths.includes(directory)) this.#scan(this.#pairs);
      const changed = new Set(paths);
      const affected = [...this.#pairs.values()].filter((pair) => !pair.read || dependencies(pair).some((file) => changed.has(file)));
      await inSlices(affected, (pair) => this.#read(pair, false));
      const before = this.#assigned.certificates;
      this.#assign();
      const others = this.#others(before);
      for (const [virtualHost, certificates] of others) this.#say(virtualHost, certificates, before.get(virtualHost) ?? []);
      if (others.length > 0) this.#onChange(new Map(others));
    });
  }

  /** The certificates that a virtual host (its server_name) serves, one for each key type. */
  identities(virtualHost: string): readonly Certificate[] {
    return this.#assigned.certificates.get(virtualHost) ?? [];
  }

  problems(): readonly Problem[] {
    return this.#assigned.problems;
  }

  /** The files whose change should lead to a recheck. */
  files(): string[] {
    return [...new Set([...this.#pairs.values()].flatMap((pair) => dependencies(pair)))];
  }

  /** The directories in which new pairs may appear. */
  directories(): string[] {
    return this.#config?.certificatesDir === undefined ? [] : [this.#config.certificatesDir];
  }

  #enqueue(work: () => Promise<void>): Promise<void> {
    const done = this.#queue.then(work);
    // The caller gets the failure; the next in the queue must run nevertheless.
    this.#queue = done.catch(() => {});
    return done;
  }

  #add(source: CertificateSource, previous: Pair | undefined): Pair {
    const key = sourceKey(source);
    const pair = this.#pairs.get(key) ?? { ...previous, source, inDirectory: false, gone: false, read: false };
    this.#pairs.set(key, pair);
    return pair;
  }

  #scan(previous: ReadonlyMap<string, Pair>): void {
    const directory = this.#config?.certificatesDir;
    this.#directoryProblems = [];
    if (directory === undefined) return;
    const { pairs, problems } = scanDirectory(directory);
    this.#directoryProblems = problems;
    const present = new Set(pairs.map(sourceKey));
    for (const source of pairs) Object.assign(this.#add(source, previous.get(sourceKey(source))), { inDirectory: true, gone: false });
    for (const [key, pair] of previous) {
      if (!pair.inDirectory || present.has(key)) continue;
      // A directory that cannot be listed says nothing about what is in it.
      if (problems.length > 0) this.#add(pair.source, pair).inDirectory = true;
      else pair.gone = true;
    }
  }

  #read(pair: Pair, acceptLostIssuer: boolean): void {
    pair.read = true;
    try {
      const certificate = loadPair(pair.source);
      if (!acceptLostIssuer && lostIssuer(pair.certificate, certificate, this.#now())) {
        const file = pair.source.certificate;
        throw new CertificateError('chain_incomplete', file, `${file} has lost the issuer of its certificate; reload to serve it without`);
      }
      pair.certificate = certificate;
      delete pair.error;
    } catch (error) {
      if (!(error instanceof CertificateError)) throw error;
      pair.error = error;
    }
  }

  #assign(): void {
    if (this.#config === undefined) return;
    const before = new Set(this.#assigned.problems.map(({ code, message }) => `${code} ${message}`));
    this.#assigned = assign(this.#config, [...this.#pairs.values()], this.#directoryProblems, this.#now());
    for (const [key, pair] of this.#pairs) if (pair.gone && !this.#assigned.usedPairs.has(pair)) this.#pairs.delete(key);
    for (const { code, message, file, severity, virtualHost } of this.#assigned.problems) {
      const line = `${code} ${message}`;
      if (before.has(line)) continue;
      before.add(line);
      this.#log[severity](message, { code, file, virtual_host: virtualHost });
    }
  }

  /** Virtual hosts that have others than before. */
  #others(before: ReadonlyMap<string, readonly Certificate[]>): [virtualHost: string, readonly Certificate[]][] {
    return [...this.#assigned.certificates].filter(([virtualHost, certificates]) => !areSame(before.get(virtualHost) ?? [], certificates));
  }

  #say(virtualHost: string, certificates: readonly Certificate[], previous: readonly Certificate[]): void {
    for (const { source, keyType, fingerprint, notAfter } of certificates.filter((one) => !previous.some((other) => isSame(one, other)))) {
      const facts = { virtual_host: virtualHost, file: source.certificate, key_type: keyType, fingerprint, not_after: new Date(notAfter).toISOString() };
      this.#log.info('certificate changed', facts);
    }
  }
}

/** A certificate that had its issuer beside it and has it no more is most likely cut off between two PEM blocks. */
function lostIssuer(previous: Certificate | undefined, next: Certificate, now: number): boolean {
  return previous?.issuer !== undefined && next.issuer === undefined && !next.selfSigned && now <= previous.notAfter;
}

/** Whether two lists serve the same bytes; files that were only touched are no change. */
function areSame(a: readonly Certificate[], b: readonly Certificate[]): boolean {
  return a.length === b.length && a.every((certificate, i) => isSame(certificate, b[i]!));
}

function isSame(a: Certificate, b: Certificate): boolean {
  return areServedAlike(a, b) && a.issuerFingerprint === b.issuerFingerprint;
}

function dependencies({ source, certificate }: Pair): string[] {
  const standsAlone = certificate === undefined || certificate.selfSigned || (certificate.issuer !== undefined && certificate.source.issuer === undefined);
  return [source.certificate, source.key, ...(standsAlone ? [] : issuerFiles(source.certificate))];
}
