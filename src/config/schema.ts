import { z } from 'zod';
import { unwrap } from './keys.ts';
import { ageLimit, byteRate, deadline, depth, duration, number, numberOrAuto, queueLength, rotation, size, wait, workerCount } from './quantities.ts';
import {
  backendAddress,
  cidr,
  cipherList,
  groupName,
  hostNameOnly,
  httpVersion,
  listenAddress,
  path,
  proxyUrl,
  responder,
  routePath,
  serverName,
} from './values.ts';

/**
 * Every configuration key, once: its type, its default and its one-line documentation. The loader, docs/configuration.md
 * and the JSON Schema for editors are made from this file; the annotated sample is checked against it.
 *
 * Defaults are what an administrator would write: `prefault` takes a notation (`10s`) and parses it.
 */

type Overrides<T> = { [K in keyof T]?: T[K] extends Record<string, unknown> ? Overridden<T[K]> : T[K] };
/** A map with names of the administrator's own choice is overridden as a whole. */
type Overridden<T> = string extends keyof T ? T : Overrides<T>;

/** A section without its defaults: what one virtual host says differently. (`partial()` would keep them, and they would mask the top level.) */
function overrides<Shape extends z.ZodRawShape>(section: z.ZodObject<Shape, z.core.$strict>) {
  const shape: Record<string, z.ZodType> = {};
  for (const [key, wrapped] of Object.entries<z.core.$ZodType>(section.shape)) {
    const type = unwrap(wrapped);
    const bare: z.ZodType = type instanceof z.ZodObject ? overrides(type) : z.optional(type);
    shape[key] = bare.meta({ ...z.globalRegistry.get(wrapped) });
  }
  return z.strictObject(shape).prefault({}) as unknown as z.ZodPrefault<z.ZodType<Overrides<z.output<typeof section>>>>;
}

/** A section in whose place one word may stand. */
function orWord<Word extends string, Section extends z.ZodType>(word: Word, section: z.ZodPrefault<Section>) {
  return z.union([z.literal(word), section.unwrap()], { error: `must be ${word}, or a map of keys` }).prefault({} as never);
}

const tlsVersion = z.enum(['TLSv1', 'TLSv1.1', 'TLSv1.2', 'TLSv1.3']);

/** What is told about a client certificate: values of `client_auth.forward`. */
const clientCertificateValue = z.enum([
  'verify',
  'subject',
  'issuer',
  'serial',
  'not_before',
  'not_after',
  'sha1',
  'sha256',
  'certificate',
  'chain',
  'der',
  'pem',
  'escaped_pem',
]);

const clientAuth = z.strictObject({
  mode: z
    .enum(['none', 'request', 'require'])
    .default('none')
    .meta({ description: 'Whether clients are asked for a certificate, and whether they must present one.' }),
  ca: path.optional().meta({ description: 'PEM file of the authorities that client certificates must chain to; needed unless the mode is `none`.' }),
  depth: depth.optional().meta({
    description:
      'How many intermediate authorities may stand between a client certificate and one in `ca`. Not set, there is no limit; set, sessions are not resumed.',
  }),
  forward: z.record(z.string(), clientCertificateValue).default({}).meta({
    description: 'Fields in which the backend is told about the client certificate: names, each with what it holds. docs/tls.md explains the values.',
  }),
});

const tls = z.strictObject({
  profile: z
    .enum(['modern', 'intermediate', 'old'])
    .default('intermediate')
    .meta({ description: "Mozilla's server-side TLS profile: `modern` is TLS 1.3 only, `intermediate` adds 1.2, `old` adds 1.0 and 1.1." }),
  min_version: tlsVersion.optional().meta({ description: "Lowest protocol version, instead of the profile's." }),
  max_version: tlsVersion.optional().meta({ description: "Highest protocol version, instead of the profile's." }),
  ciphers: cipherList.optional().meta({
    description: "OpenSSL cipher list. Its `TLS_…` names replace the profile's suites of TLS 1.3, the others those of TLS 1.2 and below.",
  }),
  groups: z
    .array(groupName)
    .min(1)
    .optional()
    .meta({ description: "Key exchange groups (elliptic curves and hybrids) in order of preference, instead of the profile's." }),
  alpn: z
    .array(z.enum(['h2', 'http/1.1', 'http/1.0']))
    .default(['h2', 'http/1.1', 'http/1.0'])
    .meta({ description: 'Application protocols in order of preference; a client that offers none of them is refused. Empty, the extension is not answered.' }),
  session_tickets: z
    .boolean()
    .default(true)
    .meta({ description: 'Let clients that come back resume their session, which saves both sides most of the handshake.' }),
  client_auth: clientAuth.prefault({}).meta({ description: 'Client certificates.' }),
});

const ocsp = z.strictObject({
  stapling: z.boolean().default(true).meta({ description: 'Fetch, verify, keep and staple OCSP responses.' }),
  responder: responder
    .optional()
    .meta({ description: 'Responder to ask instead of the one the certificate names; `none` asks nobody, for responses that are given by hand.' }),
  http_proxy: proxyUrl.optional().meta({
    description: 'Forward proxy on the way to responders; `none` uses none. Not set, `http_proxy`, `https_proxy` and `all_proxy` of the environment hold.',
  }),
  timeout: deadline.prefault('10s').meta({ description: 'Deadline of one whole attempt: name lookup, connection, head and body.' }),
  min_delay: duration.prefault('5m').meta({ description: 'Never refresh sooner than this, unless half of the life that a response has left is shorter.' }),
  cert_id_hash: z.enum(['sha1', 'sha256', 'auto']).default('sha1').meta({
    description: 'Hash that names the certificate in questions; `auto` tries the other one where a responder does not know the first, and remembers.',
  }),
  nonce: z.boolean().default(false).meta({ description: 'Send a random nonce, for responders that want one; then questions are asked with POST only.' }),
  sha1_signatures: z.enum(['accept', 'refuse']).default('accept').meta({ description: 'Whether responses signed with SHA-1 are used, with a warning.' }),
  clock_skew: duration.prefault('5m').meta({ description: 'How far in the future producedAt and thisUpdate of a response may lie.' }),
  max_age: ageLimit.prefault(-1).meta({ description: 'Refuse responses whose thisUpdate is older than this; -1 for no limit.' }),
  no_next_update: duration.prefault('1d').meta({ description: 'How long after thisUpdate a response without nextUpdate is usable; 0 refuses it.' }),
  max_response_size: size.prefault('64k').meta({ description: 'Largest response accepted from a responder, from disk or from a file.' }),
  on_revoked: z
    .enum(['omit', 'staple'])
    .default('omit')
    .meta({ description: 'What clients get when the certificate is revoked: no staple, or the response that says so.' }),
});

const backendTls = z.strictObject({
  verify: z.boolean().default(true).meta({ description: "Whether the backend's certificate must be good: issued by `ca`, for `server_name`, and valid now." }),
  ca: path.optional().meta({ description: 'PEM file of the authorities that issue the certificates of backends. Not set, those that Mozilla trusts.' }),
  server_name: hostNameOnly.optional().meta({
    description: "The name that the backend is asked for (SNI) and that its certificate must have. Not set, the host of the backend's address.",
  }),
  certificate: path.optional().meta({ description: 'PEM file: the certificate, then its chain, that is shown to backends which ask for one.' }),
  key: path.optional().meta({ description: 'PEM file: the private key of `certificate`, not encrypted.' }),
  min_version: tlsVersion.default('TLSv1.2').meta({
    description: 'Lowest protocol version. Below TLSv1.2 also small keys and SHA-1 are accepted, as such backends have them.',
  }),
});

export const route = z.strictObject({
  path: routePath.prefault('/').meta({ description: 'Requests whose path is this or lies below it; the longest match wins.' }),
  backends: z.array(backendAddress).min(1).meta({ description: 'Applications behind this route: over HTTP or HTTPS, or with `tls: passthrough` over TCP.' }),
  balance: z.enum(['round_robin', 'least_conn']).default('round_robin').meta({ description: 'How a backend is chosen.' }),
  proxy_protocol: z.enum(['v1', 'v2']).optional().meta({
    description:
      'Begin each connection to a backend with a PROXY protocol header that names the client, as HAProxy does with `send-proxy` and `send-proxy-v2`.',
  }),
  max_connections: number.optional().meta({
    description:
      'Exchanges that one worker has with each of the backends at the same time, WebSockets among them; further requests wait. Not set, there is no limit.',
  }),
  max_queue: queueLength
    .prefault(1000)
    .meta({ description: 'Requests of this route that may wait in one worker; further ones are answered with 503. 0: none waits.' }),
  http_version: httpVersion.prefault('1.1').meta({
    description:
      'What is spoken to the backends. `1.0` is for those that know nothing newer: each connection is for one request, and there are no chunks. `2` is for gRPC.',
  }),
  keep_alive: z.boolean().default(true).meta({
    description:
      'Use connections to the backends again. `false`: each is for one request, so that nothing of an answer can reach another client, whatever the backend does.',
  }),
  max_buffered_body: size.prefault('1m').meta({
    description: 'With `http_version: 1.0`, the largest request body of unknown length; it is read before it is sent. Larger ones are answered with 411.',
  }),
  lenient: z.boolean().default(false).meta({
    description: 'Accept answers whose heads have lines that end with LF, folded lines and odd names. Doubts about where an answer ends are never accepted.',
  }),
  backend_tls: backendTls.prefault({}).meta({ description: 'How TLS is spoken to `https://` backends.' }),
  strip_prefix: z.boolean().default(false).meta({ description: 'Remove the route path before forwarding.' }),
});

const certificate = z.strictObject({
  certificate: path.meta({ description: 'PEM file: the certificate, then its chain.' }),
  key: path.meta({ description: 'PEM file: the private key, not encrypted; may be the same file as `certificate`.' }),
  ocsp_response: path.optional().meta({
    description: 'DER file: an OCSP response given by hand, used while it is the newest. Not set, the file named like `certificate` with `.ocsp` after it.',
  }),
});

const virtualHost = z.strictObject({
  server_name: serverName.meta({ description: 'Host name; `*.example.org` covers one label.' }),
  aliases: z.array(serverName).default([]).meta({ description: 'Further names of the same virtual host.' }),
  default: z.boolean().default(false).meta({ description: 'Serve this virtual host when no name matches; without a default, unknown names are refused.' }),
  certificates: z.array(certificate).default([]).meta({ description: 'One pair per key type; without any, `certificates_dir` is searched by name.' }),
  tls: orWord('passthrough', overrides(tls)).meta({
    description:
      'TLS policy of this virtual host; keys left out take the values of the top-level `tls`. `passthrough`: connections are carried to the backends unopened, and the application behind does its own TLS.',
  }),
  ocsp: overrides(ocsp).meta({ description: 'OCSP settings of this virtual host; keys left out take the values of the top-level `ocsp`.' }),
  engine: z.enum(['native', 'http-proxy']).default('native').meta({ description: 'Forwarding engine.' }),
  backends: z
    .array(backendAddress)
    .min(1)
    .optional()
    .meta({ description: 'Applications behind everything that `routes` does not name: short for a route on `/`. Needed unless there are `routes`.' }),
  routes: z.array(route).default([]).meta({ description: 'Backends by path.' }),
});

const listen = z.strictObject({
  address: listenAddress.meta({ description: 'Where to listen; `fd:NAME` is a socket passed by systemd (FileDescriptorName=).' }),
  protocol: z.enum(['https', 'http']).default('https').meta({ description: '`https` terminates TLS; `http` redirects to https and answers ACME challenges.' }),
  proxy_protocol: z.boolean().default(false).meta({ description: 'Expect a PROXY protocol header (v1 or v2) from `trusted_proxies`.' }),
});

const timeouts = z.strictObject({
  handshake: deadline.prefault('10s').meta({ description: 'A client must finish the TLS handshake within this time.' }),
  request_header: deadline.prefault('20s').meta({ description: 'A client must finish sending a request head within this time.' }),
  request_body: deadline.prefault('1m').meta({ description: 'Longest pause between two pieces of a request body.' }),
  keep_alive: deadline.prefault('1m').meta({ description: 'How long an idle client connection is kept.' }),
  queue: deadline.prefault('30s').meta({ description: 'How long a request may wait for a backend that has `max_connections`; then it is answered with 503.' }),
  connect: deadline.prefault('5s').meta({ description: 'A backend must accept the connection within this time.' }),
  response_header: deadline.prefault('1m').meta({ description: 'A backend must begin its answer within this time.' }),
  response_body: deadline.prefault('1m').meta({ description: 'Longest pause between two pieces of a response body, on either side.' }),
  tunnel: deadline.prefault('1h').meta({ description: 'How long a WebSocket without traffic is kept.' }),
});

const limits = z.strictObject({
  connections: numberOrAuto.prefault('auto').meta({
    description:
      'Client connections open at once, in all workers together; the last of them takes the place of the one that has been idle for longest, and while none is idle, more of them wait in the queue of the kernel. `auto` is what file descriptors and half of the memory allow.',
  }),
  handshakes: number.prefault(4000).meta({
    description:
      'Connections that have not finished their handshake, in all workers together; beyond that the oldest of them is closed. At most half of `connections`.',
  }),
  connections_per_address: number.optional().meta({
    description:
      'Connections of one client (IPv4 address or IPv6 /64) to one worker; more of them are closed. `trusted_proxies` are not counted. Not set, there is no limit.',
  }),
  request_body_rate: byteRate.prefault('500').meta({
    description:
      'Bytes per second that a client must send of a request body on average; behind that by `timeouts.request_body`, it is answered with 408. 0: only its pauses count.',
  }),
});

const log = z.strictObject({
  level: z.enum(['error', 'warn', 'info', 'debug']).default('info').meta({ description: 'Least severe level that is logged.' }),
  format: z.enum(['text', 'json']).default('text').meta({ description: 'One line of text or one JSON object per event.' }),
  access: z.boolean().default(false).meta({ description: 'Log every request.' }),
});

const http2 = z.strictObject({
  websocket: z
    .boolean()
    .default(false)
    .meta({ description: 'Offer WebSockets over HTTP/2, too (RFC 8441); backends see an HTTP/1.1 upgrade. Without it, browsers open a connection for each.' }),
});

export const schema = z.strictObject({
  listen: z.array(listen).min(1).meta({ description: 'Addresses to serve on.' }),
  workers: workerCount.prefault('auto').meta({ description: 'Worker processes: `auto` is one per core, 0 serves in the supervisor itself.' }),
  state_dir: path
    .prefault('/var/lib/staplegate')
    .meta({ description: 'Where OCSP responses and the secret of session tickets are kept, so that they survive a restart.' }),
  certificates_dir: path.optional().meta({
    description: 'Folder searched for pairs (`fullchain.pem` with `privkey.pem`, `NAME.pem` with `NAME.key`), matched to virtual hosts by their SAN.',
  }),
  acme_challenge_dir: path
    .optional()
    .meta({ description: "Folder whose files answer `/.well-known/acme-challenge/` on http listeners; unset, the virtual host's backend answers." }),
  trusted_proxies: z.array(cidr).default([]).meta({ description: 'Peers whose X-Forwarded-* fields and PROXY headers are believed.' }),
  shutdown_grace: wait.prefault('30s').meta({ description: 'How long open requests may take to finish at shutdown or when a worker is replaced.' }),
  tunnel_grace: wait.prefault('1h').meta({
    description:
      'How long WebSockets and connections of `tls: passthrough` may go on in a worker that has been replaced. At shutdown they have `shutdown_grace`, as everything else.',
  }),
  log: log.prefault({}).meta({ description: 'Logging, to standard error.' }),
  tls: tls
    .extend({
      ticket_rotation: rotation.prefault('12h').meta({ description: 'How long session tickets are made with one secret; then all older ones are void.' }),
    })
    .prefault({})
    .meta({ description: 'TLS policy of every virtual host that does not say otherwise.' }),
  ocsp: ocsp
    .extend({
      startup_wait: wait.prefault('10s').meta({ description: 'How long start-up waits for the staple of a must-staple certificate.' }),
      keep: duration.prefault('7d').meta({ description: 'How long cached responses of certificates no longer configured are kept.' }),
    })
    .prefault({})
    .meta({ description: 'OCSP settings of every virtual host that does not say otherwise.' }),
  timeouts: timeouts.prefault({}).meta({ description: 'How long clients and backends may take, and how long connections stay open.' }),
  http2: http2.prefault({}).meta({ description: 'HTTP/2 for clients; `tls.alpn` says whether they get it.' }),
  limits: limits.prefault({}).meta({ description: 'How many clients are served at once.' }),
  virtual_hosts: z.array(virtualHost).min(1).meta({ description: 'The sites that are served.' }),
});

type Camel<S extends string> = S extends `${infer Head}_${infer Tail}` ? `${Head}${Capitalize<Camel<Tail>>}` : S;
type Camelized<T> = T extends readonly (infer Item)[] ? Camelized<Item>[] : T extends object ? { [K in keyof T as Camel<K & string>]: Camelized<T[K]> } : T;

export type Parsed = Camelized<z.output<typeof schema>>;

const camel = (key: string): string => key.replaceAll(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());

/** The OCSP settings of a configuration that says nothing about them. */
export const ocspDefaults = Object.fromEntries(Object.entries(ocsp.parse({})).map(([key, value]) => [camel(key), value])) as OcspPolicy;

export type Listen = Parsed['listen'][number];
export type TlsPolicy = Camelized<z.output<typeof tls>>;
export type ClientAuth = TlsPolicy['clientAuth'];
export type ClientCertificateValue = z.output<typeof clientCertificateValue>;
/** What may be told about one client certificate: texts that are safe in a field. */
export type ClientCertificateValues = Partial<Record<ClientCertificateValue, string>>;
export type OcspPolicy = Camelized<z.output<typeof ocsp>>;
export type Timeouts = Parsed['timeouts'];
export type Limits = Parsed['limits'];
export type Route = Parsed['virtualHosts'][number]['routes'][number];
export type TrustedProxy = Parsed['trustedProxies'][number];

/**
 * A virtual host with every default filled in: `tls` and `ocsp` merged with the top level, `backends` turned into a route.
 * With `passthrough` there is one route, on `/`, and neither of the policies has a meaning.
 */
export type VirtualHost = Omit<Parsed['virtualHosts'][number], 'tls' | 'ocsp' | 'backends'> & { passthrough: boolean; tls: TlsPolicy; ocsp: OcspPolicy };

/** The configuration in force: durations in milliseconds, sizes in bytes, absolute paths. Plain data: it can be sent to a worker. */
export type Config = Omit<Parsed, 'virtualHosts'> & { file: string; virtualHosts: VirtualHost[] };
