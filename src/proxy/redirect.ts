import type { Config } from '../config/schema.ts';
import { ProxyError } from './proxy-error.ts';
import type { RequestHead } from './request-head.ts';
import type { Router } from './router.ts';

/** The port of the https listeners as clients must write it: 443 if any listener has it, or has no port of its own to tell. */
export function httpsPort(listen: Config['listen']): number {
  const ports = listen.filter(({ protocol }) => protocol === 'https').map(({ address }) => ('port' in address ? address.port : 443));
  return ports.includes(443) ? 443 : (ports[0] ?? 443);
}

/** What a wildcard may cover here; RFC 3986 would allow stranger things in a host. */
const HOST_NAME = /^[a-z0-9._-]+$/;

/**
 * Where an http listener sends a client: the same path on https. The host is a configured name, never just what the
 * client wrote, else the proxy would redirect to anywhere; strangers' names and bare addresses go to the default
 * virtual host under its own name.
 * @throws ProxyError unknown_host
 */
export function redirectLocation(router: Router, head: RequestHead, port: number): string {
  const { host } = head;
  const fallback = router.find(undefined)?.virtualHost;
  const name =
    host !== undefined && HOST_NAME.test(host) && router.named(host)
      ? host
      : fallback && [fallback.serverName, ...fallback.aliases].find((alias) => !alias.startsWith('*.'));
  if (name === undefined) throw new ProxyError('unknown_host', `no virtual host is named ${host ?? '(none)'}`, { setting: 'virtual_hosts[].server_name' });
  return `https://${name}${port === 443 ? '' : `:${port}`}${head.target === '*' ? '/' : head.target}`;
}
