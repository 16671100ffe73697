import type { Finding, Path } from './findings.ts';
import { list, map, type Raw } from './raw.ts';

/** Settings of a virtual host's routes that do not go together, or with their backends. */
export function routes(host: Raw, path: Path): Finding[] {
  return list(host['routes']).flatMap((route, position) => backendTls(map(route), [...path, 'routes', position]));
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
