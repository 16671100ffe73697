import { createHash, X509Certificate } from 'node:crypto';
import { buildChain } from '../certificates/chain.ts';
import { readExtensions } from '../certificates/extensions.ts';
import { pemBlocks } from '../certificates/pem.ts';
import { type OcspPolicy, ocspDefaults } from '../config/policies.ts';
import type { Log } from '../log.ts';
import type { CertificateInUse, StapledLeaf, StapleStatus } from './staple-status.ts';
import { Stapler } from './stapler.ts';

export type { Log, OcspPolicy, StapleStatus };

export interface StaplerOptions {
  /** Where responses are kept over a restart; made where needed. One process at a time. */
  directory: string;
  /** The settings of `ocsp` in docs/configuration.md, in camelCase, times in milliseconds and sizes in bytes. */
  ocsp?: Partial<OcspPolicy>;
  /** `console` will do. Without it, warnings and errors go to standard error. */
  log?: Log;
}

export interface CertificateToStaple {
  /** PEM: the certificate, then its issuer and the rest of the chain, as `tls.createServer` takes it. */
  certificate: string | Buffer;
  /** PEM with the issuer, where the chain lacks it. */
  issuer?: string | Buffer;
  /** A file with a response (DER) that someone else fetches. */
  responseFile?: string;
  /** What is different from the settings of the stapler. */
  ocsp?: Partial<OcspPolicy>;
}

/** Keeps staples for the certificates of Node's own servers, and answers their `OCSPRequest` events. */
export interface OcspStapler {
  /**
   * Takes a certificate into care. Resolves with how things stand when its first staple is there, or could not be had (within
   * `ocsp.timeout`): listen after that, and the first client gets it.
   *
   * @throws Error when the text is no certificate
   */
  add(certificate: CertificateToStaple): Promise<StapleStatus>;
  /** Forgets a certificate, such as one that was renewed. */
  remove(certificate: string | Buffer): void;
  /** For `server.on('OCSPRequest', …)` of any tls, https or http2 server. Reads a map: no handshake waits. */
  readonly answer: (certificate: Buffer, issuer: Buffer | null, callback: (error: Error | null, response: Buffer | null) => void) => void;
  status(): StapleStatus[];
  /** Ends timers and requests, and gives the folder back. */
  close(): Promise<void>;
}

/**
 * Staplegate's OCSP engine for Node's own servers.
 *
 * @throws FolderInUse (`state_dir_in_use`) when another process keeps its responses there
 */
export async function openStapler({ directory, ocsp = {}, log = standardError }: StaplerOptions): Promise<OcspStapler> {
  const stapler = new Stapler({ directory, log, onStaple: () => {} });
  await stapler.open();
  const entries = new Map<string, CertificateInUse>();
  const use = (): void => stapler.setCertificates([...entries.values()]);
  return {
    async add({ certificate, issuer, responseFile, ocsp: own = {} }) {
      const leaf = readLeaf(certificate, issuer);
      const policy = { ...ocspDefaults, ...ocsp, ...own };
      entries.set(leaf.fingerprint, { certificate: leaf, policy, ...(responseFile !== undefined && { file: { path: responseFile, configured: true } }) });
      use();
      await stapler.settled(leaf.fingerprint, policy.timeout);
      return stapler.status().find(({ fingerprint }) => fingerprint === leaf.fingerprint)!;
    },
    remove(certificate) {
      entries.delete(readLeaf(certificate).fingerprint);
      use();
    },
    answer: (certificate, _issuer, callback) => {
      const staple = stapler.current(sha256(certificate));
      // An empty buffer would be sent as an empty CertificateStatus, which clients refuse.
      callback(null, staple === undefined ? null : Buffer.from(staple.der));
    },
    status: () => stapler.status(),
    close: () => stapler.close(),
  };
}

/** @throws CertificateError, or what node:crypto throws */
function readLeaf(certificate: string | Buffer, issuer: string | Buffer = ''): StapledLeaf {
  const [leaf, ...chain] = readCertificates(certificate);
  if (leaf === undefined) throw new TypeError('the text holds no certificate');
  const { issuer: found, selfSigned } = buildChain(leaf, [...chain, ...(issuer.length === 0 ? [] : readCertificates(issuer))]);
  const { names, ocspResponders, mustStaple } = readExtensions(leaf.raw);
  return {
    leaf,
    issuer: found,
    issuerFingerprint: found && sha256(found.raw),
    fingerprint: sha256(leaf.raw),
    names,
    ocspResponders,
    mustStaple,
    selfSigned,
    notBefore: leaf.validFromDate.getTime(),
    notAfter: leaf.validToDate.getTime(),
  };
}

function readCertificates(pem: string | Buffer): X509Certificate[] {
  const blocks = pemBlocks(pem.toString(), 'the text');
  return blocks.filter(({ label }) => label === 'CERTIFICATE').map(({ text }) => new X509Certificate(text));
}

function sha256(der: Buffer): string {
  return createHash('sha256').update(der).digest('hex');
}

const say = (message: string, facts?: object): void => {
  process.stderr.write(`${message}${facts === undefined ? '' : ` ${JSON.stringify(facts)}`}\n`);
};
const standardError: Log = { error: say, warn: say, info: () => {}, debug: () => {} };
