import assert from 'node:assert/strict';
import test from 'node:test';
import { type Origin, forwardedFields as forwardedOf } from '../src/proxy/forwarded.ts';
import * as rules from '../src/proxy/headers.ts';

type Pair = readonly [name: string, value: string];
const listOf = (pairs: readonly Pair[]): rules.Field[] => pairs.map(([name, value]) => rules.field(name, value));
const pairsOf = (fields: readonly rules.Field[]): Pair[] => fields.map(({ name, value }) => [name, value]);
const names = (pairs: readonly Pair[]): string[] => pairs.map(([name]) => name);

const requestFields = (pairs: readonly Pair[], upgrade: boolean): Pair[] => pairsOf(rules.requestFields(listOf(pairs), upgrade));
const responseFields = (status: number, pairs: readonly Pair[]): Pair[] => pairsOf(rules.responseFields(status, listOf(pairs)));
const trailerFields = (request: readonly Pair[], trailers: readonly Pair[]): Pair[] => pairsOf(rules.trailerFields(listOf(request), listOf(trailers)));
const forwardedFields = (pairs: readonly Pair[], origin: Origin, trusted: boolean): Pair[] => pairsOf(forwardedOf(listOf(pairs), origin, trusted));

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

test('trailers pass only to who asked, and never fields that matter before the body', () => {
  const trailers: Pair[] = [
    ['X-Sum', '1'],
    ['Content-Length', '2'],
    ['Set-Cookie', 'a'],
    ['transfer-encoding', 'chunked'],
  ];
  assert.deepEqual(trailerFields([['TE', 'trailers']], trailers), [['X-Sum', '1']]);
  assert.deepEqual(trailerFields([], trailers), []);
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
    Client-Cert Client_Cert_Chain X-SSL-Client-Verify SSL_CLIENT_S_DN`.split(/\s+/);
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
  ];
  assert.deepEqual(forwardedFields(theirs, origin, true), [
    ['X-Forwarded-Proto', 'http'],
    ['X-Real-IP', '198.51.100.1'],
    ['X-Forwarded-For', '198.51.100.1, 198.51.100.2, 198.51.100.3, 192.0.2.7'],
    ['X-Forwarded-Host', 'A.test:443'],
    ['X-Forwarded-Port', '443'],
  ]);
});
