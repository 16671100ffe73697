import { constants, verify } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { Tag } from './der.ts';
import type { DerNode } from './der.ts';
import { type AlgorithmIdentifier, algorithmIdentifier, expect, Fields, smallInteger } from './der-fields.ts';
import { OcspRefusal } from './refusal.ts';

type Digest = 'sha1' | 'sha224' | 'sha256' | 'sha384' | 'sha512';

/** A signature algorithm as node:crypto wants it. */
interface Scheme {
  keyTypes: readonly string[];
  /** null where the algorithm has its own (EdDSA). */
  digest: Digest | null;
  /** RSASSA-PSS only. */
  saltLength?: number;
}

interface Signed {
  data: Buffer;
  signatureAlgorithm: AlgorithmIdentifier;
  signature: Buffer;
}

/** RSASSA-PKCS1-v1_5 (RFC 8017 A.2.4) and ECDSA (RFC 5758 3.2). MD2, MD4 and MD5 are absent on purpose. */
const rsa: Record<string, Digest> = {
  '1.2.840.113549.1.1.5': 'sha1',
  '1.2.840.113549.1.1.14': 'sha224',
  '1.2.840.113549.1.1.11': 'sha256',
  '1.2.840.113549.1.1.12': 'sha384',
  '1.2.840.113549.1.1.13': 'sha512',
};
const ecdsa: Record<string, Digest> = {
  '1.2.840.10045.4.1': 'sha1',
  '1.2.840.10045.4.3.1': 'sha224',
  '1.2.840.10045.4.3.2': 'sha256',
  '1.2.840.10045.4.3.3': 'sha384',
  '1.2.840.10045.4.3.4': 'sha512',
};
/** RFC 8410 3 */
const eddsa: Record<string, string> = { '1.3.101.112': 'ed25519', '1.3.101.113': 'ed448' };

const RSASSA_PSS = '1.2.840.113549.1.1.10';
const MGF1 = '1.2.840.113549.1.1.8';
const hashes: Record<string, Digest> = {
  '1.3.14.3.2.26': 'sha1',
  '2.16.840.1.101.3.4.2.4': 'sha224',
  '2.16.840.1.101.3.4.2.1': 'sha256',
  '2.16.840.1.101.3.4.2.2': 'sha384',
  '2.16.840.1.101.3.4.2.3': 'sha512',
};

/** P-256, P-384 and P-521 as node:crypto calls them. */
const curves = new Set(['prime256v1', 'secp384r1', 'secp521r1']);

/**
 * Verifies a signature over exactly these bytes.
 *
 * @returns whether it is weak: it verifies, but uses SHA-1
 * @throws {OcspRefusal} `unsupported_algorithm`, `bad_signature`, `malformed` (parameters)
 */
export function verifySignature({ data, signatureAlgorithm, signature }: Signed, key: KeyObject, what: string): boolean {
  const scheme = schemeOf(signatureAlgorithm);
  const curve = key.asymmetricKeyDetails?.namedCurve;
  if (scheme === undefined)
    throw new OcspRefusal('unsupported_algorithm', `${what} uses the signature algorithm ${signatureAlgorithm.algorithm}, which is not accepted`);
  if (!scheme.keyTypes.includes(key.asymmetricKeyType ?? '') || (curve !== undefined && !curves.has(curve))) {
    throw new OcspRefusal(
      'unsupported_algorithm',
      `${what} uses the algorithm ${signatureAlgorithm.algorithm} with an unfit ${curve ?? key.asymmetricKeyType} key`,
    );
  }
  const pss = scheme.saltLength === undefined ? {} : { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: scheme.saltLength };
  if (!verifies(scheme.digest, data, { key, ...pss }, signature, what)) throw new OcspRefusal('bad_signature', `${what} does not verify`);
  return scheme.digest === 'sha1';
}

/** OpenSSL reports some wrong signatures, such as ones that are no ECDSA-Sig-Value, by an error instead of false. */
function verifies(digest: Digest | null, data: Buffer, key: Parameters<typeof verify>[2], signature: Buffer, what: string): boolean {
  try {
    return verify(digest, data, key, signature);
  } catch (cause) {
    throw new OcspRefusal('bad_signature', `${what} does not verify`, { cause });
  }
}

function schemeOf(identifier: AlgorithmIdentifier): Scheme | undefined {
  const { algorithm, parameters } = identifier;
  const rsaDigest = rsa[algorithm];
  // RFC 4055 5: the parameters are NULL, but implementations must also accept them absent.
  if (rsaDigest !== undefined) return isNullOrAbsent(parameters) ? { keyTypes: ['rsa'], digest: rsaDigest } : undefined;
  if (algorithm === RSASSA_PSS) return pssScheme(parameters);
  if (parameters !== undefined) return undefined;
  const ecdsaDigest = ecdsa[algorithm];
  if (ecdsaDigest !== undefined) return { keyTypes: ['ec'], digest: ecdsaDigest };
  const edwards = eddsa[algorithm];
  return edwards === undefined ? undefined : { keyTypes: [edwards], digest: null };
}

/** RSASSA-PSS-params, RFC 4055 3.1; the defaults are SHA-1, MGF1 with SHA-1, 20 and 1. */
function pssScheme(parameters: DerNode | undefined): Scheme | undefined {
  if (parameters === undefined) return undefined;
  const fields = new Fields(parameters, 'RSASSA-PSS parameters');
  const digest = hashOf(fields.explicit(0));
  const maskDigest = maskHashOf(fields.explicit(1));
  const salt = fields.explicit(2);
  const saltLength = salt === undefined ? 20 : smallInteger(expect(salt, Tag.integer, 'saltLength'), 'saltLength');
  const trailer = fields.explicit(3);
  fields.end();
  if (trailer !== undefined && smallInteger(expect(trailer, Tag.integer, 'trailerField'), 'trailerField') !== 1) return undefined;
  return digest === undefined || maskDigest !== digest ? undefined : { keyTypes: ['rsa', 'rsa-pss'], digest, saltLength };
}

function hashOf(node: DerNode | undefined): Digest | undefined {
  if (node === undefined) return 'sha1';
  const { algorithm, parameters } = algorithmIdentifier(node, 'hashAlgorithm');
  return isNullOrAbsent(parameters) ? hashes[algorithm] : undefined;
}

function maskHashOf(node: DerNode | undefined): Digest | undefined {
  if (node === undefined) return 'sha1';
  const { algorithm, parameters } = algorithmIdentifier(node, 'maskGenAlgorithm');
  return algorithm === MGF1 && parameters !== undefined ? hashOf(parameters) : undefined;
}

function isNullOrAbsent(parameters: DerNode | undefined): boolean {
  return parameters === undefined || parameters.tag === Tag.null;
}
