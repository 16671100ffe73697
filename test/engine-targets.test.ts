import assert from 'node:assert/strict';
import { answering, messages } from './support/backend.ts';
import { configOf } from './support/config.ts';
import { both, startFront } from './support/front.ts';

/** Host and request target (RFC 9112, 3.2): what they are routed by, and the bytes that a backend gets. */

const certificates = [{ certificate: 'a.pem', key: 'a.key' }];

function lineAnd(lines: readonly string[], pattern: RegExp): string[] {
  return lines.filter((line) => pattern.test(line));
}

both('a Host is routed by its name alone, and arrives as it was written', async (t, engine) => {
  const [backend, other] = [await answering().listen(t), await answering().listen(t)];
  const virtual_hosts = [
    { server_name: 'a.test', certificates, engine, backends: [backend.url] },
    { server_name: 'b.test', default: true, certificates, engine, backends: [other.url] },
  ];
  const front = await startFront(t, configOf({}, { virtual_hosts }));
  const client = await front.connect();
  const hosts = ['a.test', 'A.TEST', 'a.test.', 'a.test:443', 'A.Test.:8443', 'a.test:'];
  for (const host of hosts) {
    client.send(`GET / HTTP/1.1\r\nHost: ${host}\r\n\r\n`);
    assert.equal((await client.answer()).status, 200, host);
  }
  assert.deepEqual(
    messages(backend.text).map(({ lines }) => lineAnd(lines, /host:/i)),
    hosts.map((host) => [`Host: ${host}`, `X-Forwarded-Host: ${host}`]),
  );
  assert.equal(other.connections.length, 0);
});

both('an absolute target becomes a path, and its authority is the Host', async (t, engine) => {
  const backend = await answering().listen(t);
  const front = await startFront(t, configOf({ engine, backends: [backend.url] }));
  const cases: [request: string, startLine: string, hosts: string[]][] = [
    ['GET http://a.test/x?y HTTP/1.1\r\nHost: a.test', 'GET /x?y', ['Host: a.test', 'X-Forwarded-Host: a.test']],
    ['GET HTTPS://a.test//x/../y HTTP/1.1\r\nHost: a.test', 'GET //x/../y', ['Host: a.test', 'X-Forwarded-Host: a.test']],
    ['GET http://A.test HTTP/1.1\r\nHost: a.TEST', 'GET /', ['Host: a.TEST', 'X-Forwarded-Host: A.test']],
    ['GET http://a.test?y HTTP/1.1\r\nHost: a.test', 'GET /?y', ['Host: a.test', 'X-Forwarded-Host: a.test']],
    ['OPTIONS http://a.test HTTP/1.1\r\nHost: a.test', 'OPTIONS *', ['Host: a.test', 'X-Forwarded-Host: a.test']],
    ['GET http://a.test:8443/x HTTP/1.0', 'GET /x', ['Host: a.test:8443', 'X-Forwarded-Host: a.test:8443']],
    ['GET /x HTTP/1.0', 'GET /x', ['Host: a.test', 'X-Forwarded-Host: a.test']],
  ];
  for (const [request, startLine, hosts] of cases) {
    const before = backend.text.length;
    assert.equal((await front.ask(`${request}\r\n\r\n`)).status, 200, request);
    const [arrived] = messages(
      backend.connections
        .map(({ text }) => text)
        .join('')
        .slice(before),
    );
    assert.deepEqual([arrived?.startLine, lineAnd(arrived?.lines ?? [], /host:/i)], [`${startLine} HTTP/1.1`, hosts], request);
  }
});

both('where routes are chosen by path, a path of two readings reaches no backend, and the others theirs byte for byte', async (t, engine) => {
  const [root, api] = [await answering('root').listen(t), await answering('api').listen(t)];
  const routes = [
    { path: '/', backends: [root.url] },
    { path: '/api/', strip_prefix: true, backends: [api.url] },
  ];
  const front = await startFront(t, configOf({ engine, routes }));
  const client = await front.connect();
  const ambiguous = [
    '//api/x',
    '/x/../api/x',
    '/x/%2e%2E/api/x',
    '/x%2f..%2fapi/x',
    '/x\\..\\api\\x',
    '/..;/api/x',
    '/api/..',
    '/api%00/x',
    'http://a.test//api/x',
  ];
  for (const target of ambiguous) {
    client.send(`GET ${target} HTTP/1.1\r\nHost: a.test\r\n\r\n`);
    assert.equal((await client.answer()).status, 400, target);
  }
  assert.equal(root.connections.length + api.connections.length, 0);
  for (const [target, body] of [
    ['/api/v%201/..a?/../b', 'api'],
    ['/api/?x', 'api'],
    ['/api', 'root'],
    ['/API/x', 'root'],
    ['/%61pi/x', 'root'],
  ] as const) {
    client.send(`GET ${target} HTTP/1.1\r\nHost: a.test\r\n\r\n`);
    assert.equal((await client.answer()).body, body, target);
  }
  assert.deepEqual(
    [api, root].map(({ text }) => messages(text).map(({ startLine }) => startLine.split(' ')[1])),
    [
      ['/v%201/..a?/../b', '/?x'],
      ['/api', '/API/x', '/%61pi/x'],
    ],
  );
});
