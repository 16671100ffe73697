import type { VirtualHostStatus } from '../admin/status.ts';
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
  const staples = new Map(stapler.status().map((staple) => [staple.fingerprint, staple]));
  const problems = Map.groupBy([...store.problems(), ...policyProblems], ({ virtualHost }) => virtualHost);
  return config.virtualHosts.map(({ serverName, aliases, passthrough, routes }) => ({
    serverName,
    aliases,
    ...(passthrough && { passthrough: routes.flatMap(({ backends }) => backends.map(({ name }) => name)) }),
    certificates: rollout.certificates(serverName).map(({ source, keyType, fingerprint, notAfter }) => ({
      file: source.certificate,
      keyType,
      fingerprint,
      notAfter,
      staple: staples.get(fingerprint),
    })),
    problems: problems.get(serverName) ?? [],
  }));
}
