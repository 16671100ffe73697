import { createHash } from 'node:crypto';
import type { Snapshot } from '../snapshot.ts';

/** Who may connect to each virtual host, by `server_name`: texts to be compared. */
export type ClientRules = ReadonlyMap<string, string>;

export function clientRules({ config, clientAuthorities }: Pick<Snapshot, 'config' | 'clientAuthorities'>): ClientRules {
  const digests = new Map(Array.from(clientAuthorities, ([file, pem]) => [file, createHash('sha256').update(pem).digest('base64')]));
  return new Map(
    config.virtualHosts.map(({ serverName, passthrough, tls: { clientAuth } }) => [
      serverName,
      JSON.stringify([passthrough, clientAuth, digests.get(clientAuth.ca ?? '')]),
    ]),
  );
}

/** Virtual hosts whose rules are others now, or that are gone. */
export function outdated(before: ClientRules, now: ClientRules): Set<string> {
  return new Set(Array.from(before.keys()).filter((name) => now.get(name) !== before.get(name)));
}
