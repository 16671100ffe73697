import { randomBytes } from 'node:crypto';
import { type CertIdHash, certIdFor } from '../../ocsp/cert-id.ts';
import { encodeRequest, getPath } from '../../ocsp/request.ts';
import type { Outcome } from './outcome.ts';
import { writeOutput } from './output.ts';
import { readSubject } from './subject.ts';

export interface RequestOptions {
  issuer: string;
  cert: string;
  hash: CertIdHash;
  nonce?: boolean | undefined;
  /** Where the DER goes. */
  out?: string | undefined;
}

/** As many octets as RFC 9654 2.1 asks of clients. */
const nonceLength = 32;

/**
 * The question to ask about a certificate, for curl and for people who look into it.
 *
 * @throws CertificateError; OcspRefusal `issuer_mismatch`, `bad_certificate`; CommandError `file_not_writable`
 */
export async function request({ issuer, cert, hash, nonce = false, out }: RequestOptions): Promise<Outcome> {
  const certId = certIdFor(await readSubject(cert, issuer), hash);
  const der = encodeRequest(certId, nonce ? { nonce: randomBytes(nonceLength) } : {});
  const json = { size: der.length, base64: der.toString('base64'), getPath: `/${getPath(der)}`, out: out ?? null };
  const lines = [`base64    ${json.base64}`, `GET path  ${json.getPath}`];
  if (out !== undefined) {
    await writeOutput(out, der);
    lines.push(`DER       ${out}, ${der.length} bytes; POST it with content-type application/ocsp-request`);
  }
  return { ok: true, lines, json };
}
