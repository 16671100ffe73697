import { createSecureContext } from 'node:tls';
import { readText } from '../certificates/files.ts';
import type { Config } from '../config/schema.ts';
import { type PolicyProblem, readAuthorities } from './tls-policies.ts';

/** A file of `backend_tls`, or two that belong together. */
interface Part {
  setting: string;
  files: string[];
  read: () => string[];
}

/** The files that routes with `https://` backends name. */
export function backendFileNames(config: Config): string[] {
  return parts(config).flatMap(({ files }) => files);
}

/**
 * Reads the files that routes name in `backend_tls`, so that workers need not.
 * @param known what was read before: it stays in use where a file cannot be used now
 * @returns PEM by path, and what is wrong
 */
export function readBackendFiles(config: Config, known: ReadonlyMap<string, string>): { files: Map<string, string>; problems: PolicyProblem[] } {
  const files = new Map<string, string>();
  const problems: PolicyProblem[] = [];
  const tried = new Map<string, string | undefined>();
  for (const { virtualHost, setting, files: names, read } of parts(config)) {
    const name = names.join(' with ');
    if (!tried.has(name)) tried.set(name, fault(names, read, files));
    const cause = tried.get(name);
    if (cause === undefined) continue;
    for (const file of names) {
      const before = known.get(file);
      if (before !== undefined) files.set(file, before);
    }
    const kept = names.every((file) => files.has(file)) ? ', what was read before stays in force' : '';
    const message = `${name} cannot be used (virtual_hosts[].routes[].backend_tls.${setting})${kept}: ${cause}`;
    problems.push({ virtualHost, severity: 'error', code: 'backend_tls_file', message });
  }
  return { files, problems };
}

function parts(config: Config): (Part & { virtualHost: string })[] {
  return config.virtualHosts.flatMap(({ serverName: virtualHost, routes }) =>
    routes.flatMap(({ backends, backendTls: { ca, certificate, key } }) => {
      if (!backends.some((backend) => 'tls' in backend)) return [];
      return [
        ...(ca === undefined ? [] : [{ virtualHost, setting: 'ca', files: [ca], read: () => [readAuthorities(ca)] }]),
        ...(certificate === undefined || key === undefined
          ? []
          : [{ virtualHost, setting: 'certificate', files: [certificate, key], read: () => readPair(certificate, key) }]),
      ];
    }),
  );
}

function readPair(certificate: string, key: string): string[] {
  const [cert, privateKey] = [readText(certificate), readText(key)];
  createSecureContext({ cert, key: privateKey });
  return [cert, privateKey];
}

/** What keeps files from being used; where nothing does, they are in `files` then. */
function fault(names: string[], read: () => string[], files: Map<string, string>): string | undefined {
  try {
    for (const [n, text] of read().entries()) files.set(names[n]!, text);
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}
