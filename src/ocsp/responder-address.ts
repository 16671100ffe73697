import dns from 'node:dns';
import { BlockList, isIP, type LookupFunction } from 'node:net';

/**
 * Addresses that no certificate may make us ask: link-local ones and the cloud metadata services, which hand out
 * credentials to whoever can send a plain HTTP request (server-side request forgery).
 */
const refused = new BlockList();
refused.addSubnet('169.254.0.0', 16, 'ipv4'); // RFC 3927; AWS, Azure, Google metadata
refused.addAddress('100.100.100.200', 'ipv4'); // Alibaba metadata
refused.addAddress('168.63.129.16', 'ipv4'); // Azure WireServer
refused.addSubnet('fe80::', 10, 'ipv6'); // RFC 4291
refused.addAddress('fd00:ec2::254', 'ipv6'); // AWS metadata
refused.addAddress('fd00:ec2::23', 'ipv6'); // AWS credentials of EKS pods
refused.addAddress('fd20:ce::254', 'ipv6'); // Google metadata
refused.addAddress('fd00:c1::a9fe:a9fe', 'ipv6'); // Oracle metadata
refused.addSubnet('64:ff9b::a9fe:0', 112, 'ipv6'); // 169.254.0.0/16 through NAT64 (RFC 6052)

/** Whether an IP address, with or without brackets, is one of those. Host names are not: see {@link guardedLookup}. */
export function isRefusedAddress(host: string): boolean {
  const address = host.replace(/^\[|\]$/g, '');
  const family = isIP(address);
  return family !== 0 && refused.check(address, family === 6 ? 'ipv6' : 'ipv4');
}

/** What {@link guardedLookup} fails with when a name has only refused addresses. */
export const refusedAddressCode = 'ERR_REFUSED_ADDRESS';

type Found = (error: NodeJS.ErrnoException | null, addresses: dns.LookupAddress[]) => void;

/**
 * Who waits for the addresses of a name. A name server that does not answer holds a lookup for longer than `ocsp.timeout`, and Node does two at
 * a time: without this, repeated questions about one such name would keep all other names waiting.
 */
const waiting = new Map<string, Found[]>();

function addressesOf(hostname: string, options: Parameters<LookupFunction>[1], found: Found): void {
  const key = [hostname, options.family, options.hints].join(' ');
  const others = waiting.get(key);
  if (others !== undefined) return void others.push(found);
  const all = [found];
  waiting.set(key, all);
  dns.lookup(hostname, { ...options, all: true }, (error, addresses) => {
    waiting.delete(key);
    for (const tell of all) tell(error, addresses);
  });
}

const lookupOf =
  (isAllowed: (address: string) => boolean): LookupFunction =>
  (hostname, options, callback) =>
    addressesOf(hostname, options, (error, addresses) => {
      if (error) return callback(error, '', 0);
      const allowed = addresses.filter(({ address }) => isAllowed(address));
      const [first] = allowed;
      if (first === undefined) return callback(Object.assign(new Error('refused address'), { code: refusedAddressCode }), '', 0);
      if (options.all === true) return callback(null, allowed);
      callback(null, first.address, first.family);
    });

/** Looks names up as `dns.lookup` does, each once at a time. */
export const sharedLookup = lookupOf(() => true);

/** The same without refused addresses: the check is on the very address that is connected to. */
export const guardedLookup = lookupOf((address) => !isRefusedAddress(address));
