import { X509Certificate } from 'node:crypto';
import type { TlsPolicy } from '../config/policies.ts';
import type { VirtualHost } from '../config/schema.ts';
import { ServerNames } from '../config/server-names.ts';
import type { Identity } from '../snapshot.ts';
import { Alert, TlsAlert } from './alert.ts';
import type { ClientHello } from './client-hello.ts';
import { chooseIdentity, type SigningKey, type Terms } from './key-choice.ts';
import { ecdsaSuitesIn, protocolOptions, signsWithSha1, versionNumbers } from './policy.ts';

/** A virtual host with what the choice of its certificate needs. */
export interface Site {
  virtualHost: VirtualHost;
  terms: Terms;
  identities: ChoosableIdentity[];
  /** The supervisor has not read its certificates yet. */
  isAwaited: boolean;
}

/** An identity and the kind of its key; the certificate is parsed at its first use only. */
class ChoosableIdentity {
  readonly identity: Identity;
  #signingKey: SigningKey | undefined;

  constructor(identity: Identity) {
    this.identity = identity;
  }

  get signingKey(): SigningKey {
    this.#signingKey ??=
      this.identity.keyType === 'ecdsa'
        ? (new X509Certificate(this.identity.certificate).publicKey.asymmetricKeyDetails?.namedCurve as SigningKey)
        : this.identity.keyType;
    return this.#signingKey;
  }
}

/** The virtual hosts of one snapshot, by the names that clients ask for. */
export class Sites {
  readonly #byName: ServerNames<Site>;
  readonly #byServerName: Map<string, Site>;

  /** @param awaited server names of virtual hosts whose certificates are still to come */
  constructor(virtualHosts: readonly VirtualHost[], identities: readonly Identity[], awaited: Iterable<string>) {
    const isAwaited = new Set(awaited);
    const byVirtualHost = Map.groupBy(identities, ({ virtualHost }) => virtualHost);
    const termsOf = termsByPolicy();
    const sites = virtualHosts.map((virtualHost): Site => ({
      virtualHost,
      terms: termsOf(virtualHost.tls),
      identities: choosable(byVirtualHost.get(virtualHost.serverName)),
      isAwaited: isAwaited.has(virtualHost.serverName),
    }));
    this.#byName = new ServerNames(
      sites.map((site) => ({ names: [site.virtualHost.serverName, ...site.virtualHost.aliases], isDefault: site.virtualHost.default, value: site })),
    );
    this.#byServerName = new Map(sites.map((site) => [site.virtualHost.serverName, site]));
  }

  /** Replaces all identities of some virtual hosts, which are awaited no more. */
  setIdentities(virtualHosts: readonly string[], identities: readonly Identity[]): void {
    const byVirtualHost = Map.groupBy(identities, ({ virtualHost }) => virtualHost);
    for (const name of virtualHosts) {
      const site = this.#byServerName.get(name);
      if (site === undefined) continue;
      site.identities = choosable(byVirtualHost.get(name));
      site.isAwaited = false;
    }
  }

  isAwaited(serverName: string | undefined): boolean {
    return this.#byName.find(serverName)?.isAwaited ?? false;
  }

  /** @throws TlsAlert when no virtual host has the name and none is the default */
  find(serverName: string | undefined): Site {
    const site = this.#byName.find(serverName);
    if (site) return site;
    const asked = serverName === undefined ? 'no server name' : `the unknown name ${serverName}`;
    throw new TlsAlert(Alert.unrecognizedName, 'unrecognized_name', `${asked} was asked for, and no virtual host is the default`);
  }
}

/** What virtual hosts take part in: once for each policy, which ten thousand of them may share. */
function termsByPolicy(): (policy: TlsPolicy) => Terms {
  const known = new Map<TlsPolicy, Terms>();
  const suites = new Map<string, ReadonlySet<number>>();
  const suitesIn = (ciphers: string) => {
    const held = suites.get(ciphers) ?? ecdsaSuitesIn(ciphers);
    suites.set(ciphers, held);
    return held;
  };
  return (policy) => {
    const { minVersion, maxVersion, ciphers } = protocolOptions(policy);
    const terms = known.get(policy) ?? {
      lowestVersion: versionNumbers[minVersion],
      highestVersion: versionNumbers[maxVersion],
      ecdsaSuites: () => suitesIn(ciphers),
      signsWithSha1: signsWithSha1(ciphers),
    };
    known.set(policy, terms);
    return terms;
  };
}

function choosable(identities: readonly Identity[] = []): ChoosableIdentity[] {
  return identities.map((identity) => new ChoosableIdentity(identity));
}

/**
 * The identity that this client gets.
 * @throws TlsAlert when the virtual host has none
 */
export function identityFor(hello: ClientHello, { virtualHost, identities, terms }: Site): Identity {
  const chosen = chooseIdentity(hello, identities, terms);
  if (!chosen) throw new TlsAlert(Alert.handshakeFailure, 'no_certificate', `virtual host ${virtualHost.serverName} has no usable certificate`);
  return chosen.identity;
}
