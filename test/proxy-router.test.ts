import assert from 'node:assert/strict';
import test from 'node:test';
import { ProxyError } from '../src/proxy/proxy-error.ts';
import { Router, chooseRoute, forwardedTarget, type Site } from '../src/proxy/router.ts';
import { Upstreams } from '../src/proxy/upstream.ts';
import { configOf } from './support/config.ts';

const backends = ['http://127.0.0.1:1'];
const certificates = [{ certificate: 'a.pem', key: 'a.key' }];

function code(expected: string): (error: unknown) => boolean {
  return (error) => error instanceof ProxyError && error.code === expected;
}

function siteWith(...routes: { path: string; strip_prefix?: boolean }[]): Site {
  const router = new Router(configOf({ routes: routes.map((route) => ({ ...route, backends })) }), new Upstreams());
  const site = router.find('a.test');
  assert(site);
  return site;
}

function routed(site: Site, path: string): string {
  return chooseRoute(site, path).path;
}

test('a name finds its virtual host exactly, by one-label wildcard, or by default', () => {
  const virtual_hosts = [
    { server_name: 'a.test', aliases: ['*.a.test'], certificates, backends },
    { server_name: 'b.a.test', certificates, backends },
    { server_name: 'c.test', default: true, certificates, backends },
  ];
  const router = new Router(configOf({}, { virtual_hosts }), new Upstreams());
  const found = ['a.test', 'x.a.test', 'b.a.test', 'x.y.a.test', 'nowhere', undefined].map((host) => router.find(host)?.virtualHost.serverName);
  assert.deepEqual(found, ['a.test', 'a.test', 'b.a.test', 'c.test', 'c.test', 'c.test']);
  assert.equal(router.named('nowhere'), undefined);
});

test('Host must belong to the virtual host of the handshake', () => {
  const virtual_hosts = [
    { server_name: 'a.test', aliases: ['*.a.test'], certificates, backends },
    { server_name: 'b.test', default: true, certificates, backends },
  ];
  const router = new Router(configOf({}, { virtual_hosts }), new Upstreams());
  assert.equal(router.chosen('a.test', 'x.a.test').virtualHost.serverName, 'a.test');
  assert.equal(router.chosen('a.test', undefined).virtualHost.serverName, 'a.test', 'HTTP/1.0 without Host');
  assert.equal(router.chosen('b.test', '192.0.2.1').virtualHost.serverName, 'b.test', 'an unknown name on the default');
  for (const [chosen, host] of [
    ['a.test', 'b.test'],
    ['b.test', 'a.test'],
    ['a.test', 'nowhere'],
    ['gone.test', 'a.test'],
    [undefined, 'a.test'],
  ] as const) {
    assert.throws(() => router.chosen(chosen, host), code('misdirected'), `${chosen} ${host}`);
  }
});

test('the longest route on a segment border wins', () => {
  const site = siteWith({ path: '/' }, { path: '/api' }, { path: '/api/v2/' });
  const cases = {
    '/': '/',
    '/x': '/',
    '/api': '/api',
    '/api/': '/api',
    '/api/x': '/api',
    '/apix': '/',
    '/api/v2': '/api',
    '/api/v2/': '/api/v2/',
    '/api/v2/x': '/api/v2/',
    '*': '/',
  };
  for (const [path, expected] of Object.entries(cases)) assert.equal(routed(site, path), expected, path);
});

test('a path that no route covers is refused', () => {
  assert.throws(() => routed(siteWith({ path: '/api/' }), '/api'), code('no_route'));
  assert.throws(() => routed(siteWith({ path: '/api/' }), '*'), code('no_route'));
});

test('where the path decides, ambiguous paths are refused; elsewhere they pass', () => {
  const byPath = siteWith({ path: '/' }, { path: '/api/' });
  const plain = siteWith({ path: '/' });
  const ambiguous = [
    '//api/',
    '/api//x',
    '/a\\b',
    '/a%2fb',
    '/a%2Fb',
    '/a%5cb',
    '/a%5Cb',
    '/.',
    '/..',
    '/./api',
    '/a/../api/',
    '/a/%2e%2E/api/',
    '/a/.%2e/x',
    '/..;/api/',
    '/a/..',
    '/a%00/x',
  ];
  for (const path of ambiguous) {
    assert.throws(() => routed(byPath, path), code('ambiguous_path'), path);
    assert.equal(routed(plain, path), '/');
  }
  for (const path of ['/a.b', '/.well-known/x', '/a/...', '/..a', '/a%20b']) assert.equal(routed(byPath, path), '/', path);
});

test('strip_prefix removes the route and keeps the rest byte for byte', () => {
  const site = siteWith({ path: '/api/', strip_prefix: true }, { path: '/old', strip_prefix: true }, { path: '/' });
  const cases = { '/api/x?y=/api/': '/x?y=/api/', '/api/': '/', '/old': '/', '/old?q': '/?q', '/old/x': '/x', '/x': '/x' };
  for (const [target, expected] of Object.entries(cases)) {
    const route = chooseRoute(site, target.split('?')[0] ?? '');
    assert.equal(forwardedTarget(route, target), expected, target);
  }
});
