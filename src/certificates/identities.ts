import type { Certificate } from './certificate.ts';

/** Whether a certificate name covers a host name; a wildcard stands for exactly one label (RFC 9525, section 6.3). */
export function covers(certificateName: string, hostName: string): boolean {
  if (certificateName === hostName) return true;
  return certificateName.startsWith('*.') && hostName.indexOf('.') > 0 && hostName.slice(hostName.indexOf('.')) === certificateName.slice(1);
}

/** The host names that no name of the certificate covers. */
export function uncovered(certificate: Certificate, hostNames: readonly string[]): string[] {
  return hostNames.filter((hostName) => !certificate.names.some((name) => covers(name, hostName)));
}

/**
 * One certificate for each key type: the one that is valid at `now`, covers the first of `hostNames`, covers most of
 * them, and was issued last, in this order of importance. So a renewed certificate takes over, and one that
 * is not valid yet does not.
 */
export function chooseIdentities(candidates: readonly Certificate[], hostNames: readonly string[], now: number): Certificate[] {
  const best = new Map<string, Certificate>();
  for (const candidate of candidates) {
    const current = best.get(candidate.keyType);
    if (current === undefined || isBetter(rank(candidate, hostNames, now), rank(current, hostNames, now))) best.set(candidate.keyType, candidate);
  }
  return [...best.values()];
}

function rank(certificate: Certificate, hostNames: readonly string[], now: number): number[] {
  const missing = uncovered(certificate, hostNames);
  const valid = certificate.notBefore <= now && now <= certificate.notAfter;
  return [Number(valid), Number(missing[0] !== hostNames[0]), -missing.length, certificate.notBefore, certificate.notAfter];
}

function isBetter(a: number[], b: number[]): boolean {
  const i = a.findIndex((value, at) => value !== b[at]);
  return i !== -1 && a[i]! > b[i]!;
}
