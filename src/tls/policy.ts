import { createSecureContext, type SecureVersion } from 'node:tls';
import type { TlsPolicy } from '../config/policies.ts';
import { ecdsaSuites } from './key-choice.ts';

/**
 * Mozilla's server-side TLS recommendations, version 5.8 of May 2026 (ssl-config.mozilla.org/guidelines/5.8.json):
 * protocol versions, cipher suites, groups and whose preference counts, by profile. One suite of `old` is left out:
 * DES-CBC3-SHA, which the OpenSSL in Node does not have.
 */

const tls13 = ['TLS_AES_128_GCM_SHA256', 'TLS_AES_256_GCM_SHA384', 'TLS_CHACHA20_POLY1305_SHA256'];

const intermediate = [
  'ECDHE-ECDSA-AES128-GCM-SHA256',
  'ECDHE-RSA-AES128-GCM-SHA256',
  'ECDHE-ECDSA-AES256-GCM-SHA384',
  'ECDHE-RSA-AES256-GCM-SHA384',
  'ECDHE-ECDSA-CHACHA20-POLY1305',
  'ECDHE-RSA-CHACHA20-POLY1305',
];

const old = [
  ...intermediate,
  'ECDHE-ECDSA-AES128-SHA256',
  'ECDHE-RSA-AES128-SHA256',
  'ECDHE-ECDSA-AES128-SHA',
  'ECDHE-RSA-AES128-SHA',
  'ECDHE-ECDSA-AES256-SHA384',
  'ECDHE-RSA-AES256-SHA384',
  'ECDHE-ECDSA-AES256-SHA',
  'ECDHE-RSA-AES256-SHA',
  'AES128-GCM-SHA256',
  'AES256-GCM-SHA384',
  'AES128-SHA256',
  'AES256-SHA256',
  'AES128-SHA',
  'AES256-SHA',
];

/** The same in all three profiles. */
const groups = ['X25519MLKEM768', 'X25519', 'prime256v1', 'secp384r1'];

const profiles: Record<TlsPolicy['profile'], { minVersion: SecureVersion; ciphers: string[]; serverPreference: boolean }> = {
  modern: { minVersion: 'TLSv1.3', ciphers: [], serverPreference: false },
  intermediate: { minVersion: 'TLSv1.2', ciphers: intermediate, serverPreference: false },
  old: { minVersion: 'TLSv1', ciphers: old, serverPreference: true },
};

/** What a policy comes down to when the profile has filled in what it does not say. */
export interface PolicyInForce {
  minVersion: SecureVersion;
  maxVersion: SecureVersion;
  /** For TLS 1.3, and for the versions below it; in OpenSSL's words, which may be keywords and operators. */
  suites13: string[];
  suites: string[];
  groups: string[];
  serverPreference: boolean;
}

export function policyInForce(policy: TlsPolicy): PolicyInForce {
  const profile = profiles[policy.profile];
  const named = policy.ciphers?.split(/[:,]/).filter((name) => name !== '') ?? [];
  const named13 = named.filter((name) => name.startsWith('TLS_'));
  const namedBelow = named.filter((name) => !name.startsWith('TLS_'));
  return {
    minVersion: policy.minVersion ?? profile.minVersion,
    maxVersion: policy.maxVersion ?? 'TLSv1.3',
    suites13: named13.length > 0 ? named13 : tls13,
    suites: namedBelow.length > 0 ? namedBelow : profile.ciphers,
    groups: policy.groups ?? groups,
    serverPreference: profile.serverPreference,
  };
}

/** As they stand in a ClientHello. */
export const versionNumbers: Record<SecureVersion, number> = { TLSv1: 0x0301, 'TLSv1.1': 0x0302, 'TLSv1.2': 0x0303, 'TLSv1.3': 0x0304 };

export function isBelow(version: SecureVersion, other: SecureVersion): boolean {
  return versionNumbers[version] < versionNumbers[other];
}

export interface ProtocolOptions {
  minVersion: SecureVersion;
  maxVersion: SecureVersion;
  ciphers: string;
  honorCipherOrder: boolean;
  ecdhCurve: string;
  dhparam: 'auto';
}

/** Protocol options of a `tls.Server` for one policy. */
export function protocolOptions(policy: TlsPolicy): ProtocolOptions {
  const { minVersion, maxVersion, suites13, suites, groups, serverPreference } = policyInForce(policy);
  // OpenSSL 3 signs TLS 1.0 and 1.1 handshakes (MD5 with SHA-1) only at security level 0.
  const level = isBelow(minVersion, 'TLSv1.2') ? ['@SECLEVEL=0'] : [];
  return {
    minVersion,
    maxVersion,
    ciphers: [...suites13, ...suites, ...level].join(':'),
    honorCipherOrder: serverPreference,
    ecdhCurve: groups.join(':'),
    // No profile has a DHE suite; where `ciphers` asks for one, its parameters fit the certificate's key.
    dhparam: 'auto',
  };
}

/** Whether OpenSSL signs with SHA-1 under a cipher list of `protocolOptions`: at security level 0 only, and the last one named counts. */
export function signsWithSha1(ciphers: string): boolean {
  return [...ciphers.matchAll(/@SECLEVEL=(\d)/g)].at(-1)?.[1] === '0';
}

/**
 * The ECDSA suites that a cipher list of `protocolOptions` holds. Only OpenSSL can say what an expression such as `ECDHE+AESGCM`
 * comes to: it refuses a list of which nothing is left once all other suites are struck out. About a millisecond.
 */
export function ecdsaSuitesIn(ciphers: string): ReadonlySet<number> {
  const names = Object.keys(ecdsaSuites);
  const held = names.filter((name) => {
    const others = names.filter((other) => other !== name).map((other) => `!${other}`);
    try {
      createSecureContext({ ciphers: [ciphers, '!aRSA:!aDSS:!aPSK:!aNULL:!kSRP', ...others].join(':') });
      return true;
    } catch {
      return false;
    }
  });
  return new Set(held.map((name) => ecdsaSuites[name]!));
}
