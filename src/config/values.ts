import { isIP } from 'node:net';
import { domainToASCII } from 'node:url';
import { notation } from './notation.ts';

/** Where a listener is bound. `fdName` is a socket handed over by the service manager (LISTEN_FDNAMES). */
export type ListenAddress = { name: string } & ({ host: string; port: number } | { socketPath: string } | { fdName: string });

/** Where a backend is reached: over plain HTTP, over TLS, or with whatever the client speaks (`tcp://`). */
export type BackendAddress = { name: string } & ({ host: string; port: number; tls?: true } | { socketPath: string });

const matching =
  (pattern: RegExp) =>
  (text: string): string | undefined =>
    pattern.test(text) ? text : undefined;

/** No control characters: a file name with a line break is a pasted file. */
export const path = notation(
  { name: 'path', expected: 'the name of a file or folder', pattern: '^[^\\x00-\\x1f\\x7f]+$', path: true },
  matching(/^[^\x00-\x1f\x7f]{1,4096}$/),
);

/** A host name as certificates and ClientHellos spell it: lower case, A-labels (RFC 5890), no trailing dot. */
function hostName(text: string): string | undefined {
  const ascii = domainToASCII(text.replace(/\.$/, ''));
  if (ascii === '' || ascii.length > 253 || isIP(ascii) !== 0) return undefined;
  return /^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*$/.test(ascii) ? ascii : undefined;
}

/** One leading `*.` covers exactly one label (RFC 9525, section 6.3). */
export const serverName = notation(
  { name: 'host_name', expected: 'a host name such as shop.example.org or *.example.org', pattern: '^(\\*\\.)?[^*\\s:/]+$' },
  (text) => {
    const wildcard = text.startsWith('*.');
    const name = hostName(wildcard ? text.slice(2) : text);
    return wildcard && name !== undefined ? `*.${name}` : name;
  },
);

/** The name of one host. */
export const hostNameOnly = notation({ name: 'single_host_name', expected: 'a host name such as app.example.org', pattern: '^[^*\\s:/]+$' }, hostName);

/** IPv6 in its one canonical spelling (RFC 5952), so that equal addresses compare equal. */
function address(text: string): string | undefined {
  const bracketed = /^\[([0-9a-fA-F:.]+)\]$/.exec(text)?.[1];
  if (bracketed !== undefined) return isIP(bracketed) === 6 ? new URL(`http://${text}`).hostname.slice(1, -1) : undefined;
  return isIP(text) === 4 ? text : hostName(text);
}

function hostAndPort(text: string): { host: string; port: number } | undefined {
  const [, before = '', digits = ''] = /^(.+):(\d{1,5})$/.exec(text) ?? [];
  const host = address(before);
  const port = Number(digits);
  return host !== undefined && port <= 65_535 ? { host, port } : undefined;
}

/** unix(7): sun_path holds 108 bytes with the final NUL; longer names would be cut by the kernel interface. */
function socketPath(text: string): { socketPath: string } | undefined {
  return /^unix:\/[^\x00-\x1f\x7f]+$/.test(text) && Buffer.byteLength(text) <= 'unix:'.length + 107 ? { socketPath: text.slice('unix:'.length) } : undefined;
}

/** Port 0 lets the kernel choose. */
export const listenAddress = notation(
  {
    name: 'listen_address',
    expected: 'an address such as 0.0.0.0:443, "[::]:443", unix:/run/x.sock or fd:NAME',
    pattern: '^(\\[[0-9a-fA-F:.]+\\]:[0-9]{1,5}|unix:/.+|fd:[A-Za-z0-9_.-]+|[^:/@\\[\\]\\s]+:[0-9]{1,5})$',
  },
  (text): ListenAddress | undefined => {
    const fdName = /^fd:([\w.-]+)$/.exec(text)?.[1];
    const where = fdName === undefined ? (socketPath(text) ?? hostAndPort(text)) : { fdName };
    return where && { name: text, ...where };
  },
);

const defaultPorts: Record<string, string> = { http: ':80', https: ':443' };

export const backendAddress = notation(
  {
    name: 'backend_address',
    expected: 'http://HOST[:PORT] or https://HOST[:PORT] without a path, tcp://HOST:PORT, or unix:/PATH',
    pattern: '^(https?://(\\[[0-9a-fA-F:.]+\\]|[^:/?#@\\[\\]\\s]+)(:[0-9]{1,5})?/?|tcp://(\\[[0-9a-fA-F:.]+\\]|[^:/?#@\\[\\]\\s]+):[0-9]{1,5}|unix:/.+)$',
  },
  (text): BackendAddress | undefined => {
    const path = socketPath(text);
    if (path) return { name: text, ...path };
    const [, scheme = '', authority = ''] = /^(https?|tcp(?!.*\/$)):\/\/([^/?#@\s]+)\/?$/.exec(text) ?? [];
    const where = hostAndPort(/:\d+$/.test(authority) ? authority : authority + (defaultPorts[scheme] ?? ''));
    return where && where.port !== 0 ? { name: text, ...where, ...(scheme === 'https' && { tls: true as const }) } : undefined;
  },
);

/** YAML reads 1.0 as the number 1, and 2.0 as 2. */
export const httpVersion = notation({ name: 'http_version', expected: '1.0, 1.1 or 2', pattern: '^(1(\\.[01])?|2(\\.0)?)$', numeric: 'decimal' }, (text) => {
  const versions = { '1': '1.0', '1.0': '1.0', '1.1': '1.1', '2': '2', '2.0': '2' } as const;
  return Object.hasOwn(versions, text) ? versions[text as keyof typeof versions] : undefined;
});

/** The pathname of requests (RFC 3986, section 3.3), of which this is the beginning. */
export const routePath = notation(
  { name: 'route_path', expected: 'a path such as / or /api/', pattern: '^/[^?#\\s]*$' },
  matching(/^\/[^?#\s\x00-\x1f\x7f]*$/),
);

export const responder = notation(
  { name: 'responder', expected: 'a URL such as http://ocsp.example.org/, or none', pattern: '^(none|https?://[^\\s#]+)$' },
  (text) => {
    if (text === 'none') return text;
    const url = /^https?:\/\/[^\s#\\]+$/i.test(text) ? URL.parse(text) : null;
    return url !== null && url.username === '' && url.password === '' ? text : undefined;
  },
);

export const proxyUrl = notation(
  { name: 'proxy_url', expected: 'http://HOST:PORT, http://USER:PASSWORD@HOST:PORT, or none', pattern: '^(none|http://[^\\s#?]+)$' },
  (text) => {
    if (text === 'none') return text;
    const url = /^http:\/\/[^\s#?\\]+$/i.test(text) ? URL.parse(text) : null;
    return url !== null && url.pathname === '/' ? text : undefined;
  },
);

/** OpenSSL's cipher list: names and its few operators (openssl-ciphers(1)). */
export const cipherList = notation(
  { name: 'cipher_list', expected: 'an OpenSSL cipher list such as ECDHE+AESGCM:!aNULL', pattern: '^[A-Za-z0-9_:+!@=.,-]+$' },
  matching(/^[A-Za-z0-9_:+!@=.,-]+$/),
);

/** A key exchange group by OpenSSL's name; whether it exists is the library's to say. */
export const groupName = notation(
  { name: 'group', expected: 'a group such as X25519MLKEM768, X25519 or P-256', pattern: '^[A-Za-z0-9-]{1,40}$' },
  matching(/^[A-Za-z0-9-]{1,40}$/),
);

export const cidr = notation(
  { name: 'network', expected: 'an IP address or a network such as 10.0.0.0/8', pattern: '^[0-9a-fA-F:.]+(/[0-9]{1,3})?$' },
  (text) => {
    const [address = '', prefix, ...rest] = text.split('/');
    const family = isIP(address);
    const bits = family === 6 ? 128 : 32;
    // isIP takes a zone (fe80::1%eth0), which no peer address that is compared carries.
    if (family === 0 || address.includes('%') || rest.length > 0 || (prefix !== undefined && (!/^\d{1,3}$/.test(prefix) || Number(prefix) > bits)))
      return undefined;
    return { address, prefix: prefix === undefined ? bits : Number(prefix), family: family === 6 ? ('ipv6' as const) : ('ipv4' as const) };
  },
);
