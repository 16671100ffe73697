import { BlockList, isIP } from 'node:net';
import { ResponderError } from './responder-error.ts';

/** A proxy that fetches for us: plain HTTP to it, whatever the responder speaks. */
export interface ForwardProxy {
  hostname: string;
  port: number;
  /** For messages: without credentials. */
  name: string;
  /** Value of Proxy-Authorization, when the URL has credentials (RFC 7617). */
  authorization: string | undefined;
}

const loopback = new BlockList();
loopback.addSubnet('127.0.0.0', 8, 'ipv4');
loopback.addAddress('::1', 'ipv6');

/**
 * The proxy on the way to `target`; undefined when there is none. `setting` (ocsp.http_proxy) goes before the variables of the
 * environment, of which the lower-case name goes before the upper-case one; no_proxy holds for both, as with curl. What is on this
 * machine is never asked through a proxy, for which it would be another machine.
 *
 * @throws ResponderError `responder_proxy` when the environment names something that is no http proxy
 */
export function proxyFor(target: URL, setting: string | undefined, environment: NodeJS.ProcessEnv): ForwardProxy | undefined {
  const variable = (name: string): string => environment[name] || environment[name.toUpperCase()] || '';
  if (setting === 'none' || isLocal(hostOf(target)) || isExempt(hostOf(target), variable('no_proxy'))) return undefined;
  const text = setting ?? (variable(target.protocol === 'https:' ? 'https_proxy' : 'http_proxy') || variable('all_proxy'));
  if (text === '') return undefined;
  const url = URL.parse(text.includes('://') ? text : `http://${text}`);
  if (url?.protocol !== 'http:') {
    throw new ResponderError('responder_proxy', target.href, 'cannot be asked: the proxy in the environment is not an http:// URL (ocsp.http_proxy)');
  }
  const credentials = `${decoded(url.username)}:${decoded(url.password)}`;
  return {
    hostname: hostOf(url),
    port: Number(url.port || 80),
    name: `http://${url.host}`,
    authorization: credentials === ':' ? undefined : `Basic ${Buffer.from(credentials).toString('base64')}`,
  };
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // a bare % in a password
  }
}

/** Without the brackets of an IPv6 address and the dot of an absolute name. */
function hostOf(url: URL): string {
  return url.hostname.replace(/^\[|\]$|\.$/g, '');
}

function isLocal(host: string): boolean {
  const family = isIP(host);
  return family === 0 ? host === 'localhost' || host.endsWith('.localhost') : loopback.check(host, family === 6 ? 'ipv6' : 'ipv4');
}

/** curl's rules: `*`, an address, or a name that also stands for the names below it, with or without a leading dot; between commas or spaces. */
function isExempt(host: string, noProxy: string): boolean {
  return noProxy
    .toLowerCase()
    .split(/[\s,]+/)
    .map((entry) => entry.replace(/^\.|^\[|\]$|\.$/g, ''))
    .some((entry) => entry === '*' || (entry !== '' && (entry === host || (isIP(host) === 0 && host.endsWith(`.${entry}`)))));
}
