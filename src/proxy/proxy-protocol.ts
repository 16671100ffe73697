import { isIPv4 } from 'node:net';

/** One end of a connection; the address is empty for a unix socket. */
export interface Endpoint {
  address: string;
  port: number;
}

/** A client's connection as a backend is told of it. */
export interface ProxiedConnection {
  source: Endpoint;
  /** What the client connected to. */
  destination: Endpoint;
  /** The name that the client asked for (SNI). */
  authority?: string | undefined;
  /** Set where TLS ends here: protocol version and cipher suite in OpenSSL's words, and whether the client has shown a certificate that was verified. */
  tls?: { version: string; cipher: string; clientCertificate: boolean };
}

export type ProxyProtocolVersion = 'v1' | 'v2';

const signature = Buffer.from('\r\n\r\n\0\r\nQUIT\n', 'latin1');

/** PP2_TYPE_AUTHORITY, PP2_TYPE_SSL and its parts (proxy-protocol.txt, 2.2.2 and 2.2.6). */
const type = { authority: 0x02, ssl: 0x20, sslVersion: 0x21, sslCipher: 0x23 };
const flag = { ssl: 1, certificateOfConnection: 2 };

/**
 * The header with which a connection to a backend begins, so that it knows the client (HAProxy's proxy-protocol.txt, 2.1
 * and 2.2). Version 1 tells addresses only. A client on a unix socket has none to tell: the backend then sees ours.
 */
export function proxyHeader(version: ProxyProtocolVersion, connection: ProxiedConnection): Buffer {
  const { source, destination } = connection;
  const isKnown = source.address !== '' && destination.address !== '';
  const isV4 = isIPv4(source.address) && isIPv4(destination.address);
  if (version === 'v1') {
    if (!isKnown) return Buffer.from('PROXY UNKNOWN\r\n');
    const [from, to] = [source, destination].map(({ address }) => (isV4 ? address : inIPv6(address)));
    return Buffer.from(`PROXY TCP${isV4 ? 4 : 6} ${from} ${to} ${source.port} ${destination.port}\r\n`);
  }
  // LOCAL: the receiver goes by the connection itself. HAProxy 2.6 resets on PROXY with an unspecified family.
  if (!isKnown) return Buffer.concat([signature, Buffer.of(0x20, 0x00, 0, 0)]);
  const octets = isV4 ? ipv4Octets : ipv6Octets;
  const addresses = [octets(source.address), octets(destination.address), u16(source.port), u16(destination.port)];
  const body = Buffer.concat([...addresses, ...typedValues(connection)]);
  // Version 2, PROXY; then TCP over IPv4 or IPv6.
  return Buffer.concat([signature, Buffer.of(0x21, isV4 ? 0x11 : 0x21), u16(body.length), body]);
}

function typedValues({ authority, tls }: ProxiedConnection): Buffer[] {
  const values = authority === undefined ? [] : [typedValue(type.authority, Buffer.from(authority, 'latin1'))];
  if (tls) {
    const client = flag.ssl | (tls.clientCertificate ? flag.certificateOfConnection : 0);
    const verify = Buffer.of(0, 0, 0, tls.clientCertificate ? 0 : 1); // 0 means that there was a certificate, and a good one
    const parts = [typedValue(type.sslVersion, Buffer.from(tls.version, 'latin1')), typedValue(type.sslCipher, Buffer.from(tls.cipher, 'latin1'))];
    values.push(typedValue(type.ssl, Buffer.concat([Buffer.of(client), verify, ...parts])));
  }
  return values;
}

function typedValue(kind: number, value: Buffer): Buffer {
  return Buffer.concat([Buffer.of(kind), u16(value.length), value]);
}

function u16(value: number): Buffer {
  return Buffer.of(value >> 8, value & 0xff);
}

function ipv4Octets(address: string): Buffer {
  return Buffer.from(address.split('.').map(Number));
}

/** One family for both ends: an IPv4 address is written as IPv6 (RFC 4291, 2.5.5.2). */
function inIPv6(address: string): string {
  return isIPv4(address) ? `::ffff:${address}` : address;
}

function ipv6Octets(address: string): Buffer {
  // URL spells every notation in the one of RFC 5952, without dots.
  const canonical = new URL(`http://[${inIPv6(address)}]`).hostname.slice(1, -1);
  const [before = [], after = []] = canonical.split('::').map((part) => part.split(':').filter((group) => group !== ''));
  const zeros = Array.from({ length: 8 - before.length - after.length }, () => '0');
  return Buffer.concat([...before, ...zeros, ...after].map((group) => u16(Number.parseInt(group, 16))));
}
