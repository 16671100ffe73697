import { isIP } from 'node:net';
import { domainToASCII } from 'node:url';
import { z } from 'zod';

/** Where a listener is bound. `fdName` is a socket handed over by the service manager (LISTEN_FDNAMES). */
export type ListenAddress = { name: string } & ({ host: string; port: number } | { socketPath: string } | { fdName: string });

/** Where a backend is reached over plain HTTP. */
export type BackendAddress = { name: string } & ({ host: string; port: number } | { socketPath: string });

/** A text value with its own notation: `parse` returns undefined when the text is not in it. */
function notation<T extends {} | null>(expected: string, parse: (text: string) => T | undefined) {
  return z.union([z.string(), z.number()], { error: `must be ${expected}` }).transform((value, context): T => {
    const parsed = parse(String(value));
    if (parsed !== undefined) return parsed;
    context.addIssue({ code: 'custom', message: `must be ${expected}`, input: value });
    return z.NEVER;
  });
}

function scaled(units: Record<string, number>) {
  return (text: string): number | undefined => {
    const [, digits, unit] = /^(\d{1,12})([a-z]*)$/.exec(text) ?? [];
    if (digits === undefined || unit === undefined) return undefined;
    if (unit === '' && Number(digits) === 0) return 0;
    const factor = units[unit];
    return factor === undefined ? undefined : Number(digits) * factor;
  };
}

/** `250ms`, `10s`, `5m`, `12h`, `7d` or `0` → milliseconds. */
export const duration = notation('a duration such as 10s, 5m or 1d', scaled({ ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 }));

/** `512`, `64k`, `1m`, `2g` → bytes. */
export const size = notation('a size such as 64k or 1m', scaled({ '': 1, k: 1024, m: 1024 ** 2, g: 1024 ** 3 }));

function hostAndPort(text: string): { host: string; port: number } | undefined {
  const [, bracketed, plain, digits] = /^(?:\[([0-9a-fA-F:.]+)\]|([^\s:/@[\]]+)):(\d{1,5})$/.exec(text) ?? [];
  const host = bracketed ?? plain;
  const port = Number(digits);
  if (host === undefined || port > 65_535 || (bracketed !== undefined && isIP(bracketed) !== 6)) return undefined;
  return { host, port };
}

function socketPath(text: string): { socketPath: string } | undefined {
  return /^unix:\/[^\0]+$/.test(text) ? { socketPath: text.slice('unix:'.length) } : undefined;
}

export const listenAddress = notation('an address such as 0.0.0.0:443, [::]:443, unix:/run/x.sock or fd:NAME', (text): ListenAddress | undefined => {
  const fdName = /^fd:([\w.-]+)$/.exec(text)?.[1];
  const where = fdName === undefined ? (socketPath(text) ?? hostAndPort(text)) : { fdName };
  return where && { name: text, ...where };
});

export const backendAddress = notation('http://HOST[:PORT] or unix:/PATH', (text): BackendAddress | undefined => {
  const authority = /^http:\/\/([^/?#@\s]+)\/?$/.exec(text)?.[1];
  const where = socketPath(text) ?? (authority === undefined ? undefined : hostAndPort(/:\d+$/.test(authority) ? authority : `${authority}:80`));
  return where && { name: text, ...where };
});

/** A host name as certificates and ClientHellos spell it: lower case, A-labels; `wildcard` also allows one leading `*.`. */
function hostName(text: string, wildcard: boolean): string | undefined {
  const prefix = wildcard && text.startsWith('*.') ? '*.' : '';
  const ascii = domainToASCII(text.slice(prefix.length).replace(/\.$/, ''));
  if (ascii === '' || ascii.length > 253 || isIP(ascii) !== 0) return undefined;
  return /^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*$/.test(ascii) ? prefix + ascii : undefined;
}

export const serverName = notation('a host name such as shop.example.org or *.example.org', (text) => hostName(text, true));

export const cidr = notation('an IP address or a network such as 10.0.0.0/8', (text) => {
  const [address = '', prefix, ...rest] = text.split('/');
  const family = isIP(address);
  const bits = family === 6 ? 128 : 32;
  if (family === 0 || rest.length > 0 || (prefix !== undefined && (!/^\d{1,3}$/.test(prefix) || Number(prefix) > bits))) return undefined;
  return { address, prefix: prefix === undefined ? bits : Number(prefix), family: family === 6 ? ('ipv6' as const) : ('ipv4' as const) };
});
