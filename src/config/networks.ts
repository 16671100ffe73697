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
    const plain = plainAddress(address);
    return list.check(plain, isIPv6(plain) ? 'ipv6' : 'ipv4');
  };
}

/**
 * A peer's address as a socket has it → as everybody else writes it: `::ffff:192.0.2.1`, of a dual-stack socket, → `192.0.2.1`;
 * `fe80::1%eth0` → `fe80::1`, because a zone means something on this machine only (RFC 4007, 6).
 */
export function plainAddress(address: string): string {
  const [plain = ''] = address.split('%', 1);
  return plain.startsWith('::ffff:') && plain.includes('.') ? plain.slice('::ffff:'.length) : plain;
}
