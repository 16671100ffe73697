/** What Staplegate reads from a certificate's extensions (RFC 5280, section 4.2). */
export interface Extensions {
  /** subjectAltName dNSName, lower-case. */
  names: string[];
  /** subjectAltName iPAddress, as text. */
  addresses: string[];
  /** dNSName values that are no host names, escaped. */
  ignoredNames: string[];
  /** authorityInfoAccess id-ad-ocsp, http and https only, in order. */
  ocspResponders: string[];
  /** TLS feature status_request (RFC 7633). */
  mustStaple: boolean;
}

/** Object identifiers by their content octets, in hexadecimal. */
const subjectAltName = '551d11'; // 2.5.29.17
const authorityInfoAccess = '2b06010505070101'; // 1.3.6.1.5.5.7.1.1
const tlsFeature = '2b06010505070118'; // 1.3.6.1.5.5.7.1.24
const idAdOcsp = '2b06010505073001'; // 1.3.6.1.5.5.7.48.1
const statusRequest = '05';

const Tag = { integer: 0x02, octetString: 0x04, oid: 0x06, sequence: 0x30, extensions: 0xa3, dnsName: 0x82, uri: 0x86, ipAddress: 0x87 } as const;

/** RFC 9525, section 6.3: a wildcard is the whole left-most label. Anything else, a NUL byte above all (CVE-2009-2408), is not a name. */
const hostName = /^(\*\.)?[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*$/;

/**
 * Reads the extensions from DER, never from Node's `subjectAltName` and `infoAccess` strings: what separates two values
 * there can also be part of one (CVE-2021-44532). Throws an Error when they are malformed or occur twice.
 */
export function readExtensions(certificate: Uint8Array): Extensions {
  const extensions = extensionValues(certificate);
  const alternatives = sequence(extensions.get(subjectAltName));
  const texts = alternatives.filter(({ tag }) => tag === Tag.dnsName).map(({ content }) => content.toString('latin1'));
  const lower = texts.map((text) => text.toLowerCase());
  return {
    names: [...new Set(lower.filter((name) => name.length <= 255 && hostName.test(name)))],
    addresses: alternatives.filter(({ tag }) => tag === Tag.ipAddress).flatMap(({ content }) => ipAddress(content) ?? []),
    ignoredNames: lower.filter((name) => name.length > 255 || !hostName.test(name)).map((name) => JSON.stringify(name.slice(0, 255))),
    ocspResponders: ocspUrls(extensions.get(authorityInfoAccess)),
    mustStaple: sequence(extensions.get(tlsFeature)).some(({ tag, content }) => tag === Tag.integer && content.toString('hex') === statusRequest),
  };
}

/** Extension values by OID: Certificate → tbsCertificate → [3] → SEQUENCE OF Extension. */
function extensionValues(der: Uint8Array): Map<string, Buffer> {
  const [tbsCertificate] = sequence(Buffer.from(der.buffer, der.byteOffset, der.byteLength));
  const wrapper = values(tbsCertificate?.content).find(({ tag }) => tag === Tag.extensions);
  const found = new Map<string, Buffer>();
  for (const extension of sequence(wrapper?.content)) {
    const parts = values(extension.content);
    const [id, value] = [parts.at(0), parts.at(-1)];
    if (id?.tag !== Tag.oid || value?.tag !== Tag.octetString) throw malformed();
    const oid = id.content.toString('hex');
    // RFC 5280, section 4.2: no more than one instance. Two would let two readers see two certificates.
    if (found.has(oid)) throw new Error('an extension occurs twice');
    found.set(oid, value.content);
  }
  return found;
}

interface Value {
  tag: number;
  content: Buffer;
}

/** The values of what must be one DER SEQUENCE and nothing else; none when there is nothing. */
function sequence(der: Buffer | undefined): Value[] {
  if (der === undefined) return [];
  const [only, ...others] = values(der);
  if (only?.tag !== Tag.sequence || others.length > 0) throw malformed();
  return values(only.content);
}

/**
 * The values that stand one after another, unopened. The TLS library has parsed the certificate before: this only finds
 * what is in it, and is stricter about nothing but lengths.
 */
function values(der: Buffer = Buffer.alloc(0)): Value[] {
  const found: Value[] = [];
  for (let at = 0; at < der.length;) {
    const [tag, first] = [der[at], der[at + 1]];
    // Tag numbers above 30 and indefinite lengths occur in no certificate.
    if (tag === undefined || first === undefined || (tag & 0x1f) === 0x1f || first === 0x80 || first > 0x84) throw malformed();
    const size = first < 0x80 ? 0 : first & 0x7f;
    const start = at + 2 + size;
    if (start > der.length) throw malformed();
    const end = start + (size === 0 ? first : der.readUIntBE(at + 2, size));
    if (end > der.length) throw malformed();
    found.push({ tag, content: der.subarray(start, end) });
    at = end;
  }
  return found;
}

function malformed(): Error {
  return new Error('an extension is malformed');
}

function ocspUrls(der: Buffer | undefined): string[] {
  return sequence(der).flatMap(({ content }) => {
    const [method, location] = values(content);
    if (method?.tag !== Tag.oid || method.content.toString('hex') !== idAdOcsp || location?.tag !== Tag.uri) return [];
    const url = location.content.toString('latin1');
    // LDAP responders are allowed by RFC 5280 and unknown to RFC 6960's HTTP transport.
    return /^https?:\/\/[\x21-\x7e]+$/i.test(url) && URL.canParse(url) ? [url] : [];
  });
}

function ipAddress(value: Buffer): string | undefined {
  if (value.length === 4) return value.join('.');
  if (value.length !== 16) return undefined;
  const groups = Array.from({ length: 8 }, (_, i) => value.readUInt16BE(i * 2).toString(16));
  return new URL(`http://[${groups.join(':')}]`).hostname.slice(1, -1);
}
