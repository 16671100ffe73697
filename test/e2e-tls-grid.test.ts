import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import test from 'node:test';
import { Authority, type AuthorityKeyType } from '../src/demo/authority.ts';
import { startOcspResponder } from '../src/demo/ocsp-responder.ts';
import { httpBackend } from './support/backend.ts';
import { anyLevel, type Client, curl, gnutls, openssl } from './support/handshake.ts';
import { Site } from './support/site.ts';
import { needs } from './support/tools.ts';

/** One program, many virtual hosts on one port, three TLS libraries as clients: who is served what, and who is refused how. */

const clientAuth = (mode: string) => ({ client_auth: { mode, ca: 'clients.pem' } });

const hosts: Record<string, { keys: AuthorityKeyType[]; tls?: object }> = {
  'default.test': { keys: ['ecdsa'] },
  'modern.test': { keys: ['ecdsa', 'rsa'], tls: { profile: 'modern' } },
  'intermediate.test': { keys: ['ecdsa', 'rsa'], tls: { profile: 'intermediate' } },
  'old.test': { keys: ['rsa', 'ecdsa', 'ed25519'], tls: { profile: 'old' } },
  'old-rsa.test': { keys: ['rsa'], tls: { profile: 'old' } },
  'from11.test': { keys: ['rsa'], tls: { profile: 'old', min_version: 'TLSv1.1' } },
  'only11.test': { keys: ['ecdsa'], tls: { profile: 'old', min_version: 'TLSv1.1', max_version: 'TLSv1.1' } },
  'to12.test': { keys: ['ecdsa', 'rsa'], tls: { max_version: 'TLSv1.2' } },
  'from13.test': { keys: ['ecdsa'], tls: { min_version: 'TLSv1.3' } },
  'one-suite.test': { keys: ['rsa'], tls: { ciphers: 'ECDHE-RSA-AES256-GCM-SHA384' } },
  'rsa-suites.test': { keys: ['ecdsa', 'rsa'], tls: { ciphers: 'ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384' } },
  'three.test': { keys: ['rsa', 'ed25519', 'ecdsa'] },
  'p384.test': { keys: ['p384', 'rsa'] },
  'p521.test': { keys: ['p521', 'rsa'] },
  'ed25519.test': { keys: ['ed25519'] },
  'ed448.test': { keys: ['ed448', 'rsa'] },
  'require.test': { keys: ['ecdsa', 'rsa'], tls: clientAuth('require') },
  'request.test': { keys: ['ecdsa'], tls: clientAuth('request') },
  '*.wild.test': { keys: ['ecdsa', 'rsa'] },
  'exact.wild.test': { keys: ['rsa'], tls: { profile: 'old' } },
};

const clients = { openssl, gnutls, curl };
const versions = ['TLSv1', 'TLSv1.1', 'TLSv1.2', 'TLSv1.3'] as const;
type Version = (typeof versions)[number];

/** Options with which a client offers one version alone. */
function offering(client: Client, version: Version): string[] {
  const dotted = version === 'TLSv1' ? '1.0' : version.slice(4);
  if (client === gnutls) return [`--priority=NORMAL:-VERS-ALL:+VERS-TLS${dotted}`];
  // Below level 0, OpenSSL 3 takes no signature made with SHA-1.
  if (client === curl) return [`--tlsv${dotted}`, '--tls-max', dotted, '--ciphers', anyLevel];
  return [`-${version.toLowerCase().replace('v', '').replace('.', '_')}`, '-cipher', anyLevel];
}

/** What is served, or the alert of a refusal (RFC 8446, 6), or an end without one. */
type Expected = `${Version} ${AuthorityKeyType}` | number | 'no alert';
const [handshakeFailure, protocolVersion, certificateRequired] = [40, 70, 116];

interface Row {
  proves: string;
  client: Client;
  name: string;
  options: string[];
  expected: Expected;
}

/** Versions spoken by each virtual host, and the kind of certificate that a client of that version alone is served. */
const spoken: [host: string, proves: string, served: Partial<Record<Version, AuthorityKeyType>>][] = [
  ['modern.test', 'modern is TLS 1.3', { 'TLSv1.3': 'ecdsa' }],
  ['intermediate.test', 'intermediate is TLS 1.2 and 1.3', { 'TLSv1.2': 'ecdsa', 'TLSv1.3': 'ecdsa' }],
  ['default.test', 'a virtual host that says nothing is intermediate', { 'TLSv1.2': 'ecdsa', 'TLSv1.3': 'ecdsa' }],
  ['old.test', 'old is all four, ECDSA first in each', { TLSv1: 'ecdsa', 'TLSv1.1': 'ecdsa', 'TLSv1.2': 'ecdsa', 'TLSv1.3': 'ecdsa' }],
  ['old-rsa.test', 'old with RSA is all four', { TLSv1: 'rsa', 'TLSv1.1': 'rsa', 'TLSv1.2': 'rsa', 'TLSv1.3': 'rsa' }],
  ['from11.test', 'min_version raises the lower end of old', { 'TLSv1.1': 'rsa', 'TLSv1.2': 'rsa', 'TLSv1.3': 'rsa' }],
  ['only11.test', 'min_version and max_version leave one', { 'TLSv1.1': 'ecdsa' }],
  ['to12.test', 'max_version lowers the upper end', { 'TLSv1.2': 'ecdsa' }],
  ['from13.test', 'min_version raises the lower end of intermediate', { 'TLSv1.3': 'ecdsa' }],
  ['a.wild.test', 'a wildcard has the policy of its virtual host', { 'TLSv1.2': 'ecdsa', 'TLSv1.3': 'ecdsa' }],
  ['exact.wild.test', 'an exact name has its own, beside the wildcard', { TLSv1: 'rsa', 'TLSv1.1': 'rsa', 'TLSv1.2': 'rsa', 'TLSv1.3': 'rsa' }],
];

const versionRows: Row[] = spoken.flatMap(([name, proves, served]) =>
  versions.flatMap((version) =>
    Object.entries(clients).map(([clientName, client]): Row => {
      const key = served[version];
      // Before TLS 1.3 a server answers a higher version with its own highest, and the client ends it (RFC 5246, E.1).
      const refusal = version === 'TLSv1.2' && served['TLSv1.1'] ? 'no alert' : protocolVersion;
      const expected = key === undefined ? refusal : (`${version} ${key}` as const);
      return { proves: `${name}: ${proves} (${clientName}, ${version})`, client, name, options: offering(client, version), expected };
    }),
  ),
);

/** `openssl s_client`, TLS 1.2 with these options. */
const tls12 = (...options: string[]): string[] => ['-tls1_2', ...options];
const tls13 = (...options: string[]): string[] => ['-tls1_3', ...options];
const tls10 = (cipher: string, ...options: string[]): string[] => ['-tls1', '-cipher', `${cipher}:@SECLEVEL=0`, ...options];
const gnutlsOffer = (...changes: string[]): string[] => [`--priority=${['NORMAL', ...changes].join(':')}`];

type KeyRow = [name: string, proves: string, client: Client, options: string[], expected: Expected];

const keyRows: KeyRow[] = [
  // TLS 1.3: signature_algorithms alone decide, each ECDSA scheme is one curve (RFC 8446, 4.2.3).
  ['three.test', 'ECDSA comes first', openssl, [], 'TLSv1.3 ecdsa'],
  ['three.test', 'RSA for whom it is all', openssl, tls13('-sigalgs', 'rsa_pss_rsae_sha256'), 'TLSv1.3 rsa'],
  ['three.test', 'Ed25519 for whom it is all', openssl, tls13('-sigalgs', 'ed25519'), 'TLSv1.3 ed25519'],
  ['three.test', 'Ed25519 before RSA', openssl, tls13('-sigalgs', 'rsa_pss_rsae_sha256:ed25519'), 'TLSv1.3 ed25519'],
  ['three.test', 'the order of the client does not matter', openssl, tls13('-sigalgs', 'rsa_pss_rsae_sha256:ECDSA+SHA256'), 'TLSv1.3 ecdsa'],
  ['three.test', 'P-256 is no answer to P-384 with SHA-384', openssl, tls13('-sigalgs', 'ECDSA+SHA384:rsa_pss_rsae_sha256'), 'TLSv1.3 rsa'],
  ['three.test', 'PKCS#1 is not for TLS 1.3', openssl, tls13('-sigalgs', 'RSA+SHA256'), handshakeFailure],
  ['three.test', 'but a TLS 1.2 client may have nothing else', openssl, tls12('-sigalgs', 'RSA+SHA256'), 'TLSv1.2 rsa'],
  ['to12.test', 'nor does it stop who offers both versions where 1.2 is the highest', openssl, ['-sigalgs', 'RSA+SHA256'], 'TLSv1.2 rsa'],
  ['three.test', 'a suite limit of TLS 1.2 is none in 1.3', openssl, ['-cipher', 'ECDHE-RSA-AES128-GCM-SHA256'], 'TLSv1.3 ecdsa'],
  ['three.test', 'gnutls', gnutls, gnutlsOffer(), 'TLSv1.3 ecdsa'],
  ['three.test', 'gnutls that verifies RSA only', gnutls, gnutlsOffer('-SIGN-ALL', '+SIGN-RSA-PSS-RSAE-SHA256', '+SIGN-RSA-SHA256'), 'TLSv1.3 rsa'],
  [
    'three.test',
    'gnutls that verifies Ed25519 before all',
    gnutls,
    gnutlsOffer('-SIGN-ALL', '+SIGN-EDDSA-ED25519', '+SIGN-RSA-PSS-RSAE-SHA256'),
    'TLSv1.3 ed25519',
  ],
  ['p384.test', 'P-384 before RSA', openssl, [], 'TLSv1.3 p384'],
  ['p384.test', 'RSA for whom P-256 is the only curve', openssl, tls13('-sigalgs', 'ECDSA+SHA256:rsa_pss_rsae_sha256'), 'TLSv1.3 rsa'],
  ['p521.test', 'P-521 before RSA', openssl, tls13('-sigalgs', 'rsa_pss_rsae_sha256:ECDSA+SHA512'), 'TLSv1.3 p521'],
  ['ed448.test', 'Ed448 where it is offered', openssl, tls13(), 'TLSv1.3 ed448'],
  ['ed448.test', 'and RSA where it is not', openssl, tls13('-sigalgs', 'ed25519:rsa_pss_rsae_sha256'), 'TLSv1.3 rsa'],
  ['ed25519.test', 'one key is all there is: the handshake fails', openssl, tls13('-sigalgs', 'ECDSA+SHA256'), handshakeFailure],
  // TLS 1.2: the suite names the kind of key, supported_groups the curve (RFC 8422, 5.1), signature_algorithms the rest.
  ['three.test', 'ECDSA comes first', openssl, tls12(), 'TLSv1.2 ecdsa'],
  ['three.test', 'RSA suites', openssl, tls12('-cipher', 'ECDHE-RSA-AES128-GCM-SHA256'), 'TLSv1.2 rsa'],
  ['three.test', 'ECDSA suites', openssl, tls12('-cipher', 'ECDHE-ECDSA-AES128-GCM-SHA256'), 'TLSv1.2 ecdsa'],
  ['three.test', 'RSA signatures', openssl, tls12('-sigalgs', 'RSA+SHA256:RSA+SHA384'), 'TLSv1.2 rsa'],
  ['three.test', 'RSA-PSS signatures', openssl, tls12('-sigalgs', 'rsa_pss_rsae_sha256'), 'TLSv1.2 rsa'],
  ['three.test', 'P-256 signs with SHA-384 too', openssl, tls12('-sigalgs', 'ECDSA+SHA384'), 'TLSv1.2 ecdsa'],
  [
    'three.test',
    'SHA-1 with ECDSA does not count where nobody signs with it',
    openssl,
    tls12('-sigalgs', 'ECDSA+SHA1:RSA+SHA256', '-cipher', anyLevel),
    'TLSv1.2 rsa',
  ],
  ['old.test', 'but in old', openssl, tls12('-sigalgs', 'ECDSA+SHA1:RSA+SHA256', '-cipher', anyLevel), 'TLSv1.2 ecdsa'],
  ['three.test', 'SHA-224 with ECDSA is enough', openssl, tls12('-sigalgs', 'ECDSA+SHA224:RSA+SHA256'), 'TLSv1.2 ecdsa'],
  ['three.test', 'Ed25519 goes with the ECDSA suites', openssl, tls12('-sigalgs', 'ed25519', '-cipher', 'ECDHE-ECDSA-AES128-GCM-SHA256'), 'TLSv1.2 ed25519'],
  ['three.test', 'Ed25519 not with RSA suites', openssl, tls12('-sigalgs', 'ed25519:RSA+SHA256', '-cipher', 'ECDHE-RSA-AES128-GCM-SHA256'), 'TLSv1.2 rsa'],
  [
    'three.test',
    'a client without the curve P-256 gets no P-256 key',
    openssl,
    tls12('-curves', 'X25519:P-384', '-sigalgs', 'ECDSA+SHA256:RSA+SHA256'),
    'TLSv1.2 rsa',
  ],
  ['old-rsa.test', 'ECDSA suites alone do not fit an RSA key', openssl, tls12('-cipher', 'ECDHE-ECDSA-AES128-GCM-SHA256'), handshakeFailure],
  ['three.test', 'curl', curl, ['--tls-max', '1.2', '--ciphers', 'ECDHE-RSA-AES256-GCM-SHA384'], 'TLSv1.2 rsa'],
  ['three.test', 'gnutls: RSA suites', gnutls, gnutlsOffer('-VERS-TLS1.3', '-ECDHE-ECDSA'), 'TLSv1.2 rsa'],
  ['three.test', 'gnutls: ECDSA suites', gnutls, gnutlsOffer('-VERS-TLS1.3', '-ECDHE-RSA', '-DHE-RSA', '-RSA'), 'TLSv1.2 ecdsa'],
  ['one-suite.test', 'the suite that is left', openssl, tls12(), 'TLSv1.2 rsa'],
  ['one-suite.test', 'a client without it', openssl, tls12('-cipher', 'ECDHE-RSA-AES128-GCM-SHA256'), handshakeFailure],
  ['one-suite.test', 'ciphers do not touch TLS 1.3', openssl, tls13('-ciphersuites', 'TLS_AES_128_GCM_SHA256'), 'TLSv1.3 rsa'],
  ['rsa-suites.test', 'ECDSA cannot be used where the suites are for RSA', openssl, tls12(), 'TLSv1.2 rsa'],
  ['rsa-suites.test', 'but in TLS 1.3', openssl, tls13(), 'TLSv1.3 ecdsa'],
  [
    'intermediate.test',
    'ECDSA suites that the profile lacks do not count',
    openssl,
    tls12('-cipher', 'ECDHE-ECDSA-AES128-SHA:ECDHE-RSA-AES128-GCM-SHA256'),
    'TLSv1.2 rsa',
  ],
  // TLS 1.0 and 1.1 know no signature_algorithms: suite and curve alone.
  ['old.test', 'ECDSA suites', openssl, tls10('ECDHE-ECDSA-AES128-SHA'), 'TLSv1 ecdsa'],
  ['old.test', 'RSA suites', openssl, tls10('ECDHE-RSA-AES128-SHA'), 'TLSv1 rsa'],
  ['old.test', 'RSA key exchange', openssl, tls10('AES128-SHA'), 'TLSv1 rsa'],
  ['old.test', 'no P-256', openssl, tls10('ALL', '-curves', 'P-384'), 'TLSv1 rsa'],
  ['old.test', 'a suite that old lacks', openssl, tls10('CAMELLIA128-SHA'), handshakeFailure],
  ['old.test', 'gnutls with RSA suites', gnutls, gnutlsOffer('-VERS-ALL', '+VERS-TLS1.1', '-ECDHE-ECDSA'), 'TLSv1.1 rsa'],
  ['old.test', 'Ed25519 where TLS 1.2 offers it', openssl, tls12('-sigalgs', 'ed25519'), 'TLSv1.2 ed25519'],
];

const nameRows: [name: string, proves: string, host: string, expected?: Expected][] = [
  ['unknown.test', 'an unknown name gets the default', 'default.test'],
  ['', 'no name gets the default', 'default.test'],
  ['MODERN.test', 'case does not matter', 'modern.test'],
  ['a.wild.test', 'a wildcard covers one label', '*.wild.test'],
  ['x.y.wild.test', 'and not two', 'default.test'],
  ['wild.test', 'and not none', 'default.test'],
  ['exact.wild.test', 'an exact name goes before a wildcard', 'exact.wild.test', 'TLSv1.3 rsa'],
];
/** The virtual host behind a name; most are asked for by their own. */
const hostOf = (asked: string): string => nameRows.find(([name]) => name === asked)?.[2] ?? asked;

const certificateRows: [name: string, sent: 'client' | 'stranger' | 'nothing', options: string[], expected: Expected][] = [
  ['require.test', 'nothing', tls13(), certificateRequired],
  ['require.test', 'nothing', tls12(), handshakeFailure],
  ['require.test', 'nothing', tls13('-sigalgs', 'rsa_pss_rsae_sha256'), certificateRequired],
  ['require.test', 'client', tls13(), 'TLSv1.3 ecdsa'],
  ['require.test', 'client', tls12(), 'TLSv1.2 ecdsa'],
  ['require.test', 'client', tls12('-cipher', 'ECDHE-RSA-AES128-GCM-SHA256'), 'TLSv1.2 rsa'],
  // The TLS library lets everybody in and says afterwards whom it would not have: too late for an alert.
  ['require.test', 'stranger', tls13(), 'no alert'],
  ['require.test', 'stranger', tls12(), 'no alert'],
  ['request.test', 'nothing', tls13(), 'TLSv1.3 ecdsa'],
  ['request.test', 'client', tls12(), 'TLSv1.2 ecdsa'],
  ['intermediate.test', 'stranger', tls13(), 'TLSv1.3 ecdsa'],
];

test('who is served what, and who is refused how', needs('openssl', 'gnutls-cli', 'curl'), async (t) => {
  const site = await Site.create(t);
  const responder = await startOcspResponder({ authority: site.authority });
  site.defer(() => responder.close());
  const backend = await httpBackend(t, (_, response) => void response.end());
  const authority = await Authority.root('Clients');
  await writeFile(site.file('clients.pem'), authority.pem);
  await site.write('client', await authority.issue({ commonName: 'client', clientAuth: true }));
  await site.write('stranger', await (await Authority.root('Strangers')).issue({ commonName: 'stranger', clientAuth: true }));

  /** Serial number by host and kind of key. */
  const serials = new Map<string, string>();
  const virtualHosts = Object.entries(hosts).map(async ([name, { keys, tls = {} }], index) => {
    const certificates = keys.map(async (keyType) => {
      const leaf = await site.issue(name, { keyType, ocsp: responder.url });
      serials.set(`${name} ${keyType}`, leaf.certificate.serialNumber);
      return site.write(`${index}-${keyType}`, leaf);
    });
    return { server_name: name, default: index === 0, certificates: await Promise.all(certificates), tls, backends: [backend.url] };
  });
  const program = await site.serving({
    shutdown_grace: '1s',
    virtual_hosts: await Promise.all(virtualHosts),
  });
  const server = { port: program.port(), ca: site.ca, folder: site.folder };

  const prove = (title: string, rows: Row[]) =>
    t.test(title, { concurrency: 2 }, async (group) => {
      const runs = rows.map(({ proves, client, name, options, expected }) =>
        group.test(proves, async () => {
          const { version, serial, staple, alert, answered, said } = await client(server, name, options);
          const refused = typeof expected === 'number' || expected === 'no alert';
          if (answered !== undefined) assert.equal(answered, !refused, said);
          if (refused) {
            assert.equal(alert, expected === 'no alert' ? undefined : expected, said);
            return;
          }
          const [protocol, key] = expected.split(' ');
          const own = serials.get(`${hostOf(name)} ${key}`);
          assert.deepEqual({ version, serial, staple }, { version: protocol, serial: own, staple: own }, said);
        }),
      );
      await Promise.all(runs);
    });
  const sending = (who: string) => (who === 'nothing' ? [] : ['-cert', site.file(`${who}.pem`), '-key', site.file(`${who}.key`)]);

  await prove('versions', versionRows);
  await prove(
    'keys',
    keyRows.map(([name, proves, client, options, expected]) => ({ proves: `${name}: ${proves}`, client, name, options, expected })),
  );
  await prove(
    'names',
    nameRows.map(([name, proves, , expected = 'TLSv1.3 ecdsa']) => ({ proves, client: openssl, name, options: [], expected })),
  );
  await prove(
    'client certificates',
    certificateRows.map(([name, sent, options, expected]) => ({
      proves: `${name}: ${sent} sent, ${options.join(' ')}`,
      client: openssl,
      name,
      options: [...options, ...sending(sent)],
      expected,
    })),
  );
});
