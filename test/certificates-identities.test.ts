import assert from 'node:assert/strict';
import test from 'node:test';
import type { Certificate } from '../src/certificates/certificate.ts';
import { chooseIdentities, covers, uncovered } from '../src/certificates/identities.ts';

const day = 86_400_000;
const now = 1000 * day;

function certificate(label: string, fields: Partial<Certificate>): Certificate {
  return { fingerprint: label, keyType: 'ecdsa', names: ['shop.example.org'], notBefore: now - day, notAfter: now + day, ...fields } as Certificate;
}

const chosen = (candidates: Certificate[], names = ['shop.example.org']) => chooseIdentities(candidates, names, now).map(({ fingerprint }) => fingerprint);

test('a wildcard covers exactly one label (RFC 9525, section 6.3)', () => {
  for (const [pattern, name, expected] of [
    ['shop.example.org', 'shop.example.org', true],
    ['*.example.org', 'shop.example.org', true],
    ['*.example.org', '*.example.org', true],
    ['*.example.org', 'a.shop.example.org', false],
    ['*.example.org', '*.shop.example.org', false],
    ['*.example.org', 'example.org', false],
    ['*.example.org', '.example.org', false],
    ['*.example.org', 'shop.badexample.org', false],
    ['shop.example.org', '*.example.org', false],
    ['*', 'localhost', false],
  ] as const) {
    assert.equal(covers(pattern, name), expected, `${pattern} ${name}`);
  }
  assert.deepEqual(uncovered(certificate('c', { names: ['*.example.org'] }), ['a.example.org', 'example.org', 'b.a.example.org']), [
    'example.org',
    'b.a.example.org',
  ]);
});

test('each key type has its own certificate', () => {
  assert.deepEqual(chosen([certificate('rsa', { keyType: 'rsa' }), certificate('ecdsa', {}), certificate('ed', { keyType: 'ed25519' })]), [
    'rsa',
    'ecdsa',
    'ed',
  ]);
});

test('of one key type the last-issued serves, whatever the order', () => {
  const [old, renewed] = [certificate('old', { notBefore: now - 60 * day, notAfter: now + 90 * day }), certificate('renewed', { notBefore: now - day })];
  assert.deepEqual(chosen([old, renewed]), ['renewed']);
  assert.deepEqual(chosen([renewed, old]), ['renewed']);
});

test('a certificate that is not valid, yet or any more, does not replace one that is', () => {
  const valid = certificate('valid', { notBefore: now - 60 * day });
  assert.deepEqual(chosen([certificate('future', { notBefore: now + 1 }), valid]), ['valid']);
  assert.deepEqual(chosen([certificate('expired', { notAfter: now - 1 }), valid]), ['valid']);
  assert.deepEqual(chosen([certificate('expired', { notAfter: now - 1 })]), ['expired']);
});

test('covering the server name, then more of the aliases, counts more than being newer', () => {
  const names = ['shop.example.org', 'www.shop.example.org'];
  const alias = certificate('alias', { names: ['www.shop.example.org', '*.example.com'] });
  const main = certificate('main', { notBefore: now - 2 * day });
  const both = certificate('both', { names, notBefore: now - 3 * day });
  assert.deepEqual(chosen([alias, main], names), ['main']);
  assert.deepEqual(chosen([alias, main, both], names), ['both']);
});
