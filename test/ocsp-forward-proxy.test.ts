import assert from 'node:assert/strict';
import { once } from 'node:events';
import https from 'node:https';
import net, { type AddressInfo } from 'node:net';
import test, { after, before, describe } from 'node:test';
import tls from 'node:tls';
import { signResponse } from '../src/demo/ocsp-signer.ts';
import { proxyFor } from '../src/ocsp/forward-proxy.ts';
import { getPath } from '../src/ocsp/request.ts';
import { isOutage } from '../src/ocsp/responder-error.ts';
import { FaultyResponder, unreachableUrl } from './support/faulty-responder.ts';
import { ForwardProxy } from './support/forward-proxy.ts';
import { ask, authority, failure, request, subject } from './support/question.ts';
import { VirtualClock } from './support/virtual-clock.ts';

describe('which proxy', () => {
  const choice = (url: string, setting: string | undefined, environment: NodeJS.ProcessEnv = {}): string | undefined =>
    proxyFor(new URL(url), setting, environment)?.name;
  const responder = 'http://ocsp.example.org/';

  test('none without a setting and without the environment', () => {
    assert.equal(choice(responder, undefined), undefined);
    assert.equal(choice(responder, undefined, { http_proxy: '', HTTP_PROXY: '' }), undefined);
  });

  test('the setting goes before the environment, and none is none', () => {
    const environment = { http_proxy: 'http://other:1' };
    assert.equal(choice(responder, 'http://proxy:3128', environment), 'http://proxy:3128');
    assert.equal(choice(responder, 'http://proxy', environment), 'http://proxy');
    assert.equal(proxyFor(new URL(responder), 'http://proxy', {})?.port, 80);
    assert.equal(proxyFor(new URL(responder), 'http://[2001:db8::1]:3128', {})?.hostname, '2001:db8::1');
    assert.equal(choice(responder, 'none', environment), undefined);
  });

  test('the variable of the scheme, then all_proxy; lower case before upper case; the scheme http:// may be missing', () => {
    const environment = { http_proxy: 'http://lower:1', HTTP_PROXY: 'http://upper:1', HTTPS_PROXY: 'secure:2', ALL_PROXY: 'http://all:3' };
    assert.equal(choice(responder, undefined, environment), 'http://lower:1');
    assert.equal(choice('https://ocsp.example.org/', undefined, environment), 'http://secure:2');
    assert.equal(choice(responder, undefined, { ALL_PROXY: 'http://all:3' }), 'http://all:3');
    assert.equal(choice(responder, undefined, { HTTP_PROXY: 'http://upper:1', https_proxy: 'http://secure:2' }), 'http://upper:1');
  });

  test('no_proxy: a name and what lies below it, an address, or everything', () => {
    const reached = (host: string, no_proxy: string): boolean => choice(`http://${host}/`, 'http://proxy:1', { no_proxy }) !== undefined;
    for (const [host, list] of [
      ['ocsp.example.org', 'example.org'],
      ['ocsp.example.org', 'foo, .Example.ORG'],
      ['ocsp.example.org', 'foo ocsp.example.org'],
      ['ocsp.example.org.', 'example.org'],
      ['anything', '*'],
      ['10.1.2.3', '10.1.2.3'],
      ['[2001:db8::1]', '2001:db8::1'],
      ['[2001:db8::1]', '[2001:db8::1]'],
    ] as const)
      assert.equal(reached(host, list), false, `${host} ${list}`);
    for (const [host, list] of [
      ['badexample.org', 'example.org'],
      ['example.org.evil', 'example.org'],
      ['ocsp.example.org', '*.example.org'],
      ['10.1.2.3', '2.3, 10.0.0.0/8'],
      ['ocsp.example.org', ', ,.'],
    ] as const)
      assert.equal(reached(host, list), true, `${host} ${list}`);
    assert.equal(choice(responder, undefined, { http_proxy: 'http://p:1', NO_PROXY: 'example.org' }), undefined);
  });

  test('what is on this machine is not asked through a proxy', () => {
    for (const host of ['localhost', 'ocsp.localhost', '127.0.0.1', '127.8.8.8', '[::1]'])
      assert.equal(choice(`http://${host}:8080/`, 'http://proxy:1', { http_proxy: 'http://other:1' }), undefined, host);
  });

  test('an environment that names no http proxy is an error, not a way around the proxy', () => {
    for (const text of ['socks5://proxy:1080', 'https://proxy:443', 'http://'])
      assert.throws(() => choice(responder, undefined, { http_proxy: text }), { code: 'responder_proxy' });
  });

  test('credentials are decoded, and are not in the name', () => {
    const { name, authorization } = proxyFor(new URL(responder), 'http://us%40er:p%3A100%@proxy:3128', {}) ?? {};
    assert.deepEqual([name, authorization], ['http://proxy:3128', `Basic ${btoa('us@er:p%3A100%')}`]);
    assert.equal(proxyFor(new URL(responder), 'http://user:p%3Aw@proxy:3128', {})?.authorization, `Basic ${btoa('user:p:w')}`);
    assert.equal(proxyFor(new URL(responder), 'http://proxy:3128', {})?.authorization, undefined);
  });
});

test('an http responder is asked in absolute form, with its own Host and the credentials', async () => {
  await using responder = await FaultyResponder.start(authority);
  await using proxy = await ForwardProxy.start(responder.port);
  const { accepted, method } = await ask('http://ocsp.example.org/ca1/', { proxy: `http://user:secret@${proxy.authority}` });
  assert.deepEqual([accepted.certStatus, method], ['good', 'GET']);
  assert.deepEqual(proxy.seen, [`GET http://ocsp.example.org/ca1/${getPath(request)}`]);
  assert.deepEqual([proxy.hosts, proxy.credentials], [['ocsp.example.org'], [`Basic ${btoa('user:secret')}`]]);

  await ask('http://ocsp.example.org:8080/?ca=1', { proxy: proxy.url });
  assert.deepEqual(proxy.seen.slice(1), ['POST http://ocsp.example.org:8080/?ca=1']);
  assert.deepEqual([proxy.hosts.at(-1), proxy.credentials.at(-1)], ['ocsp.example.org:8080', undefined]);
  assert.deepEqual(responder.requests.at(-1)?.der, request);
});

test('the environment is obeyed', async (t) => {
  await using responder = await FaultyResponder.start(authority);
  await using proxy = await ForwardProxy.start(responder.port);
  const before = process.env['http_proxy'];
  t.after(() => {
    if (before === undefined) delete process.env['http_proxy'];
    else process.env['http_proxy'] = before;
  });
  process.env['http_proxy'] = proxy.url;
  assert.equal((await ask('http://ocsp.example.org')).accepted.certStatus, 'good');
  assert.equal(proxy.seen.length, 1);
});

test('redirects are followed through the proxy, at most twice', async () => {
  await using responder = await FaultyResponder.start(authority, 'redirects_once');
  await using proxy = await ForwardProxy.start(responder.port);
  assert.equal((await ask('http://ocsp.example.org', { proxy: proxy.url })).accepted.certStatus, 'good');
  assert.deepEqual(proxy.seen, [`GET http://ocsp.example.org/${getPath(request)}`, `GET http://ocsp.example.org/moved/${getPath(request)}`]);
  responder.fault = 'redirects_forever';
  await failure(ask('http://ocsp.example.org/?post', { proxy: proxy.url }), 'responder_redirect');
});

test('refused addresses are not asked for through the proxy either, directly or by a redirect', async () => {
  await using responder = await FaultyResponder.start(authority, 'redirects_to_metadata');
  await using proxy = await ForwardProxy.start(responder.port);
  await failure(ask('http://169.254.169.254/', { proxy: proxy.url }), 'responder_refused_address');
  assert.deepEqual(proxy.seen, []);
  await failure(ask('http://ocsp.example.org/?post', { proxy: proxy.url }), 'responder_refused_address');
  assert.deepEqual(proxy.seen, ['POST http://ocsp.example.org/?post']);
});

test('a proxy that wants credentials, or is not there, is named without its own', async () => {
  await using responder = await FaultyResponder.start(authority);
  await using proxy = await ForwardProxy.start(responder.port);
  proxy.status = 407;
  const refused = await failure(ask('http://ocsp.example.org', { proxy: `http://user:secret@${proxy.authority}` }), 'responder_proxy');
  assert.equal(refused.message, `responder http://ocsp.example.org cannot be asked: the proxy ${proxy.url} answered HTTP 407 (ocsp.http_proxy)`);
  assert.equal(proxy.seen.length, 1);
  assert.ok(isOutage(refused));

  const nobody = (await unreachableUrl()).replace('http://', '');
  const gone = await failure(ask('http://ocsp.example.org', { proxy: `http://user:secret@${nobody}` }), 'responder_unreachable');
  assert.match(gone.message, new RegExp(`gave no complete answer through the proxy http://${nobody}: .*ECONNREFUSED`));
  assert.doesNotMatch(refused.message + gone.message, /secret/);
});

describe('an https responder through a tunnel', () => {
  let server: https.Server;
  let url: string;
  before(async () => {
    const { certificate, key } = authority;
    const { chainPem, keyPem } = await authority.issue({ names: ['ocsp.example.org', '10.9.8.7'] });
    server = https.createServer({ cert: chainPem, key: keyPem }, (incoming, response) => {
      incoming.resume();
      response
        .writeHead(200, { 'content-type': 'application/ocsp-response' })
        .end(signResponse({ signer: { certificate, key }, entries: [{ certId: subject }] }));
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    url = `https://ocsp.example.org:${(server.address() as AddressInfo).port}/`;
    tls.setDefaultCACertificates([...tls.getCACertificates('default'), authority.pem]);
  });
  after(() => server.close());
  const port = (): number => (server.address() as AddressInfo).port;

  test('is asked over TLS that the proxy does not see into', async () => {
    await using proxy = await ForwardProxy.start(port());
    const { accepted } = await ask(url, { proxy: `http://user:secret@${proxy.authority}` });
    assert.equal(accepted.certStatus, 'good');
    assert.deepEqual(proxy.seen, [`CONNECT ocsp.example.org:${port()}`]);
    assert.deepEqual(proxy.credentials, [`Basic ${btoa('user:secret')}`]);
    assert.equal((await ask('https://10.9.8.7/', { proxy: proxy.url })).accepted.certStatus, 'good');
    await failure(ask('https://other.example.org/', { proxy: proxy.url }), 'responder_unreachable');
  });

  test('a proxy that opens no tunnel is an error that says so, with its Retry-After', async () => {
    await using proxy = await ForwardProxy.start(1);
    proxy.tunnels = 'refuses';
    const { message, retryAfter } = await failure(ask(url, { proxy: proxy.url }), 'responder_proxy');
    assert.match(message, /answered HTTP 403 \(ocsp\.http_proxy\)$/);
    assert.equal(retryAfter, 60_000);
    proxy.tunnels = 'wants_credentials';
    await failure(ask(url, { proxy: proxy.url }), 'responder_proxy');
    assert.equal(proxy.seen.length, 2);
  });

  for (const tunnels of ['hangs', 'silent'] as const) {
    test(`the deadline ends a tunnel that ${tunnels === 'hangs' ? 'does not open' : 'opens and stays silent'}`, async () => {
      await using proxy = await ForwardProxy.start(1);
      proxy.tunnels = tunnels;
      const clock = new VirtualClock();
      const asked = proxy.tunnelled();
      const answer = ask(url, { proxy: proxy.url, clock });
      await asked;
      const hungUp = proxy.hungUp();
      clock.advance(10_000);
      await failure(answer, 'responder_timeout');
      await hungUp;
    });
  }

  test('a proxy that speaks something else is an outage', async () => {
    const server = net.createServer((socket) => socket.end('SSH-2.0-OpenSSH\r\n')).listen(0, '127.0.0.1');
    await once(server, 'listening');
    await failure(ask(url, { proxy: `http://127.0.0.1:${(server.address() as AddressInfo).port}` }), 'responder_unreachable');
    server.close();
  });
});
