import type { Finding, Path } from './findings.ts';
import { list, map, type Raw } from './raw.ts';

/** Whether connections to this virtual host, as it stands in the file, are carried to its backends unopened. */
export function isPassthrough(host: Raw): boolean {
  return host['tls'] === 'passthrough';
}

/** What of a virtual host is about HTTP or about our own TLS, and has no meaning where neither is seen. */
const unseen = {
  certificates: 'the application has the certificate',
  ocsp: 'the application staples',
  engine: 'nothing of HTTP is seen',
};

/** Settings that do not go with the way in which connections are carried: `tls: passthrough`, or over HTTP. */
export function carried(host: Raw, path: Path, top: Raw): Finding[] {
  if (!isPassthrough(host))
    return backends(host, path, /^tcp:/, 'must be http://HOST[:PORT], https://HOST[:PORT] or unix:/PATH: tcp: needs `tls: passthrough`');
  const cannot = (why: string, ...at: Path): Finding => ({ path: [...path, ...at], message: `cannot be used with \`tls: passthrough\`: ${why}` });
  const keys = Object.entries(unseen).flatMap(([key, why]) => (isGiven(host[key]) ? [cannot(why, key)] : []));
  const routes = list(host['routes']).flatMap((route, position) => {
    const { path = '/' } = map(route);
    return path === '/' ? [] : [cannot('the path of a request is encrypted', 'routes', position, 'path')];
  });
  const http = backends(host, path, /^https?:/, 'must be tcp://HOST:PORT or unix:/PATH with `tls: passthrough`: HTTP is not what the application gets');
  return [...keys, ...routes, ...http, ...clientAuth(path, top)];
}

function isGiven(value: unknown): boolean {
  return Object.keys(Object(value) as object).length > 0;
}

function backends(host: Raw, path: Path, wrong: RegExp, message: string): Finding[] {
  const under = (owner: unknown, at: Path): Finding[] =>
    list(map(owner)['backends']).flatMap((address, i) => (wrong.test(String(address)) ? [{ path: [...at, 'backends', i], message }] : []));
  return [...under(host, path), ...list(host['routes']).flatMap((route, position) => under(route, [...path, 'routes', position]))];
}

/** Who asks every client for a certificate must not be surprised by a virtual host where nobody looks at it. */
function clientAuth(path: Path, top: Raw): Finding[] {
  const { mode } = map(map(top['tls'])['client_auth']);
  if (mode !== 'request' && mode !== 'require') return [];
  const message = `\`passthrough\` cannot be used with the top-level tls.client_auth, \`${mode}\`, which only the application could obey: set client_auth for each of the other virtual hosts`;
  return [{ path: [...path, 'tls'], message }];
}
