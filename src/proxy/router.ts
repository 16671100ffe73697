import type { Config, Route, VirtualHost } from '../config/schema.ts';
import { ServerNames } from '../config/server-names.ts';
import { ProxyError } from './proxy-error.ts';
import { UpstreamPool, type Upstreams } from './upstream.ts';

/** Where one part of a virtual host's paths goes. */
export interface RoutedPath extends Route {
  pool: UpstreamPool;
}

/** A virtual host as requests see it. */
export interface Site {
  virtualHost: VirtualHost;
  /** Longest path first. */
  routes: RoutedPath[];
}

/** From host names to virtual hosts, of one configuration. */
export class Router {
  readonly #names: ServerNames<Site>;

  /** `upstreams` keeps what is known of backends that an earlier configuration also named. */
  constructor(config: Config, upstreams: Upstreams) {
    // What is carried unopened is out of reach for requests, whatever their Host.
    const routesOf = ({ passthrough, routes }: VirtualHost) => (passthrough ? [] : routes);
    const upstream = upstreams.replace(config.virtualHosts.flatMap((virtualHost) => routesOf(virtualHost).flatMap(({ backends }) => backends)));
    this.#names = new ServerNames(
      config.virtualHosts.map((virtualHost) => ({
        names: [virtualHost.serverName, ...virtualHost.aliases],
        isDefault: virtualHost.default,
        value: {
          virtualHost,
          routes: routesOf(virtualHost)
            .map((route) => ({ ...route, pool: new UpstreamPool(route.backends.map(upstream), route) }))
            .sort((a, b) => b.path.length - a.path.length),
        },
      })),
    );
  }

  /** The site that names `host`; never the default. */
  named(host: string): Site | undefined {
    return this.#names.named(host);
  }

  /** The site for `host`, else the default one. */
  find(host: string | undefined): Site | undefined {
    return this.#names.find(host);
  }

  /**
   * The site of a request on a TLS connection: the one the handshake chose, which `host` must belong to (RFC 9110, 7.4).
   * Otherwise a client that was let into one virtual host could speak to another one's backends.
   * @throws ProxyError misdirected
   */
  chosen(serverName: string | undefined, host: string | undefined): Site {
    const site = this.find(host ?? serverName);
    if (!site || site.virtualHost.serverName !== serverName || site.virtualHost.passthrough) {
      throw new ProxyError('misdirected', `Host ${host ?? '(none)'} does not belong to the virtual host of the handshake`, { handshake: serverName });
    }
    return site;
  }
}

/** `//`, `\`, encoded slashes, dot segments (`..;x` is one for Tomcat) and NUL, which ends a path in C: applications disagree about what they name. */
const AMBIGUOUS = /\/\/|\\|%2f|%5c|%00|\/(?:\.|%2e){1,2}(?:[/;]|$)/i;

function covers(prefix: string, path: string): boolean {
  return path.startsWith(prefix) && (prefix.endsWith('/') || path.length === prefix.length || path[prefix.length] === '/');
}

/**
 * The route of a path: the longest whose path is the request's or lies above it on a segment border.
 * @throws ProxyError no_route; ambiguous_path where the path decides and could be read in two ways.
 */
export function chooseRoute(site: Site, path: string): RoutedPath {
  const [only] = site.routes;
  if (site.routes.length === 1 && only?.path === '/') return only;
  if (AMBIGUOUS.test(path)) throw new ProxyError('ambiguous_path', 'the path could be read in two ways, and this virtual host routes by path');
  const route = site.routes.find((candidate) => (path === '*' ? candidate.path === '/' : covers(candidate.path, path)));
  if (!route) throw new ProxyError('no_route', 'no route covers the path', { setting: 'virtual_hosts[].routes' });
  return route;
}

/** The target as the backend gets it. */
export function forwardedTarget(route: RoutedPath, target: string): string {
  if (!route.stripPrefix || target === '*') return target;
  const rest = target.slice(route.path.length);
  return rest.startsWith('/') ? rest : `/${rest}`;
}
