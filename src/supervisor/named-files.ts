import type { Config } from '../config/schema.ts';
import { readBackendFiles } from './backend-files.ts';
import { type PolicyProblem, readClientAuthorities } from './tls-policies.ts';

/** What a configuration names beside certificates, as PEM by path, and what is wrong with it or with a TLS policy. */
export interface NamedFiles {
  /** Of `tls.client_auth`. */
  clientAuthorities: Map<string, string>;
  /** Of `backend_tls`. */
  backendFiles: Map<string, string>;
  problems: PolicyProblem[];
}

/** @param known what was read before: it stays in use where a file cannot be used now */
export function readNamedFiles(config: Config, known?: NamedFiles): NamedFiles {
  const { authorities, problems } = readClientAuthorities(config, known?.clientAuthorities ?? new Map());
  const backends = readBackendFiles(config, known?.backendFiles ?? new Map());
  return { clientAuthorities: authorities, backendFiles: backends.files, problems: [...problems, ...backends.problems] };
}
