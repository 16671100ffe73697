import * as asn1js from 'asn1js';

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

const subjectAltName = '2.5.29.17';
const authorityInfoAccess = '1.3.6.1.5.5.7.1.1';
const tlsFeature = '1.3.6.1.5.5.7.1.24';
const idAdOcsp = '1.3.6.1.5.5.7.48.1';
const statusRequest = 5;

/** RFC 9525, section 6.3: a wildcard is the whole left-most label. Anything else, a NUL byte above all (CVE-2009-2408), is not a name. */
const hostName = /^(\*\.)?[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*$/;

/**
 * Reads the extensions from DER, never from Node's `subjectAltName` and `infoAccess` strings: what separates two values
 * there can also be part of one (CVE-2021-44532). Throws an Error when they are malformed or occur twice.
 */
export function readExtensions(certificate: Uint8Array): Extensions {
  const values = extensionValues(certificate);
  const alternatives = generalNames(values.get(subjectAltName));
  const texts = alternatives.filter(({ tag }) => tag === 2).map(({ value }) => value.toString('latin1'));
  const lower = texts.map((text) => text.toLowerCase());
  return {
    names: [...new Set(lower.filter((name) => name.length <= 255 && hostName.test(name)))],
    addresses: alternatives.filter(({ tag }) => tag === 7).flatMap(({ value }) => ipAddress(value) ?? []),
    ignoredNames: lower.filter((name) => name.length > 255 || !hostName.test(name)).map((name) => JSON.stringify(name.slice(0, 255))),
    ocspResponders: ocspUrls(values.get(authorityInfoAccess)),
    mustStaple: items(values.get(tlsFeature)).some((item) => item instanceof asn1js.Integer && item.valueBlock.valueDec === statusRequest),
  };
}

/** Extension values by OID: Certificate → tbsCertificate → [3] → SEQUENCE OF Extension. */
function extensionValues(der: Uint8Array): Map<string, Uint8Array> {
  const [tbsCertificate] = items(der);
  const wrapper = children(tbsCertificate).find(({ idBlock }) => idBlock.tagClass === 3 && idBlock.tagNumber === 3);
  const values = new Map<string, Uint8Array>();
  for (const extension of children(children(wrapper)[0])) {
    const parts = children(extension);
    const [id, value] = [parts.at(0), parts.at(-1)];
    if (!(id instanceof asn1js.ObjectIdentifier) || !(value instanceof asn1js.OctetString)) throw new Error('an extension is malformed');
    const oid = id.valueBlock.toString();
    // RFC 5280, section 4.2: no more than one instance. Two would let two readers see two certificates.
    if (values.has(oid)) throw new Error(`extension ${oid} occurs twice`);
    values.set(oid, value.valueBlock.valueHexView);
  }
  return values;
}

/** The elements of a DER SEQUENCE; none when there is no value. */
function items(der: Uint8Array | undefined): asn1js.BaseBlock[] {
  if (der === undefined) return [];
  // Extension values are parsed by the reader of each extension, so the parser need not guess what octet strings hold.
  const { offset, result } = asn1js.fromBER(der, { parseEmbedded: false, maxNodes: 100_000 });
  if (offset !== der.byteLength || !(result instanceof asn1js.Sequence)) throw new Error('an extension is malformed');
  return result.valueBlock.value;
}

function children(block: asn1js.BaseBlock | undefined): asn1js.BaseBlock[] {
  return block instanceof asn1js.Constructed ? block.valueBlock.value : [];
}

/** GeneralName (RFC 5280, section 4.2.1.6) in its primitive forms: [2] dNSName, [6] URI, [7] iPAddress. */
function generalName(block: asn1js.BaseBlock | undefined): { tag: number; value: Buffer }[] {
  if (!(block instanceof asn1js.Primitive) || block.idBlock.tagClass !== 3) return [];
  return [{ tag: block.idBlock.tagNumber, value: Buffer.from(block.valueBlock.valueHexView) }];
}

function generalNames(der: Uint8Array | undefined): { tag: number; value: Buffer }[] {
  return items(der).flatMap((item) => generalName(item));
}

function ocspUrls(der: Uint8Array | undefined): string[] {
  return items(der).flatMap((description) => {
    const [method, location] = children(description);
    if (!(method instanceof asn1js.ObjectIdentifier) || method.valueBlock.toString() !== idAdOcsp) return [];
    const urls = generalName(location).filter(({ tag }) => tag === 6);
    // LDAP responders are allowed by RFC 5280 and unknown to RFC 6960's HTTP transport.
    return urls.map(({ value }) => value.toString('latin1')).filter((url) => /^https?:\/\/[\x21-\x7e]+$/i.test(url) && URL.canParse(url));
  });
}

function ipAddress(value: Buffer): string | undefined {
  if (value.length === 4) return value.join('.');
  if (value.length !== 16) return undefined;
  const groups = Array.from({ length: 8 }, (_, i) => value.readUInt16BE(i * 2).toString(16));
  return new URL(`http://[${groups.join(':')}]`).hostname.slice(1, -1);
}
