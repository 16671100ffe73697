import type { ClientHello } from './client-hello.ts';

/**
 * Which kind of signature a certificate's key makes: `rsa`, `ed25519`, `ed448`, or for ECDSA the curve in OpenSSL's
 * words, since TLS 1.3 binds each ECDSA scheme to one curve (RFC 8446, 4.2.3).
 */
export type SigningKey = 'rsa' | 'ed25519' | 'ed448' | 'prime256v1' | 'secp384r1' | 'secp521r1';

const schemes: Record<SigningKey, number[]> = {
  rsa: [0x0804, 0x0805, 0x0806],
  ed25519: [0x0807],
  ed448: [0x0808],
  prime256v1: [0x0403],
  secp384r1: [0x0503],
  secp521r1: [0x0603],
};

/** Below TLS 1.3 the hash and the key type are independent of the curve, and RSA may sign with PKCS#1. */
const rsaSchemes12 = [...schemes.rsa, 0x0401, 0x0501, 0x0601, 0x0301];
const ecdsaSchemes12 = [0x0403, 0x0503, 0x0603, 0x0303];
const sha1Schemes12 = { rsa: 0x0201, ecdsa: 0x0203 };
const curveGroups: Partial<Record<SigningKey, number>> = { prime256v1: 23, secp384r1: 24, secp521r1: 25 };

/**
 * The cipher suites of TLS 1.2 and below that authenticate the server with ECDSA or EdDSA, under OpenSSL's names
 * (RFC 8422, 5289, 7251, 7905).
 */
export const ecdsaSuites: Record<string, number> = {
  'ECDHE-ECDSA-AES128-SHA': 0xc009,
  'ECDHE-ECDSA-AES256-SHA': 0xc00a,
  'ECDHE-ECDSA-AES128-SHA256': 0xc023,
  'ECDHE-ECDSA-AES256-SHA384': 0xc024,
  'ECDHE-ECDSA-AES128-GCM-SHA256': 0xc02b,
  'ECDHE-ECDSA-AES256-GCM-SHA384': 0xc02c,
  'ECDHE-ECDSA-AES128-CCM': 0xc0ac,
  'ECDHE-ECDSA-AES256-CCM': 0xc0ad,
  'ECDHE-ECDSA-AES128-CCM8': 0xc0ae,
  'ECDHE-ECDSA-AES256-CCM8': 0xc0af,
  'ECDHE-ECDSA-CHACHA20-POLY1305': 0xcca9,
};
const everyEcdsaSuite = new Set(Object.values(ecdsaSuites));

/** What the virtual host takes part in. */
export interface Terms {
  /** 0x0304 for TLS 1.3. */
  lowestVersion: number;
  highestVersion: number;
  /** Those of `ecdsaSuites` that its cipher list holds. */
  ecdsaSuites: () => ReadonlySet<number>;
  /** Signs with SHA-1 for clients of TLS 1.2 that know nothing better. */
  signsWithSha1: boolean;
}

/** Whether the two sides may speak HTTP/2, at the version they will negotiate: not below TLS 1.2 (RFC 9113, 9.2). */
export function allowsHttp2({ versions }: ClientHello, { lowestVersion, highestVersion }: Terms): boolean {
  return lowestVersion >= 0x0303 || (highestVersion >= 0x0303 && versions.some((version) => version >= 0x0303));
}

/**
 * Whether the client can verify a handshake signed with this kind of key, at the version the two sides will negotiate.
 */
export function canVerify(hello: ClientHello, key: SigningKey, { highestVersion, ecdsaSuites, signsWithSha1 }: Terms): boolean {
  const offered = hello.signatureAlgorithms;
  const accepts = (accepted: number[]) => offered?.some((scheme) => accepted.includes(scheme)) ?? false;
  const accepts12 = (accepted: number[], sha1: number) => offered === undefined || accepts(accepted) || (signsWithSha1 && offered.includes(sha1));
  if (highestVersion >= 0x0304 && hello.versions.includes(0x0304)) return accepts(schemes[key]);

  const signs12 = hello.versions.includes(0x0303) && highestVersion >= 0x0303;
  if (key === 'rsa')
    return hello.cipherSuites.some((suite) => suite < 0xff00 && !everyEcdsaSuite.has(suite)) && (!signs12 || accepts12(rsaSchemes12, sha1Schemes12.rsa));
  const suites = ecdsaSuites();
  if (!hello.cipherSuites.some((suite) => suites.has(suite))) return false;
  const group = curveGroups[key];
  if (group === undefined) return signs12 && accepts(schemes[key]); // EdDSA exists from TLS 1.2 on
  // A client without supported_groups leaves the curve to the server (RFC 8422, 4); OpenSSL then does no ECDHE, so no ECDSA either.
  return hello.groups.includes(group) && (!signs12 || accepts12(ecdsaSchemes12, sha1Schemes12.ecdsa));
}

/** ECDSA is the cheapest to sign and the most widely verified; RSA is what is left when nothing else fits. */
const preference: SigningKey[] = ['prime256v1', 'ed25519', 'secp384r1', 'secp521r1', 'ed448', 'rsa'];

/**
 * The identity a client should get: the preferred one among those it can verify. When it can verify none, the last
 * in order of preference, with which the TLS library refuses the handshake in the proper words.
 */
export function chooseIdentity<T extends { signingKey: SigningKey }>(hello: ClientHello, identities: readonly T[], terms: Terms): T | undefined {
  if (identities.length < 2) return identities[0];
  const ordered = identities.toSorted((a, b) => preference.indexOf(a.signingKey) - preference.indexOf(b.signingKey));
  return ordered.find(({ signingKey }) => canVerify(hello, signingKey, terms)) ?? ordered.at(-1);
}
