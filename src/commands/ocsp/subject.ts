import type { X509Certificate } from 'node:crypto';
import { CertificateError } from '../../certificates/certificate-error.ts';
import { buildChain } from '../../certificates/chain.ts';
import { issuerFiles } from '../../certificates/files.ts';
import type { OcspSubject } from '../../ocsp/cert-id.ts';
import { OcspRefusal } from '../../ocsp/refusal.ts';
import { readCertificates } from './input.ts';

/**
 * The first certificate of `cert`, and the certificate of the file `issuer` that made it.
 *
 * @throws CertificateError; OcspRefusal `issuer_mismatch`
 */
export async function readSubject(cert: string, issuer: string): Promise<OcspSubject> {
  const [leaf] = await readCertificates(cert);
  const found = buildChain(leaf, await readCertificates(issuer));
  if (found.issuer !== undefined) return { leaf, issuer: found.issuer };
  const reason = found.selfSigned ? 'is self-signed: nobody else issued it' : `was not issued by the certificate in ${issuer}`;
  throw new OcspRefusal('issuer_mismatch', `the certificate ${oneLine(leaf.subject)} in ${cert} ${reason}`);
}

/**
 * The first certificate of `cert` with its issuer, from the same file or from those beside it, as the server finds it.
 *
 * @throws CertificateError; OcspRefusal `issuer_mismatch`
 */
export async function findSubject(cert: string): Promise<OcspSubject> {
  const [leaf, ...others] = await readCertificates(cert);
  const own = buildChain(leaf, others);
  if (own.issuer !== undefined) return { leaf, issuer: own.issuer };
  if (own.selfSigned) throw new OcspRefusal('issuer_mismatch', `the certificate ${oneLine(leaf.subject)} in ${cert} is self-signed: nobody answers for it`);
  const beside = cert === '-' ? [] : issuerFiles(cert);
  for (const file of beside) {
    const { issuer } = buildChain(leaf, await readIfUsable(file));
    if (issuer !== undefined) return { leaf, issuer };
  }
  throw new OcspRefusal('issuer_mismatch', `the issuer of ${oneLine(leaf.subject)} is neither in ${cert} nor beside it as chain.pem; name it with --issuer`);
}

/** What lies beside a certificate may be anything. */
async function readIfUsable(file: string): Promise<X509Certificate[]> {
  try {
    return await readCertificates(file);
  } catch (error) {
    if (error instanceof CertificateError) return [];
    throw error;
  }
}

/** Node separates the parts of a name by line feeds. */
export function oneLine(name: string | undefined): string {
  return (name ?? '').replaceAll('\n', ', ') || '(no name)';
}
