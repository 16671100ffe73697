import { field, valuesOf, type Field } from './headers.ts';

/** What the backend is told about the connection that it does not see. */
export interface Origin {
  clientAddress: string;
  protocol: 'https' | 'http';
  /** Of the listener; 0 where it has none (a unix socket). */
  port: number;
  /** Host as the client sent it. */
  authority: string;
}

/**
 * Fields by which proxies vouch for a client; from a stranger they are claims. CGI and WSGI make no difference between
 * `-` and `_`, so neither spelling may pass. RFC 7239, RFC 9440, and what Apache and nginx setups commonly use.
 */
const VOUCHING = /^(?:forwarded|x-real-ip|client-cert|client-cert-chain|x-forwarded-.*|x-ssl-client-.*|ssl-client-.*)$/;

function vouches(key: string): boolean {
  // Most names are done with at their first letter.
  if (!'cfsx'.includes(key.charAt(0))) return false;
  return VOUCHING.test(key.includes('_') ? key.replaceAll('_', '-') : key);
}

/**
 * Adds X-Forwarded-For, -Proto, -Host and -Port. A stranger's own are removed first; a trusted proxy's are kept, and
 * the trusted proxy itself is appended to its X-Forwarded-For. The `_` spellings are nobody's.
 */
export function forwardedFields(fields: readonly Field[], origin: Origin, trusted: boolean): Field[] {
  const chain = trusted ? valuesOf(fields, 'x-forwarded-for') : [];
  const kept = fields.filter(({ key }) => !vouches(key) || (trusted && !key.includes('_') && key !== 'x-forwarded-for'));
  const theirs = trusted ? new Set(kept.map(({ key }) => key)) : undefined;
  kept.push(field('X-Forwarded-For', [...chain, origin.clientAddress].join(', ')));
  if (!theirs?.has('x-forwarded-proto')) kept.push(field('X-Forwarded-Proto', origin.protocol));
  if (!theirs?.has('x-forwarded-host')) kept.push(field('X-Forwarded-Host', origin.authority));
  if (origin.port !== 0 && !theirs?.has('x-forwarded-port')) kept.push(field('X-Forwarded-Port', String(origin.port)));
  return kept;
}
