import { BlockList, isIPv6 } from 'node:net';
import type { TrustedProxy } from './schema.ts';

const matchers = new WeakMap<readonly TrustedProxy[], (address: string) => boolean>();

/** Whether an address lies in one of the networks; IPv4 addresses mapped into IPv6 count as IPv4. Made once for each configuration. */
export function networkMatcher(networks: readonly TrustedProxy[]): (address: string) => boolean {
  const known = matchers.get(networks);
  if (known) return known;
  const matcher = makeMatcher(networks);
  matchers.set(networks, matcher);
  return matcher;
}

function makeMatcher(networks: readonly TrustedProxy[]): (address: string) => boolean {
  if (networks.length === 0) return () => false;
  const list = new BlockList();
  for (const { address, prefix, family } of networks) list.addSubnet(address, prefix, family);
  return (address) => {
    const plain = unmapped(address);
    return list.check(plain, isIPv6(plain) ? 'ipv6' : 'ipv4');
  };
}

/** `::ffff:192.0.2.1`, as a dual-stack socket names an IPv4 peer → `192.0.2.1`. */
export function unmapped(address: string): string {
  return address.startsWith('::ffff:') && address.includes('.') ? address.slice('::ffff:'.length) : address;
}
