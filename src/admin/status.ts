import type { ConnectionCounters } from '../connection-counters.ts';
import type { StaplingCounters } from '../ocsp/counters.ts';
import type { StapleStatus } from '../ocsp/staple-status.ts';

/** What `staplegate status` shows and a monitoring script reads. Times are milliseconds since the epoch. */
export interface Status {
  version: string;
  pid: number;
  startedAt: number;
  configuration: { file: string; loadedAt: number; /** Why the newest one is not in force. */ refused?: string };
  listeners: string[];
  connections: ConnectionCounters;
  /** OCSP since the start: updates, and what responders were asked and answered. */
  stapling: StaplingCounters;
  virtualHosts: VirtualHostStatus[];
}

export interface VirtualHostStatus {
  serverName: string;
  aliases: string[];
  /** Where connections are carried unopened (`tls: passthrough`). */
  passthrough?: string[];
  certificates: CertificateStatus[];
  problems: { severity: 'error' | 'warn'; code: string; message: string }[];
}

export interface CertificateStatus {
  file: string;
  keyType: string;
  fingerprint: string;
  notAfter: number;
  staple: StapleStatus | undefined;
}

/** Each certificate once, however many virtual hosts use it. */
export function distinctCertificates(virtualHosts: readonly Pick<VirtualHostStatus, 'certificates'>[]): CertificateStatus[] {
  return [...new Map(virtualHosts.flatMap(({ certificates }) => certificates.map((certificate) => [certificate.fingerprint, certificate]))).values()];
}

const marks: Record<StapleStatus['state'], string> = {
  good: 'staple good',
  pending: 'staple pending',
  failing: 'STAPLE FAILING',
  revoked: 'REVOKED',
  expired: 'CERTIFICATE EXPIRED',
  no_responder: 'no OCSP responder',
  off: 'stapling off',
};

/** Whether anything needs an administrator: what the exit code of `staplegate status` says. */
export function isHealthy({ configuration, virtualHosts }: Status, now: number): boolean {
  return (
    configuration.refused === undefined &&
    virtualHosts.every(
      ({ certificates, problems }) =>
        problems.every(({ severity }) => severity !== 'error') &&
        certificates.every(({ notAfter, staple }) => now < notAfter && (staple === undefined || isStapleHealthy(staple, now))),
    )
  );
}

const bad = new Set<StapleStatus['state']>(['failing', 'revoked', 'expired']);

/** The same for one certificate. */
export function isStapleHealthy(staple: StapleStatus, now: number): boolean {
  return !bad.has(staple.state) || isEarly(staple, now);
}

/** A failed refresh is no trouble yet before three quarters of the staple's life are over. */
function isEarly({ state, serving, thisUpdate = 0, validUntil = 0 }: StapleStatus, now: number): boolean {
  return state === 'failing' && serving && now < thisUpdate + (validUntil - thisUpdate) * 0.75;
}

/** The status for a person at a terminal. */
export function statusText(status: Status, now: number): string {
  const { version, pid, configuration, listeners, connections, stapling, virtualHosts } = status;
  const lines = [
    `Staplegate ${version}, process ${pid}, running for ${span(now - status.startedAt)}`,
    `${configuration.file}, loaded ${span(now - configuration.loadedAt)} ago`,
    ...(configuration.refused === undefined ? [] : [`  NOT IN FORCE, the file on disk is refused: ${configuration.refused}`]),
    `listening on ${listeners.join(', ')}`,
    connectionsText(connections),
    staplingText(stapling),
  ];
  for (const { serverName, aliases, passthrough, certificates, problems } of virtualHosts) {
    lines.push('', [serverName, ...aliases].join(' '));
    if (passthrough) lines.push(`  passthrough to ${passthrough.join(', ')}`);
    for (const { file, keyType, notAfter, staple } of certificates) {
      const validity = now < notAfter ? `valid for ${span(notAfter - now)}` : `EXPIRED ${span(now - notAfter)} ago`;
      lines.push(`  ${keyType.padEnd(7)} ${validity}, ${staple === undefined ? 'no staple' : stapleText(staple, now)}  (${file})`);
      if (staple?.lastError) lines.push(`          last error ${span(now - staple.lastError.at)} ago: ${staple.lastError.message}`);
    }
    for (const { severity, message } of problems) lines.push(`  ${severity === 'error' ? 'ERROR' : 'warning'}: ${message}`);
  }
  return lines.join('\n');
}

function connectionsText({ accepted, handshakes, carried, refused, now }: ConnectionCounters): string {
  const sum = (kinds: Record<string, number>): number => Object.values(kinds).reduce((a, b) => a + b, 0);
  const reasons = Object.entries(refused).toSorted(([, a], [, b]) => b - a);
  const most = reasons.slice(0, 3).map(([code, times]) => `${code} ${times}`);
  const why = most.length === 0 ? '' : ` (${[...most, ...(reasons.length > most.length ? ['…'] : [])].join(', ')})`;
  const passed = carried === 0 ? '' : `, ${carried} passed through`;
  return `${now.open} open of ${accepted} connections; handshakes: ${sum(handshakes.full)} full, ${sum(handshakes.resumed)} resumed, ${sum(refused)} refused${why}${passed}`;
}

function staplingText({ updates, cacheWriteFailures, responders }: StaplingCounters): string {
  const results = new Map<string, number>();
  for (const [result, times] of Object.values(responders).flatMap((one) => Object.entries(one.results))) {
    results.set(result, (results.get(result) ?? 0) + times);
  }
  const asked = [...results.values()].reduce((a, b) => a + b, 0);
  const outcomes = Array.from(results, ([result, times]) => `${result} ${times}`);
  const lost = cacheWriteFailures === 0 ? '' : `; ${cacheWriteFailures} writes to the disk cache FAILED`;
  return `${updates} OCSP updates; responders asked ${asked} times${asked === 0 ? '' : ` (${outcomes.join(', ')})`}${lost}`;
}

function stapleText({ state, serving, validUntil, nextRefresh }: StapleStatus, now: number): string {
  return [
    marks[state],
    ...(serving && validUntil !== undefined ? [`for ${span(validUntil - now)}`] : []),
    ...(nextRefresh === undefined ? [] : [`next refresh in ${span(nextRefresh - now)}`]),
  ].join(', ');
}

/** A duration in its largest unit, for people. */
export function span(ms: number): string {
  const units: [name: string, length: number][] = [
    ['d', 86_400_000],
    ['h', 3_600_000],
    ['min', 60_000],
  ];
  for (const [name, length] of units) if (Math.abs(ms) >= 2 * length) return `${Math.floor(ms / length)} ${name}`;
  return `${Math.floor(ms / 1000)} s`;
}
