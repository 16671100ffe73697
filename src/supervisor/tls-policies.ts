import { createSecureContext, type SecureContextOptions } from 'node:tls';
import { readCertificates } from '../certificates/certificate.ts';
import { readText } from '../certificates/files.ts';
import type { TlsPolicy } from '../config/policies.ts';
import type { Config } from '../config/schema.ts';
import { isBelow, policyInForce, protocolOptions } from '../tls/policy.ts';

/** What is wrong with a virtual host's TLS policy. After an `error` its connections are refused; the other virtual hosts are served. */
export interface PolicyProblem {
  virtualHost: string;
  severity: 'error' | 'warn';
  code: 'client_authority' | 'tls_policy' | 'backend_tls_file';
  message: string;
}

/**
 * Reads the files that virtual hosts name in `tls.client_auth.ca`, so that workers need not, and tries every policy.
 * @param known what was read before: it stays in use where a file cannot be read now
 * @returns PEM by path, and what is wrong
 */
export function readClientAuthorities(config: Config, known: ReadonlyMap<string, string>): { authorities: Map<string, string>; problems: PolicyProblem[] } {
  const authorities = new Map<string, string>();
  const problems: PolicyProblem[] = [];
  const tried = new Map<string, Fault[]>();
  for (const { serverName: virtualHost, tls, passthrough } of config.virtualHosts) {
    if (passthrough) continue;
    const { ca: file, mode } = tls.clientAuth;
    if (file !== undefined && mode !== 'none' && !authorities.has(file)) {
      try {
        authorities.set(file, readAuthorities(file));
      } catch (error) {
        const before = known.get(file);
        if (before !== undefined) authorities.set(file, before);
        const what = `${file} cannot be used (tls.client_auth.ca)${before === undefined ? '' : ', what was read before stays in force'}`;
        problems.push({ virtualHost, severity: 'error', code: 'client_authority', message: `${what}: ${text(error)}` });
      }
    }
    // Ten thousand virtual hosts have few policies, and trying one takes the library a quarter of a millisecond or more.
    const key = JSON.stringify(policyInForce(tls));
    if (!tried.has(key)) tried.set(key, faults(tls));
    problems.push(...tried.get(key)!.map((fault): PolicyProblem => ({ virtualHost, code: 'tls_policy', ...fault })));
  }
  return { authorities, problems };
}

/** PEM of authorities. Every certificate is parsed: the TLS library takes those before the first damaged one, and says nothing of the rest. */
export function readAuthorities(file: string): string {
  const pem = readText(file);
  readCertificates(pem, file);
  return pem;
}

type Fault = Pick<PolicyProblem, 'severity' | 'message'>;

/** What the TLS library does not accept, or accepts and does not do. */
function faults(policy: TlsPolicy): Fault[] {
  const { groups, suites, minVersion } = policyInForce(policy);
  const { ciphers, ...options } = protocolOptions(policy);
  const errors: Fault[] = [];
  const error = (setting: string, cause: string) => errors.push({ severity: 'error', message: `the TLS policy cannot be used (${setting}): ${cause}` });

  const unknown = groups.filter((group) => refusal({ ecdhCurve: group }) !== undefined);
  if (unknown.length > 0) error('tls.groups', `OpenSSL ${process.versions.openssl} has no group ${unknown.join(', ')}`);
  const cause = refusal({ ...options, ciphers, ecdhCurve: 'auto' });
  if (cause !== undefined) error('tls.ciphers', cause);
  if (errors.length > 0) return errors;

  const warnings: Fault[] = [];
  // OpenSSL takes a list of which it knows one suite, and passes over the others.
  const missing = suites.filter((suite) => /^[A-Z0-9]+-[A-Z0-9-]+$/.test(suite) && refusal({ ciphers: `${suite}:@SECLEVEL=0` }) !== undefined);
  if (missing.length > 0) {
    warnings.push({ severity: 'warn', message: `OpenSSL ${process.versions.openssl} has no cipher suite ${missing.join(', ')}; it is left out (tls.ciphers)` });
  }
  // With suites of TLS 1.3 alone, Node raises the lowest version by itself; with those of TLS 1.2, older clients find none in common.
  const lowest = suites.length === 0 ? 'TLSv1.3' : suites.every(needsTls12) ? 'TLSv1.2' : 'TLSv1';
  if (isBelow(minVersion, lowest)) {
    warnings.push({
      severity: 'warn',
      message: `no cipher suite works below ${lowest}, so tls.min_version ${minVersion} has no effect (tls.profile, tls.ciphers)`,
    });
  }
  return warnings;
}

/** The AEAD suites and those with SHA-2 came with TLS 1.2 (RFC 5246, 1.2; RFC 5288, 3) and exist in no version before. */
function needsTls12(suite: string): boolean {
  return /-(?:GCM-SHA\d+|SHA256|SHA384|POLY1305|CCM8?)$/.test(suite);
}

function refusal(options: SecureContextOptions): string | undefined {
  try {
    createSecureContext(options);
    return undefined;
  } catch (error) {
    return text(error);
  }
}

function text(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
