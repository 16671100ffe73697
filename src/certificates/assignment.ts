import type { Config, VirtualHost } from '../config/schema.ts';
import { type Certificate, type CertificateSource, validityWarning } from './certificate.ts';
import type { CertificateCode, CertificateError, CertificateWarning } from './certificate-error.ts';
import { chooseIdentities, uncovered } from './identities.ts';

/** A pair of files and what was last read from it. */
export interface Pair {
  readonly source: CertificateSource;
  inDirectory: boolean;
  /** No longer in certificates_dir. */
  gone: boolean;
  /** It was tried at least once. */
  read: boolean;
  /** The last one that was read without error. */
  certificate?: Certificate;
  /** Why the latest attempt failed. */
  error?: CertificateError;
}

/** Something wrong with certificates: an `error` keeps a file from being used, a `warn`ing does not. */
export interface Problem {
  /** Undefined when it is not known whom a pair of certificates_dir is for. */
  virtualHost: string | undefined;
  severity: 'error' | 'warn';
  code: CertificateCode;
  message: string;
  file: string | undefined;
}

export interface Assignment {
  /** By server_name. */
  certificates: Map<string, Certificate[]>;
  problems: Problem[];
  /** The pairs that a virtual host names, or serves. */
  usedPairs: Set<Pair>;
}

/** Decides which certificates each virtual host serves at `now` (ms since the epoch), and says what is wrong. */
export function assign(config: Config, pairs: readonly Pair[], directoryProblems: readonly CertificateError[], now: number): Assignment {
  const result: Assignment = { certificates: new Map(), problems: [], usedPairs: new Set() };
  const bySource = new Map(pairs.map((pair) => [sourceKey(pair.source), pair]));
  const byName = indexByName(pairs);
  const servesTls = config.listen.some(({ protocol }) => protocol === 'https');
  const add = (problem: Problem) => result.problems.push(problem);
  const addError = (virtualHost: string | undefined, { code, message, file }: Pick<CertificateError, 'code' | 'message' | 'file'>) =>
    add({ virtualHost, severity: 'error', code, message, file });
  const addPairError = (virtualHost: string | undefined, { error, certificate }: Pair) => {
    if (error === undefined) return;
    const message = certificate === undefined ? error.message : `${error.message}; the certificate read before is kept`;
    addError(virtualHost, { code: error.code, file: error.file, message });
  };

  for (const error of directoryProblems) addError(undefined, error);
  for (const host of config.virtualHosts) {
    const { serverName } = host;
    if (host.passthrough) continue;
    const names = [serverName, ...host.aliases];
    const warn = ({ code, message }: CertificateWarning, file: string) => add({ virtualHost: serverName, severity: 'warn', code, message, file });
    const isExplicit = host.certificates.length > 0;
    const candidates = isExplicit ? host.certificates.flatMap((source) => bySource.get(sourceKey(source)) ?? []) : matching(byName, names);
    const serving = isExplicit ? choose(candidates, names, now) : chooseFromDirectory(candidates, names, now);
    result.certificates.set(
      serverName,
      serving.map(({ certificate }) => certificate),
    );

    for (const pair of isExplicit ? candidates : serving.map((served) => served.pair)) {
      result.usedPairs.add(pair);
      if (isExplicit || !pair.gone) addPairError(serverName, pair);
    }
    for (const { pair, certificate } of serving) {
      const file = certificate.source.certificate;
      if (pair.gone && !isExplicit) warn(goneWarning(file), file);
      const validity = validityWarning(certificate, now);
      for (const warning of validity ? [validity, ...certificate.warnings] : certificate.warnings) warn(warning, file);
      const missing = uncovered(certificate, names);
      if (missing.length > 0) warn({ code: 'names_not_covered', message: `${file} does not cover ${missing.join(', ')}` }, file);
    }
    if (isExplicit) for (const { warning, file } of duplicates(candidates, serving, serverName)) warn(warning, file);
    if (serving.length === 0 && servesTls) add(noCertificate(host));
  }
  for (const pair of pairs) if (pair.inDirectory && !pair.gone && !result.usedPairs.has(pair)) addPairError(undefined, pair);
  return result;
}

interface Serving {
  pair: Pair;
  certificate: Certificate;
}

function choose(pairs: readonly Pair[], names: readonly string[], now: number): Serving[] {
  const byCertificate = new Map(pairs.flatMap((pair) => (pair.certificate ? [[pair.certificate, pair] as const] : [])));
  return chooseIdentities([...byCertificate.keys()], names, now).map((certificate) => ({ pair: byCertificate.get(certificate)!, certificate }));
}

/** What is gone from the directory serves only where nothing that is there does; what has expired, only when all have. */
function chooseFromDirectory(pairs: readonly Pair[], names: readonly string[], now: number): Serving[] {
  const isValid = ({ certificate }: Pair) => certificate !== undefined && validityWarning(certificate, now) === undefined;
  const usable = pairs.some(isValid) ? pairs.filter(isValid) : pairs;
  const present = choose(
    usable.filter(({ gone }) => !gone),
    names,
    now,
  );
  const gone = choose(
    usable.filter((pair) => pair.gone && !present.some(({ certificate }) => certificate.keyType === pair.certificate?.keyType)),
    names,
    now,
  );
  return [...present, ...gone];
}

function indexByName(pairs: readonly Pair[]): Map<string, Pair[]> {
  const byName = new Map<string, Pair[]>();
  for (const pair of pairs) {
    if (!pair.inDirectory) continue;
    for (const name of pair.certificate?.names ?? []) {
      const list = byName.get(name);
      if (list) list.push(pair);
      else byName.set(name, [pair]);
    }
  }
  return byName;
}

/** The pairs that cover at least one of the names, exactly or by wildcard. */
function matching(byName: Map<string, Pair[]>, names: readonly string[]): Pair[] {
  return [...new Set(names.flatMap((name) => [...(byName.get(name) ?? []), ...(byName.get(`*${name.slice(name.indexOf('.'))}`) ?? [])]))];
}

function duplicates(candidates: readonly Pair[], serving: readonly Serving[], serverName: string): { warning: CertificateWarning; file: string }[] {
  return candidates.flatMap(({ certificate }) => {
    const winner = serving.find((other) => other.certificate.keyType === certificate?.keyType)?.certificate;
    if (certificate === undefined || winner === undefined || winner === certificate) return [];
    const [file, served] = [certificate.source.certificate, winner.source.certificate];
    const message = `virtual host ${serverName} has two ${certificate.keyType} certificates; ${served} serves and ${file} does not`;
    return [{ warning: { code: 'duplicate_key_type' as const, message }, file }];
  });
}

function goneWarning(file: string): CertificateWarning {
  return { code: 'pair_missing', message: `${file} is gone from certificates_dir; the certificate read from it serves until another takes its place` };
}

function noCertificate({ serverName, certificates }: VirtualHost): Problem {
  const where =
    certificates.length > 0
      ? 'none of its certificates can be used (virtual_hosts[].certificates)'
      : 'it has no certificates, and none in certificates_dir covers its names';
  const message = `virtual host ${serverName} cannot serve TLS: ${where}`;
  return { virtualHost: serverName, severity: 'error', code: 'no_certificate', message, file: undefined };
}

/** One key for each pair of files. */
export function sourceKey({ certificate, key }: CertificateSource): string {
  return `${certificate}\0${key}`;
}
