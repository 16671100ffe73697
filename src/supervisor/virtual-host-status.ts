import type { CertificateStatus, VirtualHostStatus } from '../admin/status.ts';
import type { Certificate } from '../certificates/certificate.ts';
import type { CertificateStore } from '../certificates/store.ts';
import type { Config } from '../config/schema.ts';
import type { Stapler } from '../ocsp/stapler.ts';
import type { Rollout } from './rollout.ts';
import type { PolicyProblem } from './tls-policies.ts';

interface Sources {
  config: Config;
  store: CertificateStore;
  stapler: Stapler;
  rollout: Rollout;
  policyProblems: readonly PolicyProblem[];
}

/** What each virtual host serves now, how its staples are, and what is wrong with it. */
export function virtualHostStatus({ config, store, stapler, rollout, policyProblems }: Sources): VirtualHostStatus[] {
  const statusOf = certificateStatus(stapler);
  const problems = Map.groupBy([...store.problems(), ...policyProblems], ({ virtualHost }) => virtualHost);
  return config.virtualHosts.map(({ serverName, aliases, passthrough, routes }) => ({
    serverName,
    aliases,
    ...(passthrough && { passthrough: routes.flatMap(({ backends }) => backends.map(({ name }) => name)) }),
    certificates: rollout.certificates(serverName).map(statusOf),
    problems: problems.get(serverName) ?? [],
  }));
}

/** What tells how certificates and their staples are now. */
export function certificateStatus(stapler: Stapler): (certificate: Certificate) => CertificateStatus {
  const staples = new Map(stapler.status().map((staple) => [staple.fingerprint, staple]));
  return ({ source, keyType, fingerprint, notAfter }) => ({ file: source.certificate, keyType, fingerprint, notAfter, staple: staples.get(fingerprint) });
}
