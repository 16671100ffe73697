import { z } from 'zod';
import { camel, type Camelized } from './camel-case.ts';
import { ageLimit, deadline, depth, duration, size } from './quantities.ts';
import { cipherList, groupName, path, proxyUrl, responder } from './values.ts';

/** The keys of `tls` and `ocsp`: what the top level says for all virtual hosts, and each of them may say differently. */

export const tlsVersion = z.enum(['TLSv1', 'TLSv1.1', 'TLSv1.2', 'TLSv1.3']);

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

export const tls = z.strictObject({
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

export const ocsp = z.strictObject({
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

/** The OCSP settings of a configuration that says nothing about them. */
export const ocspDefaults = Object.fromEntries(Object.entries(ocsp.parse({})).map(([key, value]) => [camel(key), value])) as OcspPolicy;

export type TlsPolicy = Camelized<z.output<typeof tls>>;
export type ClientAuth = TlsPolicy['clientAuth'];
export type ClientCertificateValue = z.output<typeof clientCertificateValue>;
/** What may be told about one client certificate: texts that are safe in a field. */
export type ClientCertificateValues = Partial<Record<ClientCertificateValue, string>>;
export type OcspPolicy = Camelized<z.output<typeof ocsp>>;
