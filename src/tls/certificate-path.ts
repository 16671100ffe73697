import type { X509Certificate } from 'node:crypto';

/**
 * The shortest path from a certificate to one of the anchors: the authorities in between, nearest first. The TLS
 * library has found that there is one; how long it is, Node does not say.
 * @param sent what the client sent along, in any order
 * @param anchors the self-signed ones end a path, the others may stand in it
 * @returns undefined without a path whose certificates are authorities' and valid at `now` (ms since the epoch)
 */
export function certificatePath(
  leaf: X509Certificate,
  { sent, anchors, now }: { sent: readonly X509Certificate[]; anchors: readonly X509Certificate[]; now: number },
): X509Certificate[] | undefined {
  const roots = anchors.filter(isSelfIssued);
  const between = [...anchors, ...sent].filter((certificate) => !isSelfIssued(certificate) && certificate.ca && isValid(certificate, now));
  const seen = new Set<string>();
  // By length, so that the first path that arrives is the shortest, and each authority is looked at once.
  let paths: X509Certificate[][] = [[]];
  while (paths.length > 0) {
    const arrived = paths.find((path) => roots.some((root) => isValid(root, now) && issued(root, path.at(-1) ?? leaf)));
    if (arrived) return arrived;
    paths = paths.flatMap((path) => {
      const issuers = between.filter((candidate) => !seen.has(candidate.fingerprint256) && issued(candidate, path.at(-1) ?? leaf));
      for (const { fingerprint256 } of issuers) seen.add(fingerprint256);
      return issuers.map((issuer) => [...path, issuer]);
    });
  }
  return undefined;
}

function isSelfIssued(certificate: X509Certificate): boolean {
  return certificate.checkIssued(certificate);
}

function isValid({ validFromDate, validToDate }: X509Certificate, now: number): boolean {
  return validFromDate.getTime() <= now && now <= validToDate.getTime();
}

function issued(issuer: X509Certificate, certificate: X509Certificate): boolean {
  return certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey);
}
