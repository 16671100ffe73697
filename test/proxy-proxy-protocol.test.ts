import assert from 'node:assert/strict';
import test from 'node:test';
import { type ProxiedConnection, proxyHeader } from '../src/proxy/proxy-protocol.ts';
import { readProxyHeader } from '../src/tls/proxy-protocol.ts';

const connection = (from: string, to: string): ProxiedConnection => ({ source: { address: from, port: 56_324 }, destination: { address: to, port: 443 } });
const v2 = (one: ProxiedConnection): string => proxyHeader('v2', one).toString('hex');
const signature = '0d0a0d0a000d0a515549540a';

test('version 1 is a line, as the specification shows it', () => {
  const line = (from: string, to: string): string => proxyHeader('v1', connection(from, to)).toString('latin1');
  assert.equal(line('192.168.0.1', '192.168.0.11'), 'PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n');
  assert.equal(line('2001:db8::1', '::1'), 'PROXY TCP6 2001:db8::1 ::1 56324 443\r\n');
  assert.equal(line('192.0.2.1', '::1'), 'PROXY TCP6 ::ffff:192.0.2.1 ::1 56324 443\r\n');
  assert.equal(line('', ''), 'PROXY UNKNOWN\r\n');
});

test('version 2, octet by octet', () => {
  assert.equal(v2(connection('192.0.2.1', '10.0.0.1')), `${signature}2111000cc00002010a000001dc0401bb`);
  assert.equal(v2(connection('2001:db8::1', 'fe80::1')), `${signature}2121002420010db8000000000000000000000001fe800000000000000000000000000001dc0401bb`);
  assert.equal(v2(connection('192.0.2.1', '::')), `${signature}2121002400000000000000000000ffffc000020100000000000000000000000000000000dc0401bb`);
  assert.equal(v2(connection('', '')), `${signature}20000000`);
});

test('version 2 tells the name and what TLS was ended here', () => {
  const plain = connection('192.0.2.1', '10.0.0.1');
  const name = '020006612e74657374'; // PP2_TYPE_AUTHORITY, 6, a.test
  const addresses = 'c00002010a000001dc0401bb';
  assert.equal(v2({ ...plain, authority: 'a.test' }), `${signature}21110015${addresses}${name}`);
  const tls = { version: 'TLSv1.3', cipher: 'TLS_AES_128_GCM_SHA256' };
  const parts = `210007${Buffer.from(tls.version).toString('hex')}230016${Buffer.from(tls.cipher).toString('hex')}`;
  assert.equal(
    v2({ ...plain, authority: 'a.test', tls: { ...tls, clientCertificate: false } }),
    `${signature}21110040${addresses}${name}2000280100000001${parts}`,
  );
  const shown = v2({ ...plain, tls: { ...tls, clientCertificate: true } });
  assert.ok(shown.endsWith(`2000280300000000${parts}`), shown);
});

test('our own reader takes every header for what it says', () => {
  for (const version of ['v1', 'v2'] as const) {
    for (const [from, to] of [
      ['192.0.2.1', '10.0.0.1'],
      ['2001:db8::1', '::1'],
      ['2001:db8:1:2:3:4:5:6', 'fe80::'],
      ['192.0.2.1', '2001:db8::'],
    ] as const) {
      const one = connection(from, to);
      const header = proxyHeader(version, { ...one, authority: 'a.test' });
      assert.deepEqual(readProxyHeader(Buffer.concat([header, Buffer.from('rest')])), { value: one, consumed: header.length });
    }
    assert.equal(readProxyHeader(proxyHeader(version, connection('', '')))?.value, undefined);
  }
});
