import type { Finding, Path } from './findings.ts';
import { isPassthrough } from './passthrough.ts';
import { list, map, type Raw } from './raw.ts';
import { httpVersion } from './values.ts';

/** Settings of a virtual host's routes that do not go together, or with what the virtual host is. */
export function routes(host: Raw, path: Path): Finding[] {
  const carriers = [
    { isUsed: () => isPassthrough(host), setting: '`tls: passthrough`', why: hidden },
    { isUsed: () => host['engine'] === 'http-proxy', setting: '`engine: http-proxy`', why: unknown },
    { isUsed: (route: Raw) => httpVersion.safeParse(route['http_version']).data === '2', setting: '`http_version: 2`', why: framed },
  ];
  return list(host['routes'])
    .map(map)
    .flatMap((route, position) => {
      const at = [...path, 'routes', position];
      const misplaced = carriers.flatMap(({ isUsed, setting, why }) =>
        isUsed(route)
          ? Object.keys(why).flatMap((key) => (isSet(key, route[key]) ? [{ path: [...at, key], message: `cannot be used with ${setting}: ${why[key]}` }] : []))
          : [],
      );
      return [...misplaced, ...backendTls(route, at)];
    });
}

/** What is not seen of a connection that is carried unopened. */
const hidden: Record<string, string> = {
  strip_prefix: 'the path of a request is encrypted',
  http_version: 'nothing of HTTP is seen',
  keep_alive: 'nothing of HTTP is seen',
  max_buffered_body: 'nothing of HTTP is seen',
  lenient: 'nothing of HTTP is seen',
};

/** What http-proxy cannot do. */
const unknown: Record<string, string> = {
  proxy_protocol: 'it shares its connections between clients',
  http_version: 'Node sends HTTP/1.1 only',
  lenient: "Node's lenient parser guesses where an answer ends",
};

/** What has no meaning in HTTP/2. */
const framed: Record<string, string> = {
  proxy_protocol: 'clients share its connections',
  keep_alive: 'clients share its connections',
  max_buffered_body: 'its bodies need no length',
  lenient: 'its heads have no lines',
};

/** A default is as good as nothing. */
function isSet(key: string, value: unknown): boolean {
  return value !== undefined && value !== (key === 'keep_alive') && value !== 1.1 && value !== '1.1';
}

function backendTls(route: Raw, path: Path): Finding[] {
  const { backend_tls: section, backends } = route;
  if (section === undefined) return [];
  const at = [...path, 'backend_tls'];
  if (!list(backends).some((backend) => String(backend).startsWith('https:'))) {
    return [{ path: at, message: 'has no effect: no backend of the route is `https://`' }];
  }
  const { certificate, key } = map(section);
  if ((certificate === undefined) === (key === undefined)) return [];
  const [given, missing] = key === undefined ? ['certificate', 'key'] : ['key', 'certificate'];
  return [{ path: [...at, given], message: `needs \`${missing}\`` }];
}
