import { isIP } from 'node:net';

/** The client as a proxy in front of us names it; undefined when the proxy speaks for itself (LOCAL, UNKNOWN). */
export interface ProxiedPeer {
  address: string;
  port: number;
}

const signature = Buffer.from('\r\n\r\n\0\r\nQUIT\n', 'latin1');
const maxV1 = 107;
/** Addresses and TLVs; HAProxy and AWS send a few hundred bytes at most. */
const maxV2 = 4096;

export class ProxyProtocolError extends Error {
  override name = 'ProxyProtocolError';
  readonly code = 'proxy_protocol';
}

function v1(bytes: Buffer): { value: ProxiedPeer | undefined; consumed: number } | undefined {
  const end = bytes.indexOf('\r\n');
  if (end === -1 || end + 2 > maxV1) {
    if (bytes.length >= maxV1) throw new ProxyProtocolError('a PROXY line longer than 107 bytes');
    return undefined;
  }
  const line = bytes.toString('latin1', 0, end);
  const consumed = end + 2;
  if (/^PROXY UNKNOWN( |$)/.test(line)) return { value: undefined, consumed };
  const [, family, address = '', destination = '', port] = /^PROXY TCP([46]) ([0-9a-fA-F:.]+) ([0-9a-fA-F:.]+) (\d{1,5}) \d{1,5}$/.exec(line) ?? [];
  if (family === undefined || isIP(address) !== Number(family) || isIP(destination) !== Number(family) || Number(port) > 65_535) {
    throw new ProxyProtocolError('a malformed PROXY line');
  }
  return { value: { address, port: Number(port) }, consumed };
}

function ipv6(octets: Buffer): string {
  return Array.from({ length: 8 }, (_, i) => octets.readUInt16BE(i * 2).toString(16)).join(':');
}

function v2(bytes: Buffer): { value: ProxiedPeer | undefined; consumed: number } | undefined {
  if (bytes.length < 16) return undefined;
  const [versionCommand, familyTransport] = [bytes[12]!, bytes[13]!];
  const length = bytes.readUInt16BE(14);
  if (versionCommand >> 4 !== 2 || (versionCommand & 0x0f) > 1) throw new ProxyProtocolError('an unknown PROXY protocol version or command');
  if (length > maxV2) throw new ProxyProtocolError(`a PROXY header of ${length} bytes`);
  const consumed = 16 + length;
  if (bytes.length < consumed) return undefined;
  if ((versionCommand & 0x0f) === 0 || (familyTransport !== 0x11 && familyTransport !== 0x21)) return { value: undefined, consumed };
  const octets = familyTransport === 0x11 ? 4 : 16;
  if (length < octets * 2 + 4) throw new ProxyProtocolError('a PROXY header too short for its addresses');
  const address = bytes.subarray(16, 16 + octets);
  const port = bytes.readUInt16BE(16 + octets * 2);
  return { value: { address: octets === 4 ? address.join('.') : ipv6(address), port }, consumed };
}

/**
 * Reads a PROXY protocol header, version 1 or 2 (proxy-protocol.txt, 2.1 and 2.2).
 * @returns undefined while more bytes are needed
 * @throws ProxyProtocolError when the connection does not begin with one; there is no guessing (proxy-protocol.txt, 2)
 */
export function readProxyHeader(bytes: Buffer): { value: ProxiedPeer | undefined; consumed: number } | undefined {
  const head = Math.min(bytes.length, signature.length);
  if (bytes.compare(signature, 0, head, 0, head) === 0) return v2(bytes);
  const word = 'PROXY ';
  if (word.startsWith(bytes.toString('latin1', 0, word.length))) return v1(bytes);
  throw new ProxyProtocolError('no PROXY header');
}
