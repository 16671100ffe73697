import { mkdtemp, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import type { Config } from '../../src/config/schema.ts';
import type { Facts, Level, Log } from '../../src/log.ts';

/** A directory that goes when the test ends. */
export async function folder(t: TestContext): Promise<string> {
  const path = await realpath(await mkdtemp(join(tmpdir(), 'staplegate-certificates-')));
  t.after(() => rm(path, { recursive: true, force: true }));
  return path;
}

export interface Line {
  level: Level;
  message: string;
  code: unknown;
}

/** A log that keeps its lines. */
export function memoryLog(): Log & { lines: Line[] } {
  const lines: Line[] = [];
  const add = (level: Level) => (message: string, facts?: Facts) => {
    lines.push({ level, message, code: facts?.code });
  };
  return { lines, error: add('error'), warn: add('warn'), info: add('info'), debug: add('debug') };
}

export interface Host {
  serverName: string;
  aliases?: string[];
  certificates?: { certificate: string; key: string }[];
}

/** As much of a configuration as the certificate store reads. */
export function configuration(hosts: Host[], certificatesDir?: string): Config {
  return {
    certificatesDir,
    listen: [{ protocol: 'https' }],
    virtualHosts: hosts.map((host) => ({ aliases: [], certificates: [], ...host })),
  } as unknown as Config;
}
