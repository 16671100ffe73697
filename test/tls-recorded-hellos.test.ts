import assert from 'node:assert/strict';
import test from 'node:test';
import { TlsAlert } from '../src/tls/alert.ts';
import { type ClientHello, readClientHello } from '../src/tls/client-hello.ts';
import { inRecordsOf } from './support/hello.ts';
import { mutated } from './support/hellos/mutations.ts';
import { recordings } from './support/hellos/recordings.ts';
import { readByOpenssl } from './support/openssl-trace.ts';
import { temporaryFolder } from './support/program.ts';
import { seeded } from './support/random.ts';
import { needs } from './support/tools.ts';

/** ClientHellos of real clients (test/support/hellos/record.ts made them), read whole, in pieces, and damaged. */

const shop = 'shop.example.org';
const web = ['h2', 'http/1.1'];
const grease = new Set(Array.from({ length: 16 }, (_, i) => i * 0x1010 + 0x0a0a));
const [tls10, tls11, tls12, tls13] = [0x0301, 0x0302, 0x0303, 0x0304];

/** What these clients say of themselves in their documentation and sources. */
const documented: Record<string, Partial<ClientHello>> = {
  // BoringSSL's kVerifySignatureAlgorithms after ML-DSA; X25519MLKEM768 is 4588.
  chromium: {
    serverName: shop,
    versions: [tls13, tls12],
    applicationProtocols: web,
    statusRequest: true,
    groups: [4588, 29, 23, 24],
    signatureAlgorithms: [0x0904, 0x0905, 0x0906, 0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601],
    cipherSuites: [0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0xc013, 0xc014, 0x009c, 0x009d, 0x002f, 0x0035],
  },
  // Mozilla's sEnabledSignatureSchemes (nsNSSComponent.cpp).
  firefox: {
    serverName: shop,
    versions: [tls13, tls12],
    applicationProtocols: web,
    statusRequest: true,
    groups: [4588, 29, 23, 24, 25, 256, 257],
    signatureAlgorithms: [0x0403, 0x0503, 0x0603, 0x0804, 0x0805, 0x0806, 0x0401, 0x0501, 0x0601, 0x0203, 0x0201],
  },
  // crypto/tls: defaultSupportedSignatureAlgorithms, CurvePreferences; OCSP is always asked for.
  'go-cfssl': {
    serverName: 'localhost',
    versions: [tls13, tls12],
    applicationProtocols: [],
    statusRequest: true,
    groups: [29, 23, 24, 25],
    signatureAlgorithms: [0x0804, 0x0403, 0x0807, 0x0805, 0x0806, 0x0401, 0x0501, 0x0601, 0x0503, 0x0603, 0x0201, 0x0203],
  },
  'go-caddy': { serverName: shop, versions: [tls13, tls12], applicationProtocols: web, statusRequest: true },
  // JSSE: TLS 1.0 and 1.1 are in jdk.tls.disabledAlgorithms, jdk.tls.client.enableStatusRequestExtension is true.
  'java-17': {
    serverName: shop,
    versions: [tls13, tls12],
    applicationProtocols: [],
    statusRequest: true,
    groups: [29, 23, 24, 25, 30, 256, 257, 258, 259, 260],
  },
  // What their options ask for, after OpenSSL's s_client(1), gnutls_priority_init(3), tstclnt(1) and curl(1).
  'openssl-default': { serverName: shop, versions: [tls13, tls12, tls11, tls10], applicationProtocols: web, statusRequest: true },
  'openssl-tls13': { versions: [tls13], groups: [30, 25], signatureAlgorithms: [0x0807, 0x0808, 0x0809], statusRequest: false },
  'openssl-tls12': { serverName: undefined, versions: [tls12, tls11, tls10] },
  'openssl-tls11': { serverName: shop, versions: [tls11, tls10], signatureAlgorithms: undefined },
  'openssl-tls10': { serverName: undefined, versions: [tls10], cipherSuites: [0x002f, 0x00ff], signatureAlgorithms: undefined, groups: [] },
  'gnutls-default': { serverName: shop, versions: [tls13, tls12, tls11, tls10], applicationProtocols: ['http/1.1'], statusRequest: true },
  'gnutls-tls10-bare': { serverName: undefined, versions: [tls10], signatureAlgorithms: undefined, groups: [], statusRequest: false },
  'nss-tls13': { serverName: shop, versions: [tls13, tls12], statusRequest: true },
  'nss-tls10': { serverName: shop, versions: [tls10], signatureAlgorithms: undefined, statusRequest: false },
  'curl-default': { serverName: shop, applicationProtocols: web, statusRequest: false },
  'curl-tls12': { serverName: shop, versions: [tls12, tls11, tls10], applicationProtocols: [], statusRequest: true },
  // Node 24 on: X25519MLKEM768 first, TLS 1.2 at least.
  node: { serverName: shop, versions: [tls13, tls12], applicationProtocols: web, groups: [4588, 29, 23, 30, 24, 25, 256, 257] },
  // proxy_ssl_protocols was TLSv1 to TLSv1.2 up to 1.23.4, proxy_ssl_server_name on.
  nginx: { serverName: shop, versions: [tls12, tls11, tls10], applicationProtocols: [], statusRequest: false },
  haproxy: { serverName: shop, applicationProtocols: web, statusRequest: false },
};

for (const [name, expected] of Object.entries(documented)) {
  test(`${name} offers what its documentation says`, () => {
    const { hello, client } = recordings.find((recording) => recording.name === name)!;
    const read = readClientHello(hello)!;
    const named = Object.keys(expected) as (keyof ClientHello)[];
    assert.deepEqual(Object.fromEntries(named.map((key) => [key, read[key]])), expected, client);
  });
}

test('every recording reads as OpenSSL reads it, but for GREASE (RFC 8701)', needs('openssl'), async () => {
  await using folder = await temporaryFolder();
  const without = (values: number[]) => values.filter((value) => !grease.has(value));
  const traces = await readByOpenssl(
    recordings.map(({ hello }) => hello),
    folder.path,
  );
  assert.equal(traces.length, recordings.length);
  assert.ok(
    traces.some(({ cipherSuites }) => without(cipherSuites).length < cipherSuites.length),
    'one of them greases',
  );
  for (const [i, { name, hello }] of recordings.entries()) {
    const { versions, cipherSuites, groups, signatureAlgorithms, ...rest } = traces[i]!;
    const expected = {
      ...rest,
      versions: without(versions),
      cipherSuites: without(cipherSuites),
      groups: without(groups),
      signatureAlgorithms: signatureAlgorithms && without(signatureAlgorithms),
    };
    assert.deepEqual(readClientHello(hello), expected, name);
  }
});

test('split anywhere into two segments, the first is waited on and both read the same', () => {
  for (const { name, hello } of recordings) {
    for (const flight of [hello, inRecordsOf(7, hello), inRecordsOf(100, hello)]) {
      for (let end = 0; end < flight.length; end++) assert.equal(readClientHello(flight.subarray(0, end)), undefined, `${name}: ${end}`);
      assert.deepEqual(readClientHello(flight), readClientHello(hello), name);
    }
  }
});

test('in records of any size it reads the same; of more than 1,024 records nothing is read', () => {
  for (const { name, hello } of recordings) {
    const whole = readClientHello(hello);
    const message = hello.length - 5;
    for (let size = 1; size <= message; size++) {
      const flight = inRecordsOf(size, hello);
      if (Math.ceil(message / size) <= 1024) assert.deepEqual(readClientHello(flight), whole, `${name}: ${size}`);
      else assert.throws(() => readClientHello(flight), { name: 'TlsAlert', alert: 50 }, `${name}: ${size}`);
    }
  }
});

test('what follows a hello does not matter', () => {
  for (const { name, hello } of recordings) {
    const followed = Buffer.concat([hello, Buffer.of(20, 3, 3, 0, 1, 1, 23, 3, 3)]);
    assert.deepEqual(readClientHello(followed), readClientHello(hello), name);
  }
});

test('a mutated hello is a hello, waited on or refused with an alert, and no later byte changes that', { timeout: 60_000 }, () => {
  const random = seeded(8446);
  /** What becomes of these bytes; anything thrown but an alert is a bug. */
  const read = (bytes: Buffer): ClientHello | 'more' | 'alert' => {
    try {
      return readClientHello(bytes) ?? 'more';
    } catch (error) {
      assert.ok(error instanceof TlsAlert, `${bytes.toString('hex')}: ${String(error)}`);
      return 'alert';
    }
  };
  const outcomes = { hello: 0, more: 0, alert: 0 };
  for (let round = 0; round < 40_000; round++) {
    const mutant = mutated(recordings[round % recordings.length]!.hello, random);
    const whole = read(mutant);
    outcomes[typeof whole === 'string' ? whole : 'hello']++;
    const first = read(mutant.subarray(0, random() * mutant.length));
    if (first !== 'more') assert.deepEqual(whole, first, mutant.toString('hex'));
    if (typeof whole === 'string') continue;
    assert.match(whole.serverName ?? 'none', /^[\x21-\x7e]*$/);
    const numbers = [whole.versions, whole.cipherSuites, whole.groups, whole.signatureAlgorithms ?? []].flat();
    assert.ok(!numbers.some((number) => grease.has(number)), mutant.toString('hex'));
  }
  // The mutations reach every way out.
  assert.ok(Math.min(...Object.values(outcomes)) > 2_000, JSON.stringify(outcomes));
});
