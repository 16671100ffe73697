import type { X509Certificate } from 'node:crypto';

export interface Chain {
  /** What a server sends after the leaf, in order, without a self-signed root (RFC 8446, section 4.4.2). */
  intermediates: X509Certificate[];
  /** Who signed the leaf; undefined when self-signed or not found. */
  issuer: X509Certificate | undefined;
  selfSigned: boolean;
  /** The certificates of the pool that are part of the chain, root included. */
  used: Set<X509Certificate>;
}

/** No public or private hierarchy is this deep; a crafted file must not make the search quadratic. */
const maximumDepth = 16;

/**
 * Finds the way from a leaf upwards in a pool of certificates, in whatever order they come. Names and key identifiers
 * only suggest an issuer; its key must verify the signature (RFC 5280, section 6.1.3).
 */
export function buildChain(leaf: X509Certificate, pool: readonly X509Certificate[]): Chain {
  const selfSigned = isSelfSigned(leaf);
  const path: X509Certificate[] = [];
  let current: X509Certificate | undefined = selfSigned ? undefined : leaf;
  while (current !== undefined && path.length < maximumDepth) {
    const child: X509Certificate = current;
    const issuers = pool.filter((candidate) => candidate !== leaf && !path.includes(candidate) && isIssuer(child, candidate));
    // A root may be there twice, self-signed and cross-signed; the cross-signed one is what older clients need sent.
    current = issuers.find((candidate) => !isSelfSigned(candidate)) ?? issuers[0];
    if (current === undefined) break;
    path.push(current);
    if (isSelfSigned(current)) break;
  }
  return { intermediates: path.filter((certificate) => !isSelfSigned(certificate)), issuer: path[0], selfSigned, used: new Set(path) };
}

function isIssuer(child: X509Certificate, parent: X509Certificate): boolean {
  return child.checkIssued(parent) && isSignedBy(child, parent);
}

/** checkIssued would ask for keyCertSign, which a self-signed server certificate rightly lacks. */
function isSelfSigned(certificate: X509Certificate): boolean {
  return certificate.subject === certificate.issuer && isSignedBy(certificate, certificate);
}

function isSignedBy(child: X509Certificate, parent: X509Certificate): boolean {
  try {
    return child.verify(parent.publicKey);
  } catch {
    // Node parses a public key when it is first asked for; one of a type it does not know verifies nothing.
    return false;
  }
}
