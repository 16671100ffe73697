import assert from 'node:assert/strict';
import test from 'node:test';
import * as tls from 'node:tls';
import { TlsAlert } from '../src/tls/alert.ts';
import { maxHelloSize, readClientHello } from '../src/tls/client-hello.ts';
import { buildHello, curlHello, firstFlight, gnutlsHello, inRecordsOf, opensslHello, serverNameExtension } from './support/hello.ts';
import { needs } from './support/tools.ts';

const nodeHello = (options: tls.ConnectionOptions) =>
  firstFlight((port) => tls.connect({ host: '127.0.0.1', port, rejectUnauthorized: false, ...options }).on('error', () => {}));

test('openssl: name, versions, ALPN and status_request', needs('openssl'), async () => {
  const hello = readClientHello(await opensslHello('-servername', 'Shop.Example.ORG', '-status', '-alpn', 'h2,http/1.1'));
  assert.equal(hello?.serverName, 'shop.example.org');
  assert.deepEqual(hello.applicationProtocols, ['h2', 'http/1.1']);
  assert.ok(hello.statusRequest && hello.versions.includes(0x0304) && hello.versions.includes(0x0303));
  assert.ok(hello.signatureAlgorithms?.includes(0x0403) && hello.cipherSuites.includes(0x1301) && hello.groups.includes(29));
});

test('openssl limited to TLS 1.2 without a name', needs('openssl'), async () => {
  const hello = readClientHello(await opensslHello('-tls1_2', '-noservername'));
  assert.equal(hello?.serverName, undefined);
  assert.deepEqual(hello?.versions, [0x0303, 0x0302, 0x0301]);
  assert.equal(hello.statusRequest, false);
});

test('gnutls-cli and curl', needs('gnutls-cli', 'curl'), async () => {
  const gnutls = readClientHello(await gnutlsHello('--sni-hostname=shop.example.org'));
  assert.equal(gnutls?.serverName, 'shop.example.org');
  assert.ok(gnutls.statusRequest && gnutls.versions.includes(0x0304));
  const curl = readClientHello(await curlHello('a.example.org'));
  assert.equal(curl?.serverName, 'a.example.org');
  assert.deepEqual(curl.applicationProtocols, ['h2', 'http/1.1']);
});

test('a post-quantum hello, longer than one segment', async () => {
  const flight = await nodeHello({ servername: 'pq.example.org', ecdhCurve: 'X25519MLKEM768:X25519' });
  assert.ok(flight.length > 1400, `${flight.length} bytes`);
  assert.equal(readClientHello(flight)?.serverName, 'pq.example.org');
});

test('any split into segments and records reads the same; every prefix is incomplete', async () => {
  const flight = await nodeHello({ servername: 'split.example.org', ALPNProtocols: ['http/1.1'] });
  const whole = readClientHello(flight);
  for (let length = 1; length < flight.length; length++) assert.equal(readClientHello(flight.subarray(0, length)), undefined, `prefix of ${length}`);
  for (const size of [2, 3, 5, 64, 100]) assert.deepEqual(readClientHello(inRecordsOf(size, flight)), whole, `records of ${size}`);
});

test('names: one trailing dot and upper case are folded, other things are refused', () => {
  const named = (...names: string[]) => readClientHello(buildHello({ extensions: [[0, serverNameExtension(...names)]] }))?.serverName;
  assert.equal(named('WWW.Example.org.'), 'www.example.org');
  for (const bad of ['', 'a b', 'a\0b', 'x'.repeat(256), 'ümlaut.example']) assert.throws(() => named(bad), TlsAlert, JSON.stringify(bad));
  assert.throws(() => named('a.example', 'b.example'), { code: 'hello_malformed', alert: 47 });
});

test('GREASE is ignored (RFC 8701)', () => {
  const versions = Buffer.of(6, 0x0a, 0x0a, 3, 4, 0xfa, 0xfa);
  const hello = readClientHello(
    buildHello({
      suites: [0x3a3a, 0x1301],
      extensions: [
        [0x1a1a, Buffer.alloc(0)],
        [43, versions],
      ],
    }),
  );
  assert.deepEqual(hello?.versions, [0x0304]);
  assert.deepEqual(hello.cipherSuites, [0x1301]);
});

test('a hello for SSL 2.0 and TLS, as Java 6 sends it (RFC 5246, E.2)', () => {
  const suites = [0x010080, 0x00002f, 0x00c009, 0x0700c0].flatMap((suite) => [suite >> 16, (suite >> 8) & 0xff, suite & 0xff]);
  const body = [1, 3, 1, 0, suites.length, 0, 0, 0, 16, ...suites, ...Buffer.alloc(16, 7)];
  const flight = Buffer.of(0x80, body.length, ...body);
  assert.deepEqual(readClientHello(flight), {
    serverName: undefined,
    versions: [0x0301],
    cipherSuites: [0x002f, 0xc009],
    signatureAlgorithms: undefined,
    groups: [],
    applicationProtocols: [],
    statusRequest: false,
  });
  for (let length = 0; length < flight.length; length++) assert.equal(readClientHello(flight.subarray(0, length)), undefined, `prefix of ${length}`);
});

test('a hello without extensions, as old clients send it', () => {
  assert.deepEqual(readClientHello(buildHello({ version: 0x0301, suites: [0x002f] }))?.versions, [0x0301]);
});

const longer = Buffer.concat([buildHello({}), Buffer.of(0)]);
longer[4]! += 1; // of the record
longer[8]! += 1; // of the message

const refused: [what: string, bytes: Buffer, alert: number][] = [
  ['a client of SSL 2.0', Buffer.of(0x80, 0x2e, 1, 0, 2, 0, 0x15, 0), 70],
  ['a record of SSL 2.0 with another message', Buffer.of(0x80, 0x2e, 4, 3, 1), 10],
  ['a hello for SSL 2.0 and TLS with bytes left over', Buffer.of(0x80, 10, 1, 3, 1, 0, 0, 0, 0, 0, 0, 0), 50],
  ['a hello for SSL 2.0 and TLS with half a suite', Buffer.of(0x80, 11, 1, 3, 1, 0, 2, 0, 0, 0, 0, 0, 0x2f), 50],
  ['an alert record first', Buffer.of(21, 3, 3, 0, 2, 2, 0), 10],
  ['another major version', Buffer.of(22, 4, 0, 0, 5), 70],
  ['an empty record', Buffer.of(22, 3, 1, 0, 0), 50],
  ['a record over 16 KB', Buffer.of(22, 3, 1, 0x40, 1), 22],
  ['an alert inside the hello', Buffer.concat([buildHello({}).subarray(0, 3), Buffer.of(0, 1, 1), Buffer.of(21, 3, 1, 0, 2, 1, 0)]), 10],
  ['a ServerHello first', Buffer.of(22, 3, 1, 0, 4, 2, 0, 0, 0), 10],
  ['a message over the limit', Buffer.of(22, 3, 1, 0, 4, 1, 1, 0, 0), 50],
  [
    'an extension twice',
    buildHello({
      extensions: [
        [23, Buffer.alloc(0)],
        [23, Buffer.alloc(0)],
      ],
    }),
    47,
  ],
  ['a vector past the end', buildHello({ extensions: [[10, Buffer.of(0, 99)]] }), 50],
  ['bytes behind a list', buildHello({ extensions: [[10, Buffer.of(0, 2, 0, 29, 0)]] }), 50],
  ['bytes behind the extensions', longer, 50],
  ['an empty list of names', buildHello({ extensions: [[0, Buffer.of(0, 0)]] }), 50],
  ['an empty list of groups', buildHello({ extensions: [[10, Buffer.of(0, 0)]] }), 50],
  ['an empty list of application protocols', buildHello({ extensions: [[16, Buffer.of(0, 0)]] }), 50],
  ['an application protocol without a name', buildHello({ extensions: [[16, Buffer.of(0, 4, 2, 0x68, 0x32, 0)]] }), 50],
  ['a status request without a type', buildHello({ extensions: [[5, Buffer.alloc(0)]] }), 50],
  ['an odd list of versions', buildHello({ extensions: [[43, Buffer.of(3, 3, 4, 3)]] }), 50],
];
for (const [what, bytes, alert] of refused) {
  test(`refused: ${what}`, () => assert.throws(() => readClientHello(bytes), { name: 'TlsAlert', alert }));
}

test('one byte a record cannot be read for ever', () => {
  const endless = Buffer.concat(Array.from({ length: maxHelloSize / 6 + 2 }, (_, i) => Buffer.of(22, 3, 1, 0, 1, i === 0 ? 1 : 0x7f * Number(i === 2))));
  assert.throws(() => readClientHello(endless), TlsAlert);
});
