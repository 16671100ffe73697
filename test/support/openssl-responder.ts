import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { Authority, Issued } from '../../src/demo/authority.ts';
import { foreground } from './foreground.ts';

export interface OpensslResponder extends AsyncDisposable {
  url: string;
  close(): Promise<void>;
}

interface OpensslResponderOptions {
  authority: Authority;
  /** Certificates it knows; about others it says unknown. */
  issued: Issued[];
  revoked?: Issued[];
  /** For its files. */
  folder: string;
  /** Between thisUpdate and nextUpdate; default 60. */
  minutes?: number;
}

/** `openssl ocsp` as a responder on a free port, with the database that `openssl ca` would have written. */
export async function startOpensslResponder({ authority, issued, revoked = [], folder, minutes = 60 }: OpensslResponderOptions): Promise<OpensslResponder> {
  const file = (name: string): string => path.join(folder, name);
  await writeFile(file('index.txt'), issued.map((one) => indexLine(one, revoked.includes(one))).join(''));
  await writeFile(file('ca.pem'), authority.pem);
  await writeFile(file('ca.key'), authority.keyPem, { mode: 0o600 });
  const files = ['-index', file('index.txt'), '-CA', file('ca.pem'), '-rsigner', file('ca.pem'), '-rkey', file('ca.key')];
  const server = await foreground('openssl', ['ocsp', '-port', '0', '-nmin', String(minutes), ...files], /^ACCEPT \S+:(\d+)/);
  const close = async (): Promise<void> => server[Symbol.asyncDispose]();
  return { url: `http://127.0.0.1:${server.said[1]}`, close, [Symbol.asyncDispose]: close };
}

/** Status, expiry, revocation, serial number, file, subject: the line format of `openssl ca`. */
function indexLine({ certificate }: Issued, isRevoked: boolean): string {
  const time = (date: Date): string => `${date.toISOString().slice(2, 19).replace(/[-:T]/g, '')}Z`;
  const revocation = isRevoked ? `${time(new Date(Date.now() - 3_600_000))},keyCompromise` : '';
  const fields = [isRevoked ? 'R' : 'V', time(certificate.validToDate), revocation, certificate.serialNumber, 'unknown', `/CN=${certificate.serialNumber}`];
  return `${fields.join('\t')}\n`;
}
