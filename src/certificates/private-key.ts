import { createPrivateKey, type KeyObject } from 'node:crypto';
import type { KeyType } from '../snapshot.ts';
import { CertificateError } from './certificate-error.ts';
import { describeBlocks, pemBlocks } from './pem.ts';

export interface PrivateKey {
  key: KeyObject;
  type: KeyType;
  /** The one PEM block of the key. */
  pem: string;
}

/** Curves that TLS 1.3 and browsers share (RFC 8446, section 4.2.3). */
const curves: Record<string, string> = { prime256v1: 'P-256', secp384r1: 'P-384', secp521r1: 'P-521' };

/** OpenSSL refuses smaller RSA keys at its default security level (2), as CAs do: CA/B baseline requirements, 6.1.5. */
const minimumRsaBits = 2048;

/** Parses the first private key of a PEM text. Throws CertificateError: `key_*`, `file_*`, `pem_truncated`. */
export function readPrivateKey(pem: string, file: string): PrivateKey {
  const blocks = pemBlocks(pem, file);
  const block = blocks.find(({ label }) => label.endsWith('PRIVATE KEY'));
  if (block === undefined) throw new CertificateError('key_not_found', file, `${file} holds no private key: ${describeBlocks(blocks)}`);
  if (block.label === 'ENCRYPTED PRIVATE KEY' || /^Proc-Type:.*ENCRYPTED/m.test(block.text)) {
    const command = `openssl pkey -in ${file} -out ${file}.plain`;
    throw new CertificateError('key_encrypted', file, `the private key ${file} is encrypted; decrypt it with: ${command} (and keep its permissions at 0600)`);
  }
  if (block.label === 'OPENSSH PRIVATE KEY') throw unsupported(file, 'an OpenSSH key');
  const key = parse(block.text, file);
  return { key, type: keyType(key, file), pem: block.text };
}

function parse(pem: string, file: string): KeyObject {
  try {
    return createPrivateKey(pem);
  } catch {
    // OpenSSL's reason is a decoder's internal name ("DECODER routines::unsupported"): no help to anyone.
    throw new CertificateError('key_malformed', file, `the private key ${file} cannot be parsed: the file is damaged`);
  }
}

function keyType(key: KeyObject, file: string): KeyType {
  const { asymmetricKeyType: type, asymmetricKeyDetails: details } = key;
  if (type === 'ed25519' || type === 'ed448') return type;
  if (type === 'ec') {
    const curve = details?.namedCurve ?? 'unnamed';
    if (curve in curves) return 'ecdsa';
    throw unsupported(file, `an EC key on the curve ${curve}`);
  }
  if (type !== 'rsa') throw unsupported(file, `a key of type ${type ?? 'unknown'}`);
  const bits = details?.modulusLength ?? 0;
  if (bits < minimumRsaBits) {
    throw new CertificateError('key_too_small', file, `the RSA key ${file} has ${bits} bits; at least ${minimumRsaBits} are needed`);
  }
  return 'rsa';
}

function unsupported(file: string, what: string): CertificateError {
  return new CertificateError('key_unsupported', file, `${file} holds ${what}; use RSA, ECDSA on ${Object.values(curves).join(', ')}, Ed25519 or Ed448`);
}
