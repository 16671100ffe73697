import { parseConfig } from '../../config/load.ts';
import type { OcspPolicy } from '../../config/schema.ts';

const smallest = {
  listen: [{ address: '127.0.0.1:80', protocol: 'http' }],
  virtual_hosts: [{ server_name: 'localhost', backends: ['http://127.0.0.1'] }],
};

const [host] = parseConfig(JSON.stringify(smallest), 'defaults').virtualHosts;

/** The OCSP settings that a configuration without any has. */
export const defaultPolicy: OcspPolicy = host!.ocsp;
