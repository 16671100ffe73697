import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type TestContext } from 'node:test';
import { answering } from './support/backend.ts';
import { configOf, type Keys } from './support/config.ts';
import { startFront, type TestFront } from './support/front.ts';

const certificates = [{ certificate: 'a.pem', key: 'a.key' }];
const sites = [
  { server_name: 'a.test', aliases: ['*.a.test'], certificates },
  { server_name: '*.b.test', aliases: ['b.test'], default: true, certificates },
];

async function httpFront(t: TestContext, backend: string, top: Keys = {}, isDefault = true): Promise<TestFront> {
  const virtual_hosts = sites.map((site) => ({ ...site, default: isDefault && site.default === true, backends: [backend] }));
  return startFront(t, configOf({}, { virtual_hosts, ...top }), { protocol: 'http', virtualHost: undefined, localPort: 80 });
}

function location(head: string): string | undefined {
  return /^location: (.*)$/im.exec(head)?.[1];
}

function get(host: string, target = '/'): string {
  return `GET ${target} HTTP/1.1\r\nHost: ${host}\r\n\r\n`;
}

test('the http listener redirects to the same path on https, under configured names only', async (t) => {
  const backend = await answering().listen(t);
  const front = await httpFront(t, backend.url);
  const cases = [
    ['a.test', '/x//y?z=%20', 'https://a.test/x//y?z=%20'],
    ['A.test.:80', '/', 'https://a.test/'],
    ['x.a.test', '/', 'https://x.a.test/'],
    ['evil.example', '//evil.example/', 'https://b.test//evil.example/'],
    ['192.0.2.1', '/', 'https://b.test/'],
    ['x.y.a.test', '/', 'https://b.test/'],
    ["x'.a.test", '/', 'https://b.test/'],
  ] as const;
  for (const [host, target, expected] of cases) {
    const { status, head } = await front.ask(get(host, target));
    assert.deepEqual([status, location(head)], [308, expected], host);
  }
  const post = await front.ask('POST /form HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc');
  assert.deepEqual([post.status, location(post.head)], [308, 'https://a.test/form']);
  assert.equal((await front.ask('GET / HTTP/1.0\r\n\r\n')).status, 308);
  assert.equal(backend.connections.length, 0);
});

test('without a default virtual host unknown names are not redirected anywhere', async (t) => {
  const front = await httpFront(t, 'http://127.0.0.1:1', {}, false);
  assert.equal((await front.ask(get('evil.example'))).status, 404);
});

test('the port of the https listener is named when it is not 443', async (t) => {
  const listen = [{ address: '127.0.0.1:80', protocol: 'http' }, { address: '127.0.0.1:8443' }];
  const front = await httpFront(t, 'http://127.0.0.1:1', { listen });
  assert.equal(location((await front.ask(get('a.test'))).head), 'https://a.test:8443/');
});

test('ACME challenges come from the folder, by token and nothing else', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'acme-'));
  t.after(() => rm(folder, { recursive: true }));
  await writeFile(join(folder, 'token_-1'), 'token_-1.thumbprint');
  await writeFile(join(folder, 'with.dot'), 'no');
  await writeFile(join(folder, 'huge'), 'x'.repeat(20_000));
  await mkdir(join(folder, 'folder'));
  await symlink('/etc/passwd', join(folder, 'link'));
  const backend = await answering().listen(t);
  const front = await httpFront(t, backend.url, { acme_challenge_dir: folder });
  const challenge = (token: string): string => get('anything.example', `/.well-known/acme-challenge/${token}`);
  const found = await front.ask(challenge('token_-1'));
  assert.deepEqual([found.status, found.body], [200, 'token_-1.thumbprint']);
  for (const token of ['', 'missing', 'with.dot', 'huge', 'folder', 'link', '..%2ftoken_-1', '../../../etc/passwd', 'token_-1/', 'a'.repeat(300)]) {
    assert.equal((await front.ask(challenge(token))).status, 404, token);
  }
  assert.equal(backend.connections.length, 0);
});

test("without a folder the virtual host's backend answers ACME challenges", async (t) => {
  const backend = await answering('from the backend').listen(t);
  const front = await httpFront(t, backend.url);
  const { status, body } = await front.ask(get('a.test', '/.well-known/acme-challenge/x'));
  assert.deepEqual([status, body], [200, 'from the backend']);
  assert.match(backend.text, /^GET \/.well-known\/acme-challenge\/x HTTP\/1.1\r\n/);
  assert.match(backend.text, /^X-Forwarded-Proto: http\r$/m);
  // Nobody opens a tunnel around TLS.
  const upgrade = 'Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n';
  assert.equal((await front.ask(`${get('a.test', '/.well-known/acme-challenge/x').slice(0, -2)}${upgrade}`)).status, 200);
  assert.doesNotMatch(backend.text, /upgrade:/i);
});

test('no other path gets past the redirect as an ACME challenge', async (t) => {
  const backend = await answering().listen(t);
  const front = await httpFront(t, backend.url);
  for (const token of ['../../secret', '..;/..;/secret', '%2e%2e/%2e%2e/secret', 'x/../../../secret', '']) {
    assert.equal((await front.ask(get('a.test', `/.well-known/acme-challenge/${token}`))).status, 404, token);
  }
  assert.equal(backend.connections.length, 0);
});
