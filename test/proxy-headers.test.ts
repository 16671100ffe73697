import assert from 'node:assert/strict';
import test from 'node:test';
import { type Origin, forwardedFields as forwardedOf, type Vouching, vouchingFields } from '../src/proxy/forwarded.ts';
import * as rules from '../src/proxy/headers.ts';
import { configOf } from './support/config.ts';

type Pair = readonly [name: string, value: string];
const listOf = (pairs: readonly Pair[]): rules.Field[] => pairs.map(([name, value]) => rules.field(name, value));
const pairsOf = (fields: readonly rules.Field[]): Pair[] => fields.map(({ name, value }) => [name, value]);
const names = (pairs: readonly Pair[]): string[] => pairs.map(([name]) => name);

const requestFields = (pairs: readonly Pair[], upgrade: boolean): Pair[] => pairsOf(rules.requestFields(listOf(pairs), upgrade));
const responseFields = (status: number, pairs: readonly Pair[]): Pair[] => pairsOf(rules.responseFields(status, listOf(pairs)));
const trailerFields = (trailers: readonly Pair[]): Pair[] => pairsOf(rules.trailerFields(listOf(trailers)));

/** Who vouches for what, where a.test tells its backend about client certificates in these fields. */
function vouching(trusted: boolean, clientCertificate: Vouching['clientCertificate'], forward: object = {}): Vouching {
  const config = configOf({ backends: ['http://127.0.0.1:1'], tls: { client_auth: { forward } } });
  return { trusted, vouches: vouchingFields(config), virtualHost: config.virtualHosts[0]!, clientCertificate };
}
const forwardedFields = (pairs: readonly Pair[], origin: Origin, trusted: boolean): Pair[] =>
  pairsOf(forwardedOf(listOf(pairs), origin, vouching(trusted, undefined)));

test('order, case and repetition of end-to-end fields are kept', () => {
  const fields: Pair[] = [
    ['X-b', '1'],
    ['x-A', '2'],
    ['X-B', '3'],
    ['Cookie', 'a'],
    ['Host', 'a.test'],
  ];
  assert.deepEqual(requestFields(fields, false), fields);
  assert.deepEqual(responseFields(200, fields), fields);
});

test('fields of one connection stop here', () => {
  const hops = ['Connection', 'Keep-Alive', 'Proxy-Connection', 'TE', 'Trailer', 'Upgrade', 'HTTP2-Settings'].map((name): Pair => [name, 'x']);
  assert.deepEqual(requestFields([...hops, ['A', '1']], false), [['A', '1']]);
  assert.deepEqual(responseFields(200, [...hops, ['Transfer-Encoding', 'chunked'], ['A', '1']]), [['A', '1']]);
});

test('Connection takes away what it lists, but never the framing or Host', () => {
  const fields: Pair[] = [
    ['Connection', 'close, x-secret , Content-Length'],
    ['connection', 'HOST, transfer-encoding'],
    ['X-Secret', '1'],
    ['Content-Length', '5'],
    ['Transfer-Encoding', 'chunked'],
    ['Host', 'a.test'],
  ];
  assert.deepEqual(names(requestFields(fields, false)), ['Content-Length', 'Transfer-Encoding', 'Host']);
  assert.deepEqual(names(responseFields(200, fields)), ['Content-Length', 'Host']);
});

test('Connection takes nothing away of what proxies say about the client', () => {
  const said = ['Forwarded', 'X-Forwarded-For', 'X-Forwarded-Proto', 'X-Forwarded-Host', 'X-Forwarded-Port', 'X-Real-IP'];
  const fields = [['Connection', said.join()] as const, ...said.map((name): Pair => [name, '1'])];
  assert.deepEqual(names(requestFields(fields, false)), said);
});

test('only blanks and tabs are trimmed from the names in a list', () => {
  const fields: Pair[] = [
    ['Connection', 'a\t,\xa0b'],
    ['A', '1'],
    ['B', '2'],
  ];
  assert.deepEqual(names(requestFields(fields, false)), ['B']);
});

test('TE is reduced to trailers, and listed in Connection', () => {
  assert.deepEqual(requestFields([['TE', 'gzip;q=1, Trailers']], false), [
    ['Connection', 'keep-alive, TE'],
    ['TE', 'trailers'],
  ]);
  assert.deepEqual(requestFields([['TE', 'deflate']], false), []);
});

test('Expect and Proxy are not passed on', () => {
  assert.deepEqual(
    requestFields(
      [
        ['Expect', '100-continue'],
        ['PROXY', 'http://evil/'],
      ],
      false,
    ),
    [],
  );
});

test('a WebSocket handshake gets its own Connection and Upgrade', () => {
  const fields: Pair[] = [
    ['Connection', 'Upgrade, X-Gone'],
    ['Upgrade', 'WebSocket'],
    ['X-Gone', '1'],
    ['Sec-WebSocket-Key', 'k'],
  ];
  assert.deepEqual(requestFields(fields, true), [
    ['Sec-WebSocket-Key', 'k'],
    ['Connection', 'Upgrade'],
    ['Upgrade', 'websocket'],
  ]);
});

test('a 204 has no Content-Length', () => {
  assert.deepEqual(
    responseFields(204, [
      ['Content-Length', '0'],
      ['A', '1'],
    ]),
    [['A', '1']],
  );
  assert.deepEqual(names(responseFields(304, [['Content-Length', '10']])), ['Content-Length']);
});

test('what matters before the body is no trailer', () => {
  const trailers: Pair[] = [
    ['X-Sum', '1'],
    ['Content-Length', '2'],
    ['Set-Cookie', 'a'],
    ['transfer-encoding', 'chunked'],
  ];
  assert.deepEqual(trailerFields(trailers), [['X-Sum', '1']]);
});

const origin = { clientAddress: '192.0.2.7', protocol: 'https' as const, port: 443, authority: 'A.test:443' };
const ours: Pair[] = [
  ['X-Forwarded-For', '192.0.2.7'],
  ['X-Forwarded-Proto', 'https'],
  ['X-Forwarded-Host', 'A.test:443'],
  ['X-Forwarded-Port', '443'],
];

test("a stranger's claims about the client are removed in every spelling", () => {
  const claims = `X-Forwarded-For x_forwarded_for X-Forwarded_Host X-Forwarded-Anything Forwarded X-Real-IP X_Real_IP
    X-Forwarded x_forwarded X-Forwarded-Client-Cert X-Forwarded-Tls-Client-Cert Client-Cert Client_Cert_Chain X-SSL-Client-Verify X_SSL_Client_S_DN
    SSL-Client-Cert SSL_CLIENT_S_DN X-Client-Cert X_Client_Cert X-Client-Cert-Hash X-Client-Verify X-SSL-Cert X-ARR-ClientCert
    x_arr_clientcert X-Amzn-Mtls-Clientcert-Subject X.Forwarded.For X!Forwarded~For x-forwarded+proto X|Real^IP Client.Cert SSL-Client%S`.split(/\s+/);
  const fields = claims.map((name): Pair => [name, '127.0.0.1']);
  assert.deepEqual(forwardedFields([...fields, ['A', '1']], origin, false), [['A', '1'], ...ours]);
});

test('a listener without a port does not claim one', () => {
  assert.deepEqual(forwardedFields([], { ...origin, port: 0 }, false), ours.slice(0, 3));
});

test("a trusted proxy's fields stay, and it is appended to the chain", () => {
  const theirs: Pair[] = [
    ['X-Forwarded-For', '198.51.100.1'],
    ['x-forwarded-for', '198.51.100.2, 198.51.100.3'],
    ['X-Forwarded-Proto', 'http'],
    ['X-Real-IP', '198.51.100.1'],
    ['X_Forwarded_Host', 'evil'],
    ['X.Forwarded.For', 'evil'],
  ];
  assert.deepEqual(forwardedFields(theirs, origin, true), [
    ['X-Forwarded-Proto', 'http'],
    ['X-Real-IP', '198.51.100.1'],
    ['X-Forwarded-For', '198.51.100.1, 198.51.100.2, 198.51.100.3, 192.0.2.7'],
    ['X-Forwarded-Host', 'A.test:443'],
    ['X-Forwarded-Port', '443'],
  ]);
});

test('what is told about a client certificate stands in the configured fields, and comes from nobody else', () => {
  const forward = { 'X-User-DN': 'subject', SSL_CLIENT_VERIFY: 'verify', 'Client-Cert-Chain': 'chain', 'X-Serial': 'serial' };
  const theirs = ['X-User-DN', 'x_user_dn', 'x.user!dn', 'SSL_CLIENT_VERIFY', 'ssl-client-verify', 'Client-Cert-Chain', 'X-SERIAL'].map((name): Pair => [
    name,
    'CN=admin',
  ]);
  const fields = (trusted: boolean, values: Vouching['clientCertificate']) =>
    pairsOf(forwardedOf(listOf([...theirs, ['X-Real-IP', '198.51.100.1']]), origin, vouching(trusted, values, forward)));

  const known = { verify: 'SUCCESS', subject: 'CN=client', chain: '', serial: '0A' };
  const told: Pair[] = [...ours, ['X-User-DN', 'CN=client'], ['SSL_CLIENT_VERIFY', 'SUCCESS'], ['X-Serial', '0A']];
  assert.deepEqual(fields(false, known), told);
  assert.deepEqual(fields(true, known), [['X-Real-IP', '198.51.100.1'], ...told], 'a trusted proxy is not believed about what we see ourselves');
  assert.deepEqual(fields(false, { verify: 'NONE' }), [...ours, ['SSL_CLIENT_VERIFY', 'NONE']]);
  assert.deepEqual(fields(false, undefined), ours, 'a connection that was not asked for a certificate');
  // Where we do not ask, the proxy in front may have done.
  const kept = theirs.filter(([name]) => !/[_.]/.test(name));
  assert.deepEqual(fields(true, undefined), [...kept, ['X-Real-IP', '198.51.100.1'], ...ours]);
});

test('no client can send a field that another virtual host sets', () => {
  const host = (name: string, tls: object) => ({
    server_name: name,
    certificates: [{ certificate: 'a.pem', key: 'a.key' }],
    backends: ['http://127.0.0.1:1'],
    tls,
  });
  const config = configOf(
    {},
    { virtual_hosts: [host('a.test', {}), host('b.test', { client_auth: { mode: 'require', ca: 'ca.pem', forward: { 'X-User': 'subject' } } })] },
  );
  const open = { trusted: false, vouches: vouchingFields(config), virtualHost: config.virtualHosts[0]!, clientCertificate: undefined };
  assert.deepEqual(
    pairsOf(
      forwardedOf(
        listOf([
          ['X_User', 'CN=admin'],
          ['x-user', 'CN=admin'],
        ]),
        origin,
        open,
      ),
    ),
    ours,
  );
});
