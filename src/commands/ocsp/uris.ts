import { existsSync } from 'node:fs';
import { readExtensions } from '../../certificates/extensions.ts';
import { parseHost, visit } from './host.ts';
import { readCertificates } from './input.ts';
import { CommandError, type Outcome } from './outcome.ts';
import { oneLine } from './subject.ts';

/** Whether the argument of `ocsp uris` is one; a name that could be both is the file that is there. */
export function isFile(target: string): boolean {
  return target === '-' || target.includes('/') || existsSync(target);
}

/**
 * The OCSP responders that the certificates of a server or of a file name. Good when there is one at all.
 *
 * @throws CertificateError, CommandError
 */
export async function uris(target: string, { servername }: { servername?: string | undefined } = {}): Promise<Outcome> {
  const certificates = (await chainOf(target, servername)).map((certificate) => {
    const { subject, issuer, serialNumber, raw } = certificate;
    return { subject: oneLine(subject), issuer: oneLine(issuer), serialNumber, responders: respondersOf(raw) };
  });
  const lines = certificates.flatMap(({ subject, responders }) => [subject, ...(responders.length === 0 ? ['(none)'] : responders).map((url) => `  ${url}`)]);
  return { ok: certificates.some(({ responders }) => responders.length > 0), lines, json: { certificates } };
}

async function chainOf(target: string, servername: string | undefined) {
  if (isFile(target)) return readCertificates(target);
  const host = parseHost(target);
  if (host === undefined) throw new CommandError('host_unreachable', `${target} is neither a file nor HOST[:PORT]`);
  return (await visit(host, { servername })).chain;
}

function respondersOf(certificate: Buffer): string[] {
  try {
    return readExtensions(certificate).ocspResponders;
  } catch {
    // A certificate of somebody else's whose extensions are malformed names nobody that could be asked.
    return [];
  }
}
