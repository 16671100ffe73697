import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { serverName } from './credentials.ts';

/** Requests without a pause, from clients that wait for each answer (or, in HTTP/2, for one of `streams`). */
export interface Load {
  path: string;
  h2?: boolean;
  clients: number;
  /** Concurrent requests on one connection, HTTP/2 only. */
  streams?: number;
  fields?: readonly string[];
  /** Bytes to POST. */
  upload?: number;
}

/** How long: a number of requests, or seconds. */
export type Extent = { requests: number } | { seconds: number };

export interface Loaded {
  requests: number;
  perSecond: number;
}

/**
 * A run of h2load (Debian's nghttp2-client) against a port of loopback. All servers get the same cipher and group, so
 * that none does more work than another.
 * @param extra further arguments
 * @throws Error when a request failed
 */
export async function h2load(port: number, load: Load, extent: Extent, extra: readonly string[] = []): Promise<Loaded> {
  const args = [
    ...(load.h2 ? ['--npn-list=h2'] : ['--h1']),
    `--clients=${load.clients}`,
    `--max-concurrent-streams=${load.streams ?? 1}`,
    'requests' in extent ? `--requests=${Math.max(extent.requests, load.clients)}` : `--duration=${extent.seconds}`,
    ...(load.fields ?? []).map((field) => `--header=${field}`),
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
  const [, time, unit] = /finished in ([\d.]+)(us|ms|s),/.exec(said) ?? [];
  const [, succeeded, failed, errored] = /(\d+) succeeded, (\d+) failed, (\d+) errored/.exec(said) ?? [];
  const [, good] = /status codes: (\d+) 2xx/.exec(said) ?? [];
  if (Number(succeeded) === 0 && !said.includes('Application protocol:')) throw new Error(`does not speak ${load.h2 ? 'HTTP/2' : 'HTTP/1.1'}`);
  // Requests that the end of the time cut off may have had their status.
  if (time === undefined || Number(failed) + Number(errored) > 0 || Number(succeeded) === 0 || Number(good) < Number(succeeded))
    throw new Error(`requests failed\nh2load ${args.join(' ')}\n${said.split('\n').slice(-12).join('\n')}`);
  const elapsed = Number(time) * { us: 1e-6, ms: 1e-3, s: 1 }[unit as 'us' | 'ms' | 's'];
  return { requests: Number(succeeded), perSecond: Number(succeeded) / elapsed };
}
