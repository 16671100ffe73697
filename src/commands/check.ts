import type { Certificate } from '../certificates/certificate.ts';
import { CertificateStore } from '../certificates/store.ts';
import { loadConfig } from '../config/load.ts';
import type { VirtualHost } from '../config/schema.ts';
import type { Log } from '../log.ts';
import { respondersFor } from '../ocsp/staple-status.ts';
import { reasonNotToStaple } from '../ocsp/unstapled-certificate.ts';
import { readNamedFiles } from '../supervisor/named-files.ts';
import { responseFile } from '../supervisor/rollout.ts';

/** Problems are printed from the lists that the rooms keep; their log would say them twice. */
const silent: Log = { error() {}, warn() {}, info() {}, debug() {} };

/**
 * Loads everything that a start loads, and binds nothing.
 * @returns lines for standard output, and whether a start would serve everything that is configured
 * @throws ConfigError
 */
export async function check(file: string): Promise<{ lines: string[]; ok: boolean }> {
  const config = await loadConfig(file);
  const files = readNamedFiles(config);
  const store = new CertificateStore({ log: silent });
  await store.load(config);

  const problems = [...store.problems(), ...files.problems];
  const ok = problems.every(({ severity }) => severity !== 'error');
  const lines = config.virtualHosts.flatMap((host) => {
    const certificates = store.identities(host.serverName);
    const names = [host.serverName, ...host.aliases].join(' ');
    if (host.passthrough) return [names, ...host.routes.map(({ backends }) => `  passthrough to ${backends.map(({ name }) => name).join(', ')}`)];
    const lacks = problems.some(({ code, virtualHost }) => code === 'no_certificate' && virtualHost === host.serverName);
    return [lacks ? `${names}: no usable certificate` : names, ...certificates.map((certificate) => `  ${describe(certificate, host)}`)];
  });
  for (const { severity, message, virtualHost } of problems) {
    const whose = virtualHost === undefined || message.includes(virtualHost) ? '' : `${virtualHost}: `;
    lines.push(`${severity === 'warn' ? 'warning' : 'error'}: ${whose}${message}`);
  }
  return { lines: [...lines, `${config.file}: ${ok ? 'ok' : 'not ok; a start would leave out what has errors'}`], ok };
}

function describe(certificate: Certificate, { ocsp }: VirtualHost): string {
  const { keyType, notAfter, mustStaple, source } = certificate;
  const file = responseFile(certificate);
  const given = file.configured ? file : undefined;
  const responder = respondersFor(certificate, ocsp).join(' ') || given?.path;
  const stapling = {
    off: 'stapling off',
    no_responder: 'no OCSP responder, so no staple',
    expired: 'EXPIRED',
    issuer_missing: `OCSP ${responder}, but NO STAPLE: append the issuer's certificate to the file or put it beside it as chain.pem`,
    none: `OCSP ${responder}`,
  }[reasonNotToStaple(certificate, ocsp, given) ?? (notAfter <= Date.now() ? 'expired' : 'none')];
  return `${keyType}, valid until ${new Date(notAfter).toISOString().slice(0, 10)}, ${stapling}${mustStaple ? ', must-staple' : ''} (${source.certificate})`;
}
