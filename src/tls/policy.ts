import { createSecureContext, type SecureVersion } from 'node:tls';
import type { TlsPolicy } from '../config/schema.ts';
import { ecdsaSuites } from './key-choice.ts';

/** Mozilla's server-side TLS recommendations, version 5.8: protocol versions and cipher suites by profile. */

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

const profiles: Record<TlsPolicy['profile'], { minVersion: SecureVersion; ciphers: string[]; serverPreference: boolean }> = {
  modern: { minVersion: 'TLSv1.3', ciphers: [], serverPreference: false },
  intermediate: { minVersion: 'TLSv1.2', ciphers: intermediate, serverPreference: false },
  old: { minVersion: 'TLSv1', ciphers: old, serverPreference: true },
};

export interface ProtocolOptions {
  minVersion: SecureVersion;
  maxVersion: SecureVersion;
  ciphers: string;
  honorCipherOrder: boolean;
  ecdhCurve: string;
}

const order: SecureVersion[] = ['TLSv1', 'TLSv1.1', 'TLSv1.2', 'TLSv1.3'];

/** Protocol options of a `tls.Server` for one policy. A range that a profile's lower end exceeds is lowered to its own upper end. */
export function protocolOptions(policy: TlsPolicy): ProtocolOptions {
  const profile = profiles[policy.profile];
  const maxVersion = policy.maxVersion ?? 'TLSv1.3';
  const lowest = policy.minVersion ?? profile.minVersion;
  const minVersion = order.indexOf(lowest) > order.indexOf(maxVersion) ? maxVersion : lowest;
  const below12 = order.indexOf(minVersion) < order.indexOf('TLSv1.2');
  const suites = policy.ciphers === undefined ? profile.ciphers : [policy.ciphers];
  // OpenSSL 3 signs TLS 1.0 and 1.1 handshakes (MD5 with SHA-1) only at security level 0. Without TLS_ names Node drops TLS 1.3.
  const ciphers = [...tls13, ...suites, ...(below12 ? ['@SECLEVEL=0'] : [])].join(':');
  return { minVersion, maxVersion, ciphers, honorCipherOrder: profile.serverPreference, ecdhCurve: 'X25519MLKEM768:X25519:prime256v1:secp384r1' };
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
