import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { serverName } from './credentials.ts';

export interface Load {
  path: string;
  h2?: boolean;
  clients: number;
  /** Concurrent requests on one connection, h2. */
  streams?: number;
  fields?: readonly string[];
  /** A file to POST. */
  upload?: string;
}

/** How long: a number of requests, or seconds. */
export type Extent = { requests: number } | { seconds: number };

export interface Loaded {
  requests: number;
  perSecond: number;
}

/**
 * A run of h2load (Debian's nghttp2-client) against a port of loopback. All servers get the same cipher, so that none
 * does more work than another.
 * @throws Error when a request failed
 */
export async function h2load(port: number, load: Load, extent: Extent, extra: readonly string[] = []): Promise<Loaded> {
  const args = [
    ...(load.h2 ? [] : ['--h1']),
    '-c',
    String(load.clients),
    '-m',
    String(load.streams ?? 1),
    ...('requests' in extent ? ['-n', String(Math.max(extent.requests, load.clients))] : ['-D', String(extent.seconds)]),
    ...(load.fields ?? []).flatMap((field) => ['-H', field]),
    ...(load.upload === undefined ? [] : ['-d', load.upload]),
    '--tls13-ciphers=TLS_AES_128_GCM_SHA256',
    '--groups=X25519',
    `--connect-to=127.0.0.1:${port}`,
    ...extra,
    `https://${serverName}${load.path}`,
  ];
  const child = spawn('h2load', args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text: string) => (said += text));
  await once(child, 'close');
  const [, seconds, unit] = /finished in ([\d.]+)(us|ms|s),/.exec(said) ?? [];
  const [, succeeded, failed, errored] = /(\d+) succeeded, (\d+) failed, (\d+) errored/.exec(said) ?? [];
  const [, good] = /status codes: (\d+) 2xx/.exec(said) ?? [];
  if (seconds === undefined || Number(failed) + Number(errored) > 0 || succeeded !== good || Number(succeeded) === 0)
    throw new Error(`h2load ${args.join(' ')}\n${said}`);
  const elapsed = Number(seconds) * { us: 1e-6, ms: 1e-3, s: 1 }[unit as 'us' | 'ms' | 's'];
  return { requests: Number(succeeded), perSecond: Number(succeeded) / elapsed };
}
