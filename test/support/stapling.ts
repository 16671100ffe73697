import { readCertificate } from '../../src/certificates/certificate.ts';
import type { Authority, Issued } from '../../src/demo/authority.ts';
import type { Facts, Log } from '../../src/log.ts';
import type { StapledLeaf } from '../../src/ocsp/staple-status.ts';

export interface LogLine {
  level: string;
  message: string;
  facts: Facts;
}

/** A log that keeps what it is told. */
export function recordedLog(): Log & { lines: LogLine[]; of(level: string): LogLine[] } {
  const lines: LogLine[] = [];
  const record =
    (level: string) =>
    (message: string, facts: Facts = {}): void =>
      void lines.push({ level, message, facts });
  return {
    lines,
    of: (level) => lines.filter((line) => line.level === level),
    error: record('error'),
    warn: record('warn'),
    info: record('info'),
    debug: record('debug'),
  };
}

/** What the certificate store makes of a pair with its issuer beside it. */
export function stapledLeaf({ chainPem, keyPem }: Issued, issuer?: Authority): StapledLeaf {
  return readCertificate({ certificatePem: chainPem, keyPem, ...(issuer && { extraPem: issuer.pem }), source: { certificate: 'leaf.pem', key: 'leaf.key' } });
}
