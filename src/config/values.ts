import { isIP } from 'node:net';
import { domainToASCII } from 'node:url';
import { z } from 'zod';

declare module 'zod' {
  interface GlobalMeta {
    spelling?: Spelling;
  }
}

/** Where a listener is bound. `fdName` is a socket handed over by the service manager (LISTEN_FDNAMES). */
export type ListenAddress = { name: string } & ({ host: string; port: number } | { socketPath: string } | { fdName: string });

/** Where a backend is reached: over plain HTTP, over TLS, or with whatever the client speaks (`tcp://`). */
export type BackendAddress = { name: string } & ({ host: string; port: number; tls?: true } | { socketPath: string });

/** How a value is written. */
export interface Spelling {
  /** Name of the notation in docs/configuration.md and docs/config.schema.json. */
  name: string;
  /** Completes `must be …`. */
  expected: string;
  /** For editors: lets through a little more than the parser, never less. */
  pattern: string;
  /** YAML may read the text as a whole number, or as one with a point in it. */
  numeric?: boolean | 'decimal';
  /** A file name, which the loader resolves against the configuration file's folder. */
  path?: boolean;
}

/** A text value with its own notation: `parse` returns undefined when the text is not in it. */
function notation<T extends {}>(spelling: Spelling, parse: (text: string) => T | undefined) {
  return z
    .union([z.string(), z.number()], { error: `must be ${spelling.expected}` })
    .transform((value, context): T => {
      const parsed = typeof value === 'number' && !spelling.numeric ? undefined : parse(String(value));
      if (parsed !== undefined) return parsed;
      context.addIssue({ code: 'custom', message: `must be ${spelling.expected}`, input: value });
      return z.NEVER;
    })
    .meta({ spelling });
}

function scaled(units: Record<string, number>, { min, max }: { min: number; max: number }) {
  return (text: string): number | undefined => {
    const [, digits = '', unit = ''] = /^(\d{1,12})([a-z]*)$/.exec(text) ?? [];
    const factor = unit === '' && Number(digits) === 0 ? 0 : units[unit];
    if (digits === '' || factor === undefined) return undefined;
    const value = Number(digits) * factor;
    return value >= min && value <= max ? value : undefined;
  };
}

const timeUnits = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };
const timePattern = '^(0|[0-9]{1,12}(ms|s|m|h|d))$';

/** setTimeout fires at once for delays that do not fit 31 bits. */
const longestTimer = 24 * timeUnits.d;
const longestDuration = 3650 * timeUnits.d;

/** `250ms`, `10s`, `5m`, `12h`, `7d` or `0` → milliseconds, compared with ages. */
export const duration = notation(
  { name: 'duration', expected: 'a duration such as 10s, 5m, 12h or 7d, at most 3650d', pattern: timePattern, numeric: true },
  scaled(timeUnits, { min: 0, max: longestDuration }),
);

/** A duration that a timer can wait; 0 does not wait at all. */
export const wait = notation(
  { name: 'wait', expected: 'a duration such as 500ms, 10s or 5m, at most 24d, or 0', pattern: timePattern, numeric: true },
  scaled(timeUnits, { min: 0, max: longestTimer }),
);

/** A deadline: a duration that a timer can wait, and never 0, because nothing may take for ever and nothing can finish in no time. */
export const deadline = notation(
  { name: 'deadline', expected: 'a duration such as 500ms, 10s or 5m, more than 0 and at most 24d', pattern: '^[0-9]{1,12}(ms|s|m|h|d)$' },
  scaled(timeUnits, { min: 1, max: longestTimer }),
);

/** How long one secret of session tickets is used. No client keeps a ticket longer than seven days (RFC 8446, 4.6.1). */
export const rotation = notation(
  { name: 'rotation', expected: 'a duration such as 1h, 12h or 1d, from 1s to 7d', pattern: '^[0-9]{1,12}(ms|s|m|h|d)$' },
  scaled(timeUnits, { min: timeUnits.s, max: 7 * timeUnits.d }),
);

const age = scaled(timeUnits, { min: 0, max: longestDuration });

/** Apache's notation of SSLStaplingResponseMaxAge: a duration, or -1 for no limit. */
export const ageLimit = notation(
  { name: 'age_limit', expected: 'a duration such as 12h or 7d, or -1 for no limit', pattern: '^(-1|0|[0-9]{1,12}(ms|s|m|h|d))$', numeric: true },
  (text) => (text === '-1' ? -1 : age(text)),
);

/** `512`, `64k`, `1m` → bytes. */
export const size = notation(
  { name: 'size', expected: 'a size such as 512, 64k or 1m, more than 0 and at most 1g', pattern: '^[0-9]{1,12}[kmg]?$', numeric: true },
  scaled({ '': 1, k: 1024, m: 1024 ** 2, g: 1024 ** 3 }, { min: 1, max: 1024 ** 3 }),
);

/** Bytes per second; 0 for any. */
export const byteRate = notation(
  { name: 'byte_rate', expected: 'a number of bytes per second such as 500 or 10k, or 0', pattern: '^[0-9]{1,12}[kmg]?$', numeric: true },
  scaled({ '': 1, k: 1024, m: 1024 ** 2, g: 1024 ** 3 }, { min: 0, max: 1024 ** 3 }),
);

export const workerCount = notation(
  { name: 'worker_count', expected: 'auto, or a whole number from 0 to 256', pattern: '^(auto|[0-9]{1,3})$', numeric: true },
  (text): 'auto' | number | undefined => {
    if (text === 'auto') return text;
    return /^\d{1,3}$/.test(text) && Number(text) <= 256 ? Number(text) : undefined;
  },
);

const wholeNumber = (text: string): number | undefined => (/^\d{1,8}$/.test(text) && Number(text) > 0 ? Number(text) : undefined);

/** How many of something there may be. */
export const number = notation({ name: 'number', expected: 'a whole number from 1 to 99999999', pattern: '^[0-9]{1,8}$', numeric: true }, wholeNumber);

export const numberOrAuto = notation(
  { name: 'number_or_auto', expected: 'auto, or a whole number from 1 to 99999999', pattern: '^(auto|[0-9]{1,8})$', numeric: true },
  (text): 'auto' | number | undefined => (text === 'auto' ? text : wholeNumber(text)),
);

/** No control characters: a file name with a line break is a pasted file. */
export const path = notation({ name: 'path', expected: 'the name of a file or folder', pattern: '^[^\\x00-\\x1f\\x7f]+$', path: true }, (text) =>
  /^[^\x00-\x1f\x7f]{1,4096}$/.test(text) ? text : undefined,
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
export const routePath = notation({ name: 'route_path', expected: 'a path such as / or /api/', pattern: '^/[^?#\\s]*$' }, (text) =>
  /^\/[^?#\s\x00-\x1f\x7f]*$/.test(text) ? text : undefined,
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
  (text) => (/^[A-Za-z0-9_:+!@=.,-]+$/.test(text) ? text : undefined),
);

/** A number of authorities in a chain. */
export const depth = notation({ name: 'depth', expected: 'a whole number from 0 to 100', pattern: '^[0-9]{1,3}$', numeric: true }, (text) =>
  /^\d{1,3}$/.test(text) && Number(text) <= 100 ? Number(text) : undefined,
);

export const queueLength = notation({ name: 'queue_length', expected: 'a whole number from 0 to 99999', pattern: '^[0-9]{1,5}$', numeric: true }, (text) =>
  /^\d{1,5}$/.test(text) ? Number(text) : undefined,
);

/** A key exchange group by OpenSSL's name; whether it exists is the library's to say. */
export const groupName = notation({ name: 'group', expected: 'a group such as X25519MLKEM768, X25519 or P-256', pattern: '^[A-Za-z0-9-]{1,40}$' }, (text) =>
  /^[A-Za-z0-9-]{1,40}$/.test(text) ? text : undefined,
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
