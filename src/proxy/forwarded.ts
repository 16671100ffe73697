import type { Field } from './headers.ts';
import { valuesOf } from './headers.ts';

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
function vouches(name: string): boolean {
  const key = name.toLowerCase().replaceAll('_', '-');
  return (
    ['forwarded', 'x-real-ip', 'client-cert', 'client-cert-chain'].includes(key) ||
    ['x-forwarded-', 'x-ssl-client-', 'ssl-client-'].some((prefix) => key.startsWith(prefix))
  );
}

/**
 * Adds X-Forwarded-For, -Proto, -Host and -Port. A stranger's own are removed first; a trusted proxy's are kept, and
 * the trusted proxy itself is appended to its X-Forwarded-For. The `_` spellings are nobody's.
 */
export function forwardedFields(fields: readonly Field[], origin: Origin, trusted: boolean): Field[] {
  const chain = trusted ? valuesOf(fields, 'x-forwarded-for') : [];
  const kept = fields.filter(([name]) => !vouches(name) || (trusted && !name.includes('_') && name.toLowerCase() !== 'x-forwarded-for'));
  const ours: Field[] = [
    ['X-Forwarded-Proto', origin.protocol],
    ['X-Forwarded-Host', origin.authority],
    ...(origin.port === 0 ? [] : [['X-Forwarded-Port', String(origin.port)] as const]),
  ];
  const missing = ours.filter(([name]) => valuesOf(kept, name.toLowerCase()).length === 0);
  return [...kept, ['X-Forwarded-For', [...chain, origin.clientAddress].join(', ')], ...missing];
}
