import { createSecureContext } from 'node:tls';
import { readCertificates } from '../certificates/certificate.ts';
import { readText } from '../certificates/files.ts';
import type { Config } from '../config/schema.ts';
import { protocolOptions } from '../tls/policy.ts';

/** A virtual host whose TLS policy cannot be used: its connections are refused, the others are served. */
export interface PolicyProblem {
  virtualHost: string;
  severity: 'error';
  code: 'client_authority' | 'tls_policy';
  message: string;
}

/**
 * Reads the files that virtual hosts name in `tls.client_auth.ca`, so that workers need not, and tries every policy.
 * @param known what was read before: it stays in use where a file cannot be read now
 * @returns PEM by path, and what is wrong
 */
export async function readClientAuthorities(
  config: Config,
  known: ReadonlyMap<string, string>,
): Promise<{ authorities: Map<string, string>; problems: PolicyProblem[] }> {
  const authorities = new Map<string, string>();
  const problems: PolicyProblem[] = [];
  for (const { serverName: virtualHost, tls } of config.virtualHosts) {
    const { ca: file, mode } = tls.clientAuth;
    const add = (code: PolicyProblem['code'], what: string, error: unknown) =>
      problems.push({ virtualHost, severity: 'error', code, message: `${what}: ${error instanceof Error ? error.message : String(error)}` });
    if (file !== undefined && mode !== 'none' && !authorities.has(file)) {
      try {
        authorities.set(file, await readAuthorities(file));
      } catch (error) {
        const before = known.get(file);
        if (before !== undefined) authorities.set(file, before);
        add('client_authority', `${file} cannot be used (tls.client_auth.ca)${before === undefined ? '' : ', what was read before stays in force'}`, error);
      }
    }
    try {
      createSecureContext(protocolOptions(tls));
    } catch (error) {
      add('tls_policy', 'the TLS policy cannot be used (tls.ciphers)', error);
    }
  }
  return { authorities, problems };
}

/** Every certificate is parsed: the TLS library takes those before the first damaged one, and says nothing of the rest. */
async function readAuthorities(file: string): Promise<string> {
  const pem = await readText(file);
  readCertificates(pem, file);
  return pem;
}
