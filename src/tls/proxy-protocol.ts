import { isIP, isIPv4 } from 'node:net';

/** A client's connection as a proxy in front of us names its ends. */
export interface ProxiedConnection {
  source: Endpoint;
  /** What the client connected to. */
  destination: Endpoint;
}

interface Endpoint {
  address: string;
  port: number;
}

/** `value` is undefined when the proxy speaks for itself (LOCAL, UNKNOWN). */
interface ProxyHeader {
  value: ProxiedConnection | undefined;
  consumed: number;
}

const signature = Buffer.from('\r\n\r\n\0\r\nQUIT\n', 'latin1');
const maxV1 = 107;
/** Addresses and TLVs; HAProxy and AWS send a few hundred bytes at most. */
const maxV2 = 4096;

export class ProxyProtocolError extends Error {
  override name = 'ProxyProtocolError';
  readonly code = 'proxy_protocol';
}

function v1(bytes: Buffer): ProxyHeader | undefined {
  const end = bytes.indexOf('\r\n');
  if (end === -1 || end + 2 > maxV1) {
    if (bytes.length >= maxV1) throw new ProxyProtocolError('a PROXY line longer than 107 bytes');
    return undefined;
  }
  const line = bytes.toString('latin1', 0, end);
  const consumed = end + 2;
  if (/^PROXY UNKNOWN( |$)/.test(line)) return { value: undefined, consumed };
  const [, family, from = '', to = '', fromPort, toPort] =
    /^PROXY TCP([46]) ([0-9a-fA-F:.]+) ([0-9a-fA-F:.]+) (0|[1-9]\d{0,4}) (0|[1-9]\d{0,4})$/.exec(line) ?? [];
  if ([from, to].some((address) => isIP(address) !== Number(family)) || Number(fromPort) > 65_535 || Number(toPort) > 65_535) {
    throw new ProxyProtocolError('a malformed PROXY line');
  }
  const value = { source: { address: spelled(from), port: Number(fromPort) }, destination: { address: spelled(to), port: Number(toPort) } };
  return { value, consumed };
}

function ipv6(octets: Buffer): string {
  return Array.from({ length: 8 }, (_, i) => octets.readUInt16BE(i * 2).toString(16)).join(':');
}

/** One spelling for each address, because limits and logs compare them: IPv6 as in RFC 5952, and as IPv4 what is only written as IPv6. */
function spelled(address: string): string {
  if (isIPv4(address)) return address;
  const canonical = new URL(`http://[${address}]`).hostname.slice(1, -1);
  const [, high, low] = /^::ffff:([0-9a-f]+):([0-9a-f]+)$/.exec(canonical) ?? [];
  if (high === undefined || low === undefined) return canonical;
  return [high, low].flatMap((group) => [Number.parseInt(group, 16) >> 8, Number.parseInt(group, 16) & 0xff]).join('.');
}

function v2(bytes: Buffer): ProxyHeader | undefined {
  if (bytes.length < 16) return undefined;
  const [versionCommand, familyTransport] = [bytes[12]!, bytes[13]!];
  const length = bytes.readUInt16BE(14);
  if (versionCommand >> 4 !== 2 || (versionCommand & 0x0f) > 1) throw new ProxyProtocolError('an unknown PROXY protocol version or command');
  if (length > maxV2) throw new ProxyProtocolError(`a PROXY header of ${length} bytes`);
  const consumed = 16 + length;
  if (bytes.length < consumed) return undefined;
  const isLocal = (versionCommand & 0x0f) === 0;
  if (!isLocal && (familyTransport >> 4 > 3 || (familyTransport & 0x0f) > 2)) throw new ProxyProtocolError('an unknown address family or transport');
  if (isLocal || (familyTransport !== 0x11 && familyTransport !== 0x21)) return { value: undefined, consumed };
  const octets = familyTransport === 0x11 ? 4 : 16;
  if (length < octets * 2 + 4) throw new ProxyProtocolError('a PROXY header too short for its addresses');
  const endpoint = (n: 0 | 1): Endpoint => {
    const address = bytes.subarray(16 + octets * n, 16 + octets * (n + 1));
    return { address: octets === 4 ? address.join('.') : spelled(ipv6(address)), port: bytes.readUInt16BE(16 + octets * 2 + 2 * n) };
  };
  return { value: { source: endpoint(0), destination: endpoint(1) }, consumed };
}

/**
 * Reads a PROXY protocol header, version 1 or 2 (proxy-protocol.txt, 2.1 and 2.2).
 * @returns undefined while more bytes are needed
 * @throws ProxyProtocolError when the connection does not begin with one; there is no guessing (proxy-protocol.txt, 2)
 */
export function readProxyHeader(bytes: Buffer): ProxyHeader | undefined {
  const head = Math.min(bytes.length, signature.length);
  if (bytes.compare(signature, 0, head, 0, head) === 0) return v2(bytes);
  const word = 'PROXY ';
  if (word.startsWith(bytes.toString('latin1', 0, word.length))) return v1(bytes);
  throw new ProxyProtocolError('no PROXY header');
}
