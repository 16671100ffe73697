import assert from 'node:assert/strict';
import test from 'node:test';
import { ProxyError, type ProxyErrorCode } from '../src/proxy/proxy-error.ts';
import { fieldsFromRaw } from '../src/proxy/headers.ts';
import { parseRequestHead as parse, readFields, type RequestHead } from '../src/proxy/request-head.ts';

const HOST = ['Host', 'a.test'];

type Version = '1.0' | '1.1';

function parseRequestHead(method: string, target: string, version: Version, raw: readonly string[]): RequestHead {
  return parse(method, target, readFields(version, fieldsFromRaw(raw)));
}

function refused(code: ProxyErrorCode, method: string, target: string, version: Version, raw: string[]): void {
  assert.throws(
    () => parseRequestHead(method, target, version, raw),
    (error: unknown) => error instanceof ProxyError && error.code === code,
    `${method} ${target} HTTP/${version} ${JSON.stringify(raw).slice(0, 200)} should be ${code}`,
  );
}

test('Host: exactly one on 1.1, and host[:port]', () => {
  refused('bad_host', 'GET', '/', '1.1', []);
  refused('bad_host', 'GET', '/', '1.1', [...HOST, 'host', 'a.test']);
  for (const value of [
    '',
    'a.test,b.test',
    'user@a.test',
    'a.test/x',
    'a test',
    'a.test:port',
    'a.test:123456',
    'a.test?x',
    'a.test#x',
    '[::1',
    '::1',
    'a\\b',
  ]) {
    refused('bad_host', 'GET', '/', '1.1', ['Host', value]);
  }
  assert.equal(parseRequestHead('GET', '/', '1.0', []).host, undefined);
  const hosts = ['A.Test', 'a.test.', 'a.test:443', 'A.TEST.:8443', 'a.test:'].map((value) => parseRequestHead('GET', '/', '1.1', ['Host', value]).host);
  assert.deepEqual(new Set(hosts), new Set(['a.test']));
  assert.equal(parseRequestHead('GET', '/', '1.1', ['Host', '[2001:db8::1]:443']).host, '[2001:db8::1]');
});

test('the target is a path, a URL for the same host, or * for OPTIONS', () => {
  for (const target of ['*', 'a.test:443', 'x', '', '/a#b', '/a b', '/a\0', '/\x7f', '/\xe9', 'ftp://a.test/', 'http:///x', 'http://user@a.test/']) {
    refused('bad_target', 'GET', target, '1.1', HOST);
  }
  refused('bad_host', 'GET', 'http://b.test/', '1.1', HOST);
  const { target, path, host } = parseRequestHead('GET', 'https://A.test/x//y?q=/z?', '1.1', HOST);
  assert.deepEqual({ target, path, host }, { target: '/x//y?q=/z?', path: '/x//y', host: 'a.test' });
  assert.equal(parseRequestHead('GET', 'http://a.test?q', '1.1', HOST).target, '/?q');
  assert.equal(parseRequestHead('OPTIONS', 'http://a.test', '1.1', HOST).target, '*');
  assert.equal(parseRequestHead('OPTIONS', '*', '1.1', HOST).target, '*');
});

test('CONNECT and TRACE are not served', () => {
  refused('method_not_allowed', 'CONNECT', 'a.test:443', '1.1', HOST);
  refused('method_not_allowed', 'TRACE', '/', '1.1', HOST);
});

test('framing that two readers could understand differently is refused', () => {
  const length = (value: string): string[] => [...HOST, 'Content-Length', value];
  for (const value of ['', '-1', '+1', '0x1', '1e1', '1 1', '1,1', '1.0', '9007199254740992', '99999999999999999'])
    refused('bad_framing', 'POST', '/', '1.1', length(value));
  refused('bad_framing', 'POST', '/', '1.1', [...length('1'), 'content-length', '1']);
  refused('bad_framing', 'POST', '/', '1.1', [...length('1'), 'Transfer-Encoding', 'chunked']);
  refused('bad_framing', 'POST', '/', '1.0', [...HOST, 'Transfer-Encoding', 'chunked']);
  for (const value of ['', 'gzip', 'gzip, chunked', 'chunked, chunked', 'chunked;x', 'identity', 'xchunked', '"chunked"']) {
    refused('unsupported_transfer_coding', 'POST', '/', '1.1', [...HOST, 'Transfer-Encoding', value]);
  }
  refused('unsupported_transfer_coding', 'POST', '/', '1.1', [...HOST, 'Transfer-Encoding', 'chunked', 'Transfer-Encoding', 'chunked']);
  assert.equal(parseRequestHead('DELETE', '/', '1.1', [...HOST, 'transfer-encoding', 'Chunked']).framing, 'chunked');
  assert.equal(parseRequestHead('GET', '/', '1.1', length('007')).framing, 7);
  assert.equal(parseRequestHead('GET', '/', '1.1', HOST).framing, 'none');
});

test('Expect: only 100-continue, and nothing on 1.0', () => {
  refused('expectation_failed', 'POST', '/', '1.1', [...HOST, 'Expect', 'the unexpected']);
  refused('expectation_failed', 'POST', '/', '1.1', [...HOST, 'Expect', '100-continue, x']);
  const body = [...HOST, 'Content-Length', '1'];
  assert.equal(parseRequestHead('POST', '/', '1.1', [...body, 'Expect', '100-Continue']).facts.expectContinue, true);
  assert.equal(parseRequestHead('POST', '/', '1.0', [...body, 'Expect', '100-continue']).facts.expectContinue, false);
  assert.equal(parseRequestHead('POST', '/', '1.1', [...HOST, 'Expect', '100-continue']).facts.expectContinue, false, 'there is no body to wait for');
});

test('a WebSocket handshake is a bodyless GET on 1.1 that asks for nothing else', () => {
  const fields = [...HOST, 'Connection', 'keep-alive, Upgrade', 'Upgrade', 'WebSocket'];
  assert.equal(parseRequestHead('GET', '/', '1.1', fields).webSocket, true);
  assert.equal(parseRequestHead('POST', '/', '1.1', fields).webSocket, false);
  assert.equal(parseRequestHead('GET', '/', '1.0', fields).webSocket, false);
  assert.equal(parseRequestHead('GET', '/', '1.1', [...fields, 'Content-Length', '1']).webSocket, false);
  assert.equal(parseRequestHead('GET', '/', '1.1', [...HOST, 'Connection', 'Upgrade', 'Upgrade', 'h2c']).webSocket, false);
  assert.equal(parseRequestHead('GET', '/', '1.1', [...HOST, 'Connection', 'Upgrade', 'Upgrade', 'websocket, h2c']).webSocket, false);
  assert.equal(parseRequestHead('GET', '/', '1.1', [...HOST, 'Upgrade', 'websocket']).webSocket, false);
});
