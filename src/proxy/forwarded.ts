import type { ClientCertificateValues } from '../config/policies.ts';
import type { Config, VirtualHost } from '../config/schema.ts';
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
 * Fields by which proxies vouch for a client; from a stranger they are claims. RFC 7239, RFC 9440, and what Apache, nginx,
 * HAProxy, IIS, Envoy, Traefik and load balancers of clouds commonly use.
 */
const VOUCHING =
  /^(?:forwarded|x-forwarded|x-real-ip|client-cert|client-cert-chain|x-client-cert|x-client-verify|x-ssl-cert|x-arr-clientcert|(?:x-forwarded-|x-ssl-client-|ssl-client-|x-client-cert-|x-amzn-mtls-).*)$/;

/**
 * CGI and WSGI make `_` of `-`; lighttpd, and Apache before 2.4 (its env.html#fixheader), of every other sign, too. What
 * an application could not tell from a name is that name.
 */
function hyphened(key: string): string {
  return /[^a-z0-9-]/.test(key) ? key.replaceAll(/[^a-z0-9]/g, '-') : key;
}

function hyphenedNames({ tls }: VirtualHost): string[] {
  return Object.keys(tls.clientAuth.forward).map((name) => hyphened(name.toLowerCase()));
}

/**
 * Which fields vouch for a client, by lower-case name: the known ones, and those that any virtual host sets
 * (`tls.client_auth.forward`), because the application behind it may be behind another one too.
 */
export function vouchingFields({ virtualHosts }: Config): (key: string) => boolean {
  const own = new Set(virtualHosts.flatMap(hyphenedNames));
  // Most names are done with at their first letter.
  const initials = `cfsx${[...own].map((name) => name.charAt(0)).join('')}`;
  return (key) => {
    if (!initials.includes(key.charAt(0))) return false;
    const name = hyphened(key);
    return VOUCHING.test(name) || own.has(name);
  };
}

/** The fields that tell a virtual host's backend about the client's certificate; one without a value is left out. */
function clientCertificateFields({ tls }: VirtualHost, values: ClientCertificateValues | undefined): Field[] {
  if (values === undefined) return [];
  return Object.entries(tls.clientAuth.forward).flatMap(([name, word]) => {
    const value = values[word];
    return value === undefined || value === '' ? [] : [field(name, value)];
  });
}

/** Who vouches for what in a request. */
export interface Vouching {
  /** The request comes from one of `trusted_proxies`. */
  trusted: boolean;
  vouches: (key: string) => boolean;
  virtualHost: VirtualHost;
  /** Where the virtual host asks for client certificates: what this connection's says. */
  clientCertificate: ClientCertificateValues | undefined;
}

/**
 * Adds X-Forwarded-For, -Proto, -Host and -Port, and what is told about a client certificate. A stranger's own are removed
 * first; a trusted proxy's are kept, but those about a certificate where we ask for one ourselves, and the trusted proxy
 * itself is appended to its X-Forwarded-For. Other spellings than with `-` are nobody's.
 */
export function forwardedFields(fields: readonly Field[], origin: Origin, { trusted, vouches, virtualHost, clientCertificate }: Vouching): Field[] {
  const chain = trusted ? valuesOf(fields, 'x-forwarded-for') : [];
  const ours = new Set(clientCertificate === undefined ? [] : hyphenedNames(virtualHost));
  const kept = fields.filter(({ key }) => !vouches(key) || (trusted && key === hyphened(key) && key !== 'x-forwarded-for' && !ours.has(key)));
  const theirs = trusted ? new Set(kept.map(({ key }) => key)) : undefined;
  kept.push(field('X-Forwarded-For', [...chain, origin.clientAddress].join(', ')));
  if (!theirs?.has('x-forwarded-proto')) kept.push(field('X-Forwarded-Proto', origin.protocol));
  if (!theirs?.has('x-forwarded-host')) kept.push(field('X-Forwarded-Host', origin.authority));
  if (origin.port !== 0 && !theirs?.has('x-forwarded-port')) kept.push(field('X-Forwarded-Port', String(origin.port)));
  kept.push(...clientCertificateFields(virtualHost, clientCertificate));
  return kept;
}
