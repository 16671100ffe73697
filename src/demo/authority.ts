import { createHash, generateKeyPair, type KeyObject, randomBytes, sign, X509Certificate } from 'node:crypto';
import { isIP } from 'node:net';
import { promisify } from 'node:util';
import * as asn1js from 'asn1js';
import * as pkijs from 'pkijs';

/**
 * A small certification authority: it makes the certificates of the demo and of the tests, at run time, so that no
 * private key is ever kept in the repository. Not for production use.
 */

export type AuthorityKeyType = 'rsa' | 'ecdsa' | 'p384' | 'p521' | 'ed25519' | 'ed448';

export interface Validity {
  keyType?: AuthorityKeyType;
  notBefore?: Date;
  notAfter?: Date;
}

export interface IssueOptions extends Validity {
  commonName?: string;
  /** subjectAltName: DNS names and IP addresses. */
  names?: string[];
  /** Use this key pair instead of a new one. */
  key?: KeyPair;
  /** OCSP URLs for authorityInfoAccess. */
  ocsp?: string | string[];
  /** TLS feature status_request (RFC 7633). */
  mustStaple?: boolean;
  /** Extended key usage id-kp-OCSPSigning instead of serverAuth (RFC 6960, 4.2.2.2). */
  ocspSigning?: boolean;
  /** Extended key usage clientAuth instead of serverAuth. */
  clientAuth?: boolean;
  /** The keyUsage bits; none for no such extension. */
  keyUsage?: 'digitalSignature' | 'keyEncipherment' | 'none';
  serialNumber?: Buffer;
  extensions?: { oid: string; critical: boolean; value: Uint8Array }[];
}

export interface KeyPair {
  publicKey: KeyObject;
  privateKey: KeyObject;
}

/** A certificate with its private key. `chainPem` is the leaf and the intermediates, without the root. */
export interface Issued {
  certificate: X509Certificate;
  key: KeyObject;
  pem: string;
  chainPem: string;
  keyPem: string;
}

const day = 86_400_000;
const makeKeyPair = promisify<string, object | undefined, KeyPair>(generateKeyPair as never);

const keyParameters: Record<AuthorityKeyType, [type: string, options?: object]> = {
  rsa: ['rsa', { modulusLength: 2048 }],
  ecdsa: ['ec', { namedCurve: 'P-256' }],
  p384: ['ec', { namedCurve: 'P-384' }],
  p521: ['ec', { namedCurve: 'P-521' }],
  ed25519: ['ed25519'],
  ed448: ['ed448'],
};

/** Signature algorithm and digest by key type or curve (RFC 4055, 5758, 8410). */
const signatureAlgorithms: Record<string, { algorithmId: string; digest: string | null }> = {
  rsa: { algorithmId: '1.2.840.113549.1.1.11', digest: 'sha256' },
  prime256v1: { algorithmId: '1.2.840.10045.4.3.2', digest: 'sha256' },
  secp384r1: { algorithmId: '1.2.840.10045.4.3.3', digest: 'sha384' },
  secp521r1: { algorithmId: '1.2.840.10045.4.3.4', digest: 'sha512' },
  ed25519: { algorithmId: '1.3.101.112', digest: null },
  ed448: { algorithmId: '1.3.101.113', digest: null },
};

function signatureAlgorithm({ asymmetricKeyType = 'rsa', asymmetricKeyDetails }: KeyObject): { identifier: pkijs.AlgorithmIdentifier; digest: string | null } {
  const { algorithmId, digest } = signatureAlgorithms[asymmetricKeyDetails?.namedCurve ?? asymmetricKeyType]!;
  const parameters = asymmetricKeyType === 'rsa' ? { algorithmParams: new asn1js.Null() } : {};
  return { identifier: new pkijs.AlgorithmIdentifier({ algorithmId, ...parameters }), digest };
}

function extension(extnID: string, critical: boolean, value: asn1js.BaseBlock | Uint8Array): pkijs.Extension {
  const der = value instanceof Uint8Array ? value : new Uint8Array(value.toBER());
  return new pkijs.Extension({ extnID, critical, extnValue: Uint8Array.from(der).buffer });
}

function keyIdentifier(key: KeyObject): Buffer {
  const { subjectPublicKey } = new pkijs.PublicKeyInfo({ schema: asn1js.fromBER(spki(key)).result });
  return createHash('sha1').update(subjectPublicKey.valueBlock.valueHexView).digest();
}

function spki(key: KeyObject): Buffer {
  return key.export({ type: 'spki', format: 'der' });
}

const keyUsageBits = { digitalSignature: 0x80, keyEncipherment: 0x20 };

/** An unused-bits count as DER wants it: trailing zero bits are not sent (X.690, 11.2.2). */
function bitString(octet: number): asn1js.BitString {
  const unusedBits = 31 - Math.clz32(octet & -octet);
  return new asn1js.BitString({ valueHex: Uint8Array.of(octet).buffer, unusedBits });
}

function generalNames(names: string[]): asn1js.Sequence {
  const value = names.map((name) => {
    const family = isIP(name);
    if (family === 0) return new asn1js.Primitive({ idBlock: { tagClass: 3, tagNumber: 2 }, valueHex: Buffer.from(name, 'latin1') });
    if (family === 6) throw new Error(`IPv6 address ${name} is not supported as a name here`);
    return new asn1js.Primitive({ idBlock: { tagClass: 3, tagNumber: 7 }, valueHex: Uint8Array.from(name.split('.').map(Number)) });
  });
  return new asn1js.Sequence({ value });
}

function leafExtensions(options: IssueOptions): pkijs.Extension[] {
  const { names = [], keyUsage = 'digitalSignature' } = options;
  const urls = [options.ocsp ?? []].flat();
  const purpose = options.ocspSigning ? '1.3.6.1.5.5.7.3.9' : options.clientAuth ? '1.3.6.1.5.5.7.3.2' : '1.3.6.1.5.5.7.3.1';
  const access = urls.map((url) => {
    const location = new asn1js.Primitive({ idBlock: { tagClass: 3, tagNumber: 6 }, valueHex: Buffer.from(url, 'latin1') });
    return new asn1js.Sequence({ value: [new asn1js.ObjectIdentifier({ value: '1.3.6.1.5.5.7.48.1' }), location] });
  });
  return [
    ...(keyUsage === 'none' ? [] : [extension('2.5.29.15', true, bitString(keyUsageBits[keyUsage]))]),
    extension('2.5.29.37', false, new asn1js.Sequence({ value: [new asn1js.ObjectIdentifier({ value: purpose })] })),
    ...(names.length === 0 ? [] : [extension('2.5.29.17', false, generalNames(names))]),
    ...(access.length === 0 ? [] : [extension('1.3.6.1.5.5.7.1.1', false, new asn1js.Sequence({ value: access }))]),
    ...(options.mustStaple ? [extension('1.3.6.1.5.5.7.1.24', false, new asn1js.Sequence({ value: [new asn1js.Integer({ value: 5 })] }))] : []),
    ...(options.ocspSigning ? [extension('1.3.6.1.5.5.7.48.1.5', false, new asn1js.Null())] : []),
    ...(options.extensions ?? []).map(({ oid, critical, value }) => extension(oid, critical, value)),
  ];
}

const authorityExtensions = (): pkijs.Extension[] => [
  extension('2.5.29.19', true, new asn1js.Sequence({ value: [new asn1js.Boolean({ value: true })] })),
  extension('2.5.29.15', true, bitString(0x86)), // digitalSignature, keyCertSign, cRLSign
];

interface CertificateContents {
  subject: string;
  publicKey: KeyObject;
  issuer: { name: pkijs.RelativeDistinguishedNames; key: KeyObject; keyIdentifier: Buffer };
  validity: Validity;
  serialNumber?: Buffer | undefined;
  extensions: pkijs.Extension[];
}

function distinguishedName(commonName: string): pkijs.RelativeDistinguishedNames {
  const value = new asn1js.Utf8String({ value: commonName });
  return new pkijs.RelativeDistinguishedNames({ typesAndValues: [new pkijs.AttributeTypeAndValue({ type: '2.5.4.3', value })] });
}

/** Builds and signs an RFC 5280 version 3 certificate. */
function signCertificate({ subject, publicKey, issuer, validity, serialNumber, extensions }: CertificateContents): X509Certificate {
  const { identifier, digest } = signatureAlgorithm(issuer.key);
  const time = (value: Date) => new pkijs.Time({ type: value.getUTCFullYear() < 2050 ? pkijs.TimeType.UTCTime : pkijs.TimeType.GeneralizedTime, value });
  const serial = serialNumber ?? Buffer.concat([Buffer.of(0x40 | (randomBytes(1)[0]! & 0x3f)), randomBytes(15)]);
  const certificate = new pkijs.Certificate({
    version: 2,
    serialNumber: new asn1js.Integer({ valueHex: Uint8Array.from(serial).buffer }),
    issuer: issuer.name,
    notBefore: time(validity.notBefore ?? new Date(Date.now() - day)),
    notAfter: time(validity.notAfter ?? new Date(Date.now() + 90 * day)),
    subject: distinguishedName(subject),
    subjectPublicKeyInfo: new pkijs.PublicKeyInfo({ schema: asn1js.fromBER(spki(publicKey)).result }),
    extensions: [
      ...extensions,
      extension('2.5.29.14', false, new asn1js.OctetString({ valueHex: Uint8Array.from(keyIdentifier(publicKey)).buffer })),
      extension(
        '2.5.29.35',
        false,
        new pkijs.AuthorityKeyIdentifier({ keyIdentifier: new asn1js.OctetString({ valueHex: Uint8Array.from(issuer.keyIdentifier).buffer }) }).toSchema(),
      ),
    ],
    signature: identifier,
    signatureAlgorithm: identifier,
  });
  const toBeSigned = Buffer.from(certificate.encodeTBS().toBER());
  certificate.tbsView = toBeSigned;
  certificate.signatureValue = new asn1js.BitString({ valueHex: Uint8Array.from(sign(digest, toBeSigned, issuer.key)).buffer });
  return new X509Certificate(Buffer.from(certificate.toSchema(true).toBER()));
}

function pkcs8(key: KeyObject): string {
  return key.export({ type: 'pkcs8', format: 'pem' }).toString();
}

export class Authority {
  readonly certificate: X509Certificate;
  readonly key: KeyObject;
  readonly #name: pkijs.RelativeDistinguishedNames;
  readonly #keyIdentifier: Buffer;
  /** PEM of this authority and of those above it, without the root. */
  readonly #intermediates: string;

  private constructor(commonName: string, certificate: X509Certificate, { privateKey, publicKey }: KeyPair, intermediates: string) {
    this.certificate = certificate;
    this.key = privateKey;
    this.#name = distinguishedName(commonName);
    this.#keyIdentifier = keyIdentifier(publicKey);
    this.#intermediates = intermediates;
  }

  get pem(): string {
    return this.certificate.toString();
  }

  get keyPem(): string {
    return pkcs8(this.key);
  }

  static async root(commonName: string, validity: Validity & { key?: KeyPair } = {}): Promise<Authority> {
    const pair = validity.key ?? (await makeKeyPair(...keyParameters[validity.keyType ?? 'ecdsa']));
    const issuer = { name: distinguishedName(commonName), key: pair.privateKey, keyIdentifier: keyIdentifier(pair.publicKey) };
    const certificate = signCertificate({ subject: commonName, publicKey: pair.publicKey, issuer, validity, extensions: authorityExtensions() });
    return new Authority(commonName, certificate, pair, '');
  }

  /** A subordinate authority that was kept; `commonName` is its whole subject. */
  static of(commonName: string, certificate: X509Certificate, pair: KeyPair): Authority {
    return new Authority(commonName, certificate, pair, certificate.toString());
  }

  async subordinate(commonName: string, validity: Validity & { key?: KeyPair } = {}): Promise<Authority> {
    const pair = validity.key ?? (await makeKeyPair(...keyParameters[validity.keyType ?? 'ecdsa']));
    const certificate = signCertificate({ subject: commonName, publicKey: pair.publicKey, issuer: this.#issuer, validity, extensions: authorityExtensions() });
    return new Authority(commonName, certificate, pair, certificate.toString() + this.#intermediates);
  }

  async issue(options: IssueOptions): Promise<Issued> {
    const { publicKey, privateKey } = options.key ?? (await makeKeyPair(...keyParameters[options.keyType ?? 'ecdsa']));
    const subject = options.commonName ?? options.names?.[0] ?? 'leaf';
    const { serialNumber } = options;
    const certificate = signCertificate({ subject, publicKey, issuer: this.#issuer, validity: options, serialNumber, extensions: leafExtensions(options) });
    const pem = certificate.toString();
    return { certificate, key: privateKey, pem, chainPem: pem + this.#intermediates, keyPem: pkcs8(privateKey) };
  }

  get #issuer(): CertificateContents['issuer'] {
    return { name: this.#name, key: this.key, keyIdentifier: this.#keyIdentifier };
  }
}
