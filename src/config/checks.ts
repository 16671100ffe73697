import { pathText } from './findings.ts';
import type { Finding, Path } from './findings.ts';
import { carried, isPassthrough } from './passthrough.ts';
import { list, map, type Raw } from './raw.ts';
import { routes } from './routes.ts';
import { listenAddress, serverName } from './values.ts';

/**
 * What no single key shows: names, addresses and paths given twice, and keys that need each other. Works on the values
 * as they stand in the file and passes over those that the schema refuses, so that one run reports everything.
 */
export function check(raw: unknown): Finding[] {
  const top = map(raw);
  const hosts = list(top['virtual_hosts']).map(map);
  return [
    ...repeated(list(top['listen']).map(listenEntry)),
    ...list(top['listen']).flatMap((listener, index) => distrusted(map(listener), index, top)),
    ...repeated(hosts.flatMap(nameEntries)),
    ...repeated(hosts.flatMap(defaultEntries)),
    ...hosts.flatMap((host, index) => repeated(pathEntries(host, index))),
    ...hosts.flatMap((host, index) => needs(host, ['virtual_hosts', index], top)),
    ...hosts.flatMap((host, index) => policy(host, ['virtual_hosts', index], top)),
    ...[top, ...hosts].flatMap((owner, index) => forwardedNames(owner, index === 0 ? [] : ['virtual_hosts', index - 1])),
    ...hosts.flatMap((host, index) => carried(host, ['virtual_hosts', index], top)),
    ...hosts.flatMap((host, index) => routes(host, ['virtual_hosts', index])),
  ];
}

/** Something that may be given only once: `key` compares, `shown` is for the message. */
interface Entry {
  key: unknown;
  shown: string;
  path: Path;
}

function repeated(entries: readonly (Entry | undefined)[]): Finding[] {
  const first = new Map<unknown, Path>();
  return entries.flatMap((entry) => {
    if (entry?.key === undefined) return [];
    const earlier = first.get(entry.key);
    if (earlier === undefined) first.set(entry.key, entry.path);
    return earlier === undefined ? [] : [{ path: entry.path, message: `\`${entry.shown}\` is already given at ${pathText(earlier)}` }];
  });
}

function listenEntry(value: unknown, index: number): Entry | undefined {
  const address = listenAddress.safeParse(map(value)['address']).data;
  // Port 0 is a new port every time.
  if (address === undefined || ('port' in address && address.port === 0)) return undefined;
  const key = 'port' in address ? `${address.host} ${address.port}` : address.name;
  return { key, shown: address.name, path: ['listen', index, 'address'] };
}

function nameEntries(host: Raw, index: number): Entry[] {
  const entry = (value: unknown, ...steps: Path): Entry => {
    const name = serverName.safeParse(value).data;
    return { key: name, shown: name ?? '', path: ['virtual_hosts', index, ...steps] };
  };
  return [entry(host['server_name'], 'server_name'), ...list(host['aliases']).map((alias, position) => entry(alias, 'aliases', position))];
}

function defaultEntries(host: Raw, index: number): Entry[] {
  return host['default'] === true ? [{ key: true, shown: 'default: true', path: ['virtual_hosts', index, 'default'] }] : [];
}

function pathEntries(host: Raw, index: number): Entry[] {
  const base = ['virtual_hosts', index];
  const whole = host['backends'] === undefined ? [] : [{ key: '/', shown: '/', path: [...base, 'backends'] }];
  const routes = list(host['routes']).map((route, position) => {
    const { path = '/' } = map(route);
    return { key: typeof path === 'string' ? path : undefined, shown: String(path), path: [...base, 'routes', position, 'path'] };
  });
  return [...whole, ...routes];
}

function needs(host: Raw, path: Path, top: Raw): Finding[] {
  if (Object.keys(host).length === 0) return [];
  const findings: Finding[] = [];
  const lacks = (key: string) => host[key] === undefined || (Array.isArray(host[key]) && host[key].length === 0);
  if (host['backends'] === undefined && lacks('routes')) findings.push({ path: [...path, 'backends'], message: 'is required, because there are no routes' });
  const servesTls = list(top['listen']).some((listener) => (map(listener)['protocol'] ?? 'https') === 'https');
  if (servesTls && !isPassthrough(host) && lacks('certificates') && top['certificates_dir'] === undefined)
    findings.push({ path: [...path, 'certificates'], message: 'is required, because a listener speaks https and certificates_dir is not set' });
  return findings;
}

/** A PROXY header is believed from trusted proxies only: without any, such a listener would refuse everybody. */
function distrusted({ address, proxy_protocol: expected }: Raw, index: number, top: Raw): Finding[] {
  const parsed = listenAddress.safeParse(address).data;
  if (expected !== true || list(top['trusted_proxies']).length > 0 || (parsed && 'socketPath' in parsed)) return [];
  return [{ path: ['listen', index, 'proxy_protocol'], message: 'needs trusted_proxies: the networks of the proxies that send the header' }];
}

const versions = ['TLSv1', 'TLSv1.1', 'TLSv1.2', 'TLSv1.3'];

function isVersion(value: unknown): value is string {
  return typeof value === 'string' && versions.includes(value);
}

/** Mozilla's profiles start here ("Security/Server Side TLS", version 5.8). */
const lowestOfProfile: Record<string, string> = { modern: 'TLSv1.3', intermediate: 'TLSv1.2', old: 'TLSv1' };

/** The TLS policy in force: each key as the virtual host has it, else the top level. */
function policy(host: Raw, path: Path, top: Raw): Finding[] {
  const inForce = (...keys: string[]): { value: unknown; path: Path } => {
    const under = (owner: Raw) => keys.reduce<unknown>((value, key) => map(value)[key], owner['tls']);
    const own = under(host);
    return own === undefined ? { value: under(top), path: ['tls', ...keys] } : { value: own, path: [...path, 'tls', ...keys] };
  };
  const findings: Finding[] = [];

  const mode = inForce('client_auth', 'mode');
  if ((mode.value === 'request' || mode.value === 'require') && inForce('client_auth', 'ca').value === undefined)
    findings.push({ path: mode.path, message: `\`${mode.value}\` needs client_auth.ca, the authorities that client certificates must chain to` });

  const { value: profile = 'intermediate' } = inForce('profile');
  const min = inForce('min_version');
  const max = inForce('max_version');
  const lowest = min.value ?? (typeof profile === 'string' ? lowestOfProfile[profile] : undefined);
  if (isVersion(lowest) && isVersion(max.value) && versions.indexOf(max.value) < versions.indexOf(lowest)) {
    const origin = min.value === undefined ? 'the lowest version of the profile' : 'min_version';
    const path = min.value !== undefined && min.path.length > max.path.length ? min.path : max.path;
    findings.push({ path, message: `max_version ${max.value} is below ${origin}, ${lowest}` });
  }
  return findings;
}

/** What frames, routes or authenticates a request, or is set from the connection already: no certificate may be told in it. */
const takenNames = new Set(
  (
    'authorization connection content-length content-type cookie expect forwarded host http2-settings keep-alive proxy proxy-authorization ' +
    'proxy-connection te trailer transfer-encoding upgrade x-forwarded-for x-forwarded-host x-forwarded-port x-forwarded-proto'
  ).split(' '),
);

/** CGI makes no difference between `-` and `_`: two such names would be one to the application. */
function forwardedNames(owner: Raw, path: Path): Finding[] {
  const own = [...path, 'tls', 'client_auth', 'forward'];
  const names = Object.keys(map(map(map(owner['tls'])['client_auth'])['forward']));
  const key = (name: string) => name.toLowerCase().replaceAll('_', '-');
  return [
    ...names.flatMap((name): Finding[] => {
      if (!/^[A-Za-z0-9_-]{1,100}$/.test(name)) return [{ path: [...own, name], message: 'is not the name of a field: letters, digits, `-` and `_`' }];
      return takenNames.has(key(name)) ? [{ path: [...own, name], message: 'is a field that has another meaning' }] : [];
    }),
    ...repeated(names.map((name) => ({ key: key(name), shown: name, path: [...own, name] }))),
  ];
}
