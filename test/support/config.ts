import { parseConfig } from '../../src/config/load.ts';
import type { Config } from '../../src/config/schema.ts';

export interface Keys {
  [key: string]: unknown;
}

/** A configuration of one default virtual host, a.test, unless `top` brings its own; `host` adds keys to it. */
export function configOf(host: Keys, top: Keys = {}): Config {
  const virtualHost = { server_name: 'a.test', default: true, certificates: [{ certificate: 'a.pem', key: 'a.key' }], ...host };
  return parseConfig(JSON.stringify({ listen: [{ address: '127.0.0.1:443' }], virtual_hosts: [virtualHost], ...top }), '/test/config.yaml');
}
