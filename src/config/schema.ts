import { z } from 'zod';
import { backendAddress, cidr, duration, listenAddress, serverName, size } from './values.ts';

/**
 * Every configuration key, once: its type, its default and its one-line documentation. The loader, the annotated
 * sample, docs/configuration.md and the JSON Schema for editors are made from this file or checked against it.
 *
 * `path: true` marks file names: the loader makes them absolute, relative to the configuration file.
 */

const tlsVersion = z.enum(['TLSv1', 'TLSv1.1', 'TLSv1.2', 'TLSv1.3']);
const path = z.string().min(1);

const clientAuth = z.strictObject({
  mode: z
    .enum(['none', 'request', 'require'])
    .default('none')
    .meta({ description: 'Whether clients are asked for a certificate, and whether they must present one.' }),
  ca: path.optional().meta({ path: true, description: 'PEM file of the authorities that client certificates must chain to.' }),
});

const tls = z.strictObject({
  profile: z.enum(['modern', 'intermediate', 'old']).default('intermediate').meta({ description: "Mozilla's server-side TLS profile to start from." }),
  min_version: tlsVersion.optional().meta({ description: "Lowest protocol version, instead of the profile's." }),
  max_version: tlsVersion.optional().meta({ description: "Highest protocol version, instead of the profile's." }),
  ciphers: z.string().optional().meta({ description: "OpenSSL cipher list for TLS 1.2 and below, instead of the profile's." }),
  client_auth: clientAuth.prefault({}).meta({ description: 'Client certificates.' }),
});

const ocsp = z.strictObject({
  stapling: z.boolean().default(true).meta({ description: 'Fetch, verify, keep and staple OCSP responses.' }),
  responder: z
    .url({ protocol: /^https?$/ })
    .optional()
    .meta({ description: 'Responder to ask instead of the one the certificate names.' }),
  timeout: duration.default(10_000).meta({ description: 'Deadline of one whole attempt: name lookup, connection, head and body.' }),
  clock_skew: duration.default(300_000).meta({ description: 'Tolerance for producedAt and thisUpdate lying in the future.' }),
  max_age: z
    .union([z.literal(-1), duration])
    .default(-1)
    .meta({ description: 'Refuse responses whose thisUpdate is older than this; -1 for no limit.' }),
  no_next_update: duration.default(86_400_000).meta({ description: 'How long after thisUpdate a response without nextUpdate is usable; 0 refuses it.' }),
  max_response_size: size.default(65_536).meta({ description: 'Largest response accepted from a responder or from disk.' }),
  on_revoked: z
    .enum(['omit', 'staple'])
    .default('omit')
    .meta({ description: 'What clients get when the certificate is revoked: no staple, or the response that says so.' }),
});

const route = z.strictObject({
  path: z.string().startsWith('/').default('/').meta({ description: 'Requests whose path is this or lies below it; the longest match wins.' }),
  backends: z.array(backendAddress).min(1).meta({ description: 'Applications behind this route: http://HOST[:PORT] or unix:/PATH.' }),
  balance: z.enum(['round_robin', 'least_conn']).default('round_robin').meta({ description: 'How a backend is chosen.' }),
  strip_prefix: z.boolean().default(false).meta({ description: 'Remove the route path before forwarding.' }),
});

const certificate = z.strictObject({
  certificate: path.meta({ path: true, description: 'PEM file: the certificate, then its chain.' }),
  key: path.meta({ path: true, description: 'PEM file: the private key, not encrypted.' }),
});

const virtualHost = z.strictObject({
  server_name: serverName.meta({ description: 'Host name; *.example.org covers one label.' }),
  aliases: z.array(serverName).default([]).meta({ description: 'Further names of the same virtual host.' }),
  default: z.boolean().default(false).meta({ description: 'Serve this virtual host when no name matches.' }),
  certificates: z.array(certificate).default([]).meta({ description: 'One pair per key type; without any, certificates_dir is searched by name.' }),
  tls: tls.partial().prefault({}).meta({ description: 'TLS policy; unset keys take the values of the top-level tls.' }),
  ocsp: ocsp.partial().prefault({}).meta({ description: 'OCSP; unset keys take the values of the top-level ocsp.' }),
  engine: z.enum(['http-proxy']).default('http-proxy').meta({ description: 'Forwarding engine.' }),
  backends: z.array(backendAddress).min(1).optional().meta({ description: 'Short for one route on /.' }),
  routes: z.array(route).default([]).meta({ description: 'Routes by path.' }),
});

const listen = z.strictObject({
  address: listenAddress.meta({ description: 'HOST:PORT, [IPv6]:PORT, unix:/PATH, or fd:NAME for a socket passed by systemd.' }),
  protocol: z.enum(['https', 'http']).default('https').meta({ description: 'https terminates TLS; http redirects to https and answers ACME challenges.' }),
  proxy_protocol: z.boolean().default(false).meta({ description: 'Expect a PROXY protocol header (v1 or v2) from trusted_proxies.' }),
});

const timeouts = z.strictObject({
  handshake: duration.default(10_000).meta({ description: 'A client must finish the TLS handshake within this time.' }),
  request_header: duration.default(20_000).meta({ description: 'A client must finish sending a request head within this time.' }),
  request_body: duration.default(60_000).meta({ description: 'Longest pause between two pieces of a request body.' }),
  keep_alive: duration.default(60_000).meta({ description: 'How long an idle client connection is kept.' }),
  connect: duration.default(5_000).meta({ description: 'A backend must accept the connection within this time.' }),
  response_header: duration.default(60_000).meta({ description: 'A backend must begin its answer within this time.' }),
  response_body: duration.default(60_000).meta({ description: 'Longest pause between two pieces of a response body, on either side.' }),
  tunnel: duration.default(3_600_000).meta({ description: 'How long a WebSocket without traffic is kept.' }),
});

export const schema = z.strictObject({
  listen: z.array(listen).min(1).meta({ description: 'Addresses to serve on.' }),
  workers: z
    .union([z.literal('auto'), z.int().min(0).max(256)])
    .default('auto')
    .meta({ description: 'Worker processes: auto is one per core, 0 serves in the supervisor itself.' }),
  state_dir: path.default('/var/lib/staplegate').meta({ path: true, description: 'Where staples and the ticket secret are kept.' }),
  certificates_dir: path
    .optional()
    .meta({ path: true, description: 'Folder searched for pairs (fullchain.pem with privkey.pem, NAME.pem with NAME.key), matched to names by SAN.' }),
  acme_challenge_dir: path
    .optional()
    .meta({ path: true, description: "Folder whose files answer /.well-known/acme-challenge/ on http listeners; unset, the virtual host's backend answers." }),
  trusted_proxies: z.array(cidr).default([]).meta({ description: 'Networks whose X-Forwarded-* fields and PROXY headers are believed.' }),
  shutdown_grace: duration.default(30_000).meta({ description: 'How long open requests may take to finish at shutdown or when a worker is replaced.' }),
  log: z
    .strictObject({
      level: z.enum(['error', 'warn', 'info', 'debug']).default('info').meta({ description: 'Least severe level that is logged.' }),
      format: z.enum(['text', 'json']).default('text').meta({ description: 'One line of text or one JSON object per event.' }),
      access: z.boolean().default(false).meta({ description: 'Log every request.' }),
    })
    .prefault({})
    .meta({ description: 'Logging, to standard error.' }),
  tls: tls.prefault({}).meta({ description: 'TLS policy of every virtual host that does not say otherwise.' }),
  ocsp: ocsp
    .extend({
      startup_wait: duration.default(10_000).meta({ description: 'How long start-up waits for the staple of a must-staple certificate.' }),
      keep: duration.default(604_800_000).meta({ description: 'How long cached responses of certificates no longer configured are kept.' }),
    })
    .prefault({})
    .meta({ description: 'OCSP settings of every virtual host that does not say otherwise.' }),
  timeouts: timeouts.prefault({}).meta({ description: 'Timers.' }),
  virtual_hosts: z.array(virtualHost).min(1).meta({ description: 'The sites.' }),
});

type Camel<S extends string> = S extends `${infer Head}_${infer Tail}` ? `${Head}${Capitalize<Camel<Tail>>}` : S;
type Camelized<T> = T extends readonly (infer Item)[] ? Camelized<Item>[] : T extends object ? { [K in keyof T as Camel<K & string>]: Camelized<T[K]> } : T;

type Parsed = Camelized<z.output<typeof schema>>;

export type Listen = Parsed['listen'][number];
export type TlsPolicy = Parsed['tls'];
export type OcspPolicy = Camelized<z.output<typeof ocsp>>;
export type Timeouts = Parsed['timeouts'];
export type Route = Parsed['virtualHosts'][number]['routes'][number];
export type TrustedProxy = Parsed['trustedProxies'][number];

/** A virtual host with every default filled in: `tls` and `ocsp` merged with the top level, `backends` turned into a route. */
export type VirtualHost = Omit<Parsed['virtualHosts'][number], 'tls' | 'ocsp' | 'backends'> & { tls: TlsPolicy; ocsp: OcspPolicy };

/** The configuration in force: durations in milliseconds, sizes in bytes, absolute paths. Plain data: it can be sent to a worker. */
export type Config = Omit<Parsed, 'virtualHosts'> & { file: string; virtualHosts: VirtualHost[] };
