import { z } from 'zod';
import type { Camelized } from './camel-case.ts';
import { orWord, overrides } from './keys.ts';
import { ocsp, type OcspPolicy, tls, type TlsPolicy, tlsVersion } from './policies.ts';
import { byteRate, deadline, duration, number, numberOrAuto, queueLength, rotation, size, wait, workerCount } from './quantities.ts';
import { backendAddress, cidr, hostNameOnly, httpVersion, listenAddress, path, routePath, serverName } from './values.ts';

/**
 * Every configuration key, once: its type, its default and its one-line documentation; those of `tls` and `ocsp` are in
 * policies.ts. The loader, docs/configuration.md and the JSON Schema for editors are made from them; the annotated sample
 * is checked against them.
 *
 * Defaults are what an administrator would write: `prefault` takes a notation (`10s`) and parses it.
 */

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

export type Parsed = Camelized<z.output<typeof schema>>;

export type Listen = Parsed['listen'][number];
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
