import assert from 'node:assert/strict';
import test from 'node:test';
import type { ClientHello } from '../src/tls/client-hello.ts';
import { canVerify as canVerifyUnder, chooseIdentity, ecdsaSuites, type SigningKey } from '../src/tls/key-choice.ts';
import { ecdsaSuitesIn, signsWithSha1 } from '../src/tls/policy.ts';

const tls13: ClientHello = {
  serverName: undefined,
  versions: [0x0304, 0x0303],
  cipherSuites: [0x1301, 0xc02b, 0xc02f],
  signatureAlgorithms: [0x0403, 0x0804, 0x0401],
  groups: [29, 23],
  applicationProtocols: [],
  statusRequest: false,
};
const tls12: ClientHello = { ...tls13, versions: [0x0303], cipherSuites: [0xc02b, 0xc02f] };
const tls10: ClientHello = { ...tls13, versions: [0x0301], cipherSuites: [0xc00a, 0xc014], signatureAlgorithms: undefined };

const terms = (highestVersion: number, suites: Iterable<number> = Object.values(ecdsaSuites)) => ({
  lowestVersion: 0x0301,
  highestVersion,
  ecdsaSuites: () => new Set(suites),
  signsWithSha1: false,
});
const canVerify = (hello: ClientHello, key: SigningKey, highestVersion: number) => canVerifyUnder(hello, key, terms(highestVersion));

test('TLS 1.3 goes by signature schemes alone, each ECDSA curve its own', () => {
  assert.ok(canVerify(tls13, 'prime256v1', 0x0304) && canVerify(tls13, 'rsa', 0x0304));
  assert.ok(!canVerify(tls13, 'secp384r1', 0x0304) && !canVerify(tls13, 'ed25519', 0x0304));
  const pkcs1Only = { ...tls13, signatureAlgorithms: [0x0401, 0x0403] };
  assert.ok(!canVerify(pkcs1Only, 'rsa', 0x0304), 'PKCS#1 signatures are not for TLS 1.3 handshakes');
  assert.ok(canVerify(pkcs1Only, 'rsa', 0x0303), 'the virtual host allows TLS 1.2 at most');
});

test('TLS 1.2 needs a suite, the curve and a signature algorithm', () => {
  assert.ok(canVerify(tls12, 'prime256v1', 0x0304));
  assert.ok(!canVerify({ ...tls12, cipherSuites: [0xc02f] }, 'prime256v1', 0x0304));
  assert.ok(!canVerify({ ...tls12, groups: [29] }, 'prime256v1', 0x0304));
  assert.ok(!canVerify({ ...tls12, signatureAlgorithms: [0x0804] }, 'prime256v1', 0x0304));
  assert.ok(!canVerify({ ...tls12, cipherSuites: [0xc02b] }, 'rsa', 0x0304));
  assert.ok(canVerify({ ...tls12, signatureAlgorithms: [0x0807] }, 'ed25519', 0x0304));
});

test('SHA-1 counts where the virtual host signs with it', () => {
  const hello = { ...tls12, signatureAlgorithms: [0x0203, 0x0401] };
  assert.ok(!canVerify(hello, 'prime256v1', 0x0304) && canVerify(hello, 'rsa', 0x0304));
  assert.ok(canVerifyUnder(hello, 'prime256v1', { ...terms(0x0304), signsWithSha1: true }));
  assert.ok(canVerify({ ...tls12, signatureAlgorithms: [0x0303] }, 'prime256v1', 0x0304), 'SHA-224 is good enough');

  assert.equal(signsWithSha1('ALL@SECLEVEL=0'), true);
  assert.equal(signsWithSha1('ALL:@SECLEVEL=0:@SECLEVEL=2'), false);
});

test('TLS 1.0 goes by suites and curves', () => {
  assert.ok(canVerify(tls10, 'prime256v1', 0x0304) && canVerify(tls10, 'rsa', 0x0304));
  assert.ok(!canVerify(tls10, 'ed25519', 0x0304), 'EdDSA came with TLS 1.2');
  assert.ok(!canVerify({ ...tls10, cipherSuites: [0xc014] }, 'prime256v1', 0x0304));
  const bare = { ...tls10, cipherSuites: [0xc00a, 0x002f], groups: [] };
  assert.ok(!canVerify(bare, 'prime256v1', 0x0304) && canVerify(bare, 'rsa', 0x0304), 'a hello without extensions');
});

test('ECDSA before RSA; RSA when nothing fits; order of configuration does not matter', () => {
  const identities: { signingKey: SigningKey }[] = [{ signingKey: 'rsa' }, { signingKey: 'prime256v1' }];
  const chosen = (hello: ClientHello) => chooseIdentity(hello, identities, terms(0x0304))?.signingKey;
  assert.equal(chosen(tls13), 'prime256v1');
  assert.equal(chosen({ ...tls13, signatureAlgorithms: [0x0804] }), 'rsa');
  assert.equal(chosen({ ...tls13, signatureAlgorithms: [] }), 'rsa');
  assert.equal(chooseIdentity(tls13, [], terms(0x0304)), undefined);
});

test('an ECDSA suite counts where the virtual host has it too; TLS 1.3 has no such suites', () => {
  const identities: { signingKey: SigningKey }[] = [{ signingKey: 'prime256v1' }, { signingKey: 'rsa' }];
  const chosen = (hello: ClientHello, suites: number[]) => chooseIdentity(hello, identities, terms(0x0304, suites))?.signingKey;
  assert.equal(chosen(tls12, [0xc02b]), 'prime256v1');
  assert.equal(chosen(tls12, [0xc02c]), 'rsa');
  assert.equal(chosen(tls12, []), 'rsa');
  assert.equal(chosen(tls13, []), 'prime256v1');
});

test('the ECDSA suites of a cipher list, as OpenSSL reads it', () => {
  const suites = (ciphers: string) => [...ecdsaSuitesIn(ciphers)].toSorted();
  assert.deepEqual(suites('ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES128-SHA'), [0xc009]);
  assert.deepEqual(suites('ECDHE+AESGCM'), [0xc02b, 0xc02c]);
  assert.deepEqual(suites('TLS_AES_128_GCM_SHA256:ECDHE+AESGCM:ECDHE+CHACHA20:!AES256:@SECLEVEL=0'), [0xc02b, 0xcca9]);
  assert.deepEqual(suites('HIGH:!aECDSA'), []);
  assert.deepEqual(suites('TLS_AES_128_GCM_SHA256'), []);
  assert.deepEqual(suites('ALL'), Object.values(ecdsaSuites).toSorted());
});
