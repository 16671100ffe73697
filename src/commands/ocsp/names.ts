/** Names for people of the object identifiers that occur in OCSP messages and the certificates in them. */

export const extensionNames: Record<string, string> = {
  '1.3.6.1.5.5.7.48.1.2': 'nonce',
  '1.3.6.1.5.5.7.48.1.3': 'CRL reference',
  '1.3.6.1.5.5.7.48.1.4': 'acceptable response types',
  '1.3.6.1.5.5.7.48.1.6': 'archive cutoff',
  '1.3.6.1.5.5.7.48.1.7': 'service locator',
  '1.3.6.1.5.5.7.48.1.8': 'preferred signature algorithms',
  '1.3.6.1.5.5.7.48.1.9': 'extended revoked definition',
  '1.3.6.1.4.1.11129.2.4.5': 'signed certificate timestamps',
  '2.5.29.21': 'CRL reason',
  '2.5.29.23': 'hold instruction',
  '2.5.29.24': 'invalidity date',
  '2.5.29.29': 'certificate issuer',
};

export const purposeNames: Record<string, string> = {
  '1.3.6.1.5.5.7.3.1': 'serverAuth',
  '1.3.6.1.5.5.7.3.2': 'clientAuth',
  '1.3.6.1.5.5.7.3.3': 'codeSigning',
  '1.3.6.1.5.5.7.3.4': 'emailProtection',
  '1.3.6.1.5.5.7.3.8': 'timeStamping',
  '1.3.6.1.5.5.7.3.9': 'OCSPSigning',
  '2.5.29.37.0': 'anyExtendedKeyUsage',
};

export const signatureNames: Record<string, string> = {
  '1.2.840.113549.1.1.4': 'RSA with MD5',
  '1.2.840.113549.1.1.5': 'RSA with SHA-1',
  '1.2.840.113549.1.1.14': 'RSA with SHA-224',
  '1.2.840.113549.1.1.11': 'RSA with SHA-256',
  '1.2.840.113549.1.1.12': 'RSA with SHA-384',
  '1.2.840.113549.1.1.13': 'RSA with SHA-512',
  '1.2.840.113549.1.1.10': 'RSASSA-PSS',
  '1.2.840.10045.4.1': 'ECDSA with SHA-1',
  '1.2.840.10045.4.3.1': 'ECDSA with SHA-224',
  '1.2.840.10045.4.3.2': 'ECDSA with SHA-256',
  '1.2.840.10045.4.3.3': 'ECDSA with SHA-384',
  '1.2.840.10045.4.3.4': 'ECDSA with SHA-512',
  '1.3.101.112': 'Ed25519',
  '1.3.101.113': 'Ed448',
};

const curveNames: Record<string, string> = { prime256v1: 'P-256', secp384r1: 'P-384', secp521r1: 'P-521' };

/** `RSA 2048`, `ECDSA P-256`, `Ed25519`. */
export function keyText(key: {
  asymmetricKeyType?: string | undefined;
  asymmetricKeyDetails?: { modulusLength?: number; namedCurve?: string } | undefined;
}): string {
  const { asymmetricKeyType: type = 'unknown', asymmetricKeyDetails: { modulusLength, namedCurve = '' } = {} } = key;
  if (type === 'rsa' || type === 'rsa-pss') return `${type.toUpperCase()} ${modulusLength}`;
  if (type === 'ec') return `ECDSA ${curveNames[namedCurve] ?? namedCurve}`;
  return type.replace(/^ed/, 'Ed');
}
