import assert from 'node:assert/strict';
import { createHash, generateKeyPairSync, X509Certificate } from 'node:crypto';
import test from 'node:test';
import { chainPem, readCertificate, validityWarning } from '../src/certificates/certificate.ts';
import { type CertificateCode, CertificateError } from '../src/certificates/certificate-error.ts';
import { Authority, type Issued } from '../src/demo/authority.ts';

const source = { certificate: '/c/fullchain.pem', key: '/c/privkey.pem' };
const root = await Authority.root('Test Root');
const intermediate = await root.subordinate('Test Intermediate');
const lower = await intermediate.subordinate('Lower Intermediate');
const shop = await lower.issue({ names: ['shop.example.org'] });

const read = (issued: Pick<Issued, 'keyPem'>, certificatePem: string, extraPem?: string) =>
  readCertificate({ certificatePem, keyPem: issued.keyPem, source, ...(extraPem === undefined ? {} : { extraPem }) });

/** Asserts the code and that no line of the key is in the message. */
function refuses(code: CertificateCode, act: () => unknown, pattern: RegExp = /\/c\//): void {
  assert.throws(act, (error: unknown) => {
    assert.ok(error instanceof CertificateError, String(error));
    assert.equal(error.code, code);
    assert.match(error.message, pattern);
    for (const line of shop.keyPem.split('\n').filter((text) => text.length > 20 && !text.startsWith('-'))) assert.ok(!error.message.includes(line));
    return true;
  });
}

test('every key type that clients can use is read, with names, responders and must-staple', async () => {
  for (const [keyType, type] of [
    ['rsa', 'rsa'],
    ['ecdsa', 'ecdsa'],
    ['p384', 'ecdsa'],
    ['p521', 'ecdsa'],
    ['ed25519', 'ed25519'],
    ['ed448', 'ed448'],
  ] as const) {
    const ocsp = ['http://ocsp.example/a', 'https://ocsp.example/b', 'ldap://ocsp.example/'];
    const issued = await intermediate.issue({ keyType, names: ['Shop.Example.org', '*.example.org', '10.0.0.1'], ocsp, mustStaple: true });
    const certificate = read(issued, issued.chainPem);
    assert.equal(certificate.keyType, type);
    assert.deepEqual(certificate.names, ['shop.example.org', '*.example.org']);
    assert.deepEqual(certificate.addresses, ['10.0.0.1']);
    assert.deepEqual(certificate.ocspResponders, ocsp.slice(0, 2));
    assert.equal(certificate.mustStaple, true);
    assert.equal(certificate.fingerprint, issued.certificate.fingerprint256.replaceAll(':', '').toLowerCase());
    assert.deepEqual(certificate.issuer?.raw, intermediate.certificate.raw);
    assert.equal(certificate.notAfter, issued.certificate.validToDate.getTime());
    assert.deepEqual(certificate.warnings, []);
  }
});

test('a certificate without OCSP has no responders and is no must-staple', () => {
  const certificate = read(shop, shop.chainPem);
  assert.deepEqual(certificate.ocspResponders, []);
  assert.equal(certificate.mustStaple, false);
});

test('the chain is ordered by signature whatever the order of the file, and the root is not sent', () => {
  const certificate = read(shop, root.pem + intermediate.pem + shop.pem + lower.pem);
  assert.equal(chainPem(certificate), shop.pem + lower.pem + intermediate.pem);
  assert.equal(certificate.issuerFingerprint, lower.certificate.fingerprint256.replaceAll(':', '').toLowerCase());
  assert.deepEqual(
    certificate.warnings.map(({ code }) => code),
    ['leaf_not_first'],
  );
});

test('an issuer of the same name and key identifier that did not sign is not part of the chain', async () => {
  const impostor = await root.subordinate('Lower Intermediate');
  const identifier = ({ publicKey }: X509Certificate) =>
    createHash('sha1')
      .update(publicKey.export({ type: 'spki', format: 'der' }).subarray(-65))
      .digest();
  const der = Buffer.from(impostor.certificate.raw);
  der.set(identifier(lower.certificate), der.indexOf(identifier(impostor.certificate)));
  const disguised = new X509Certificate(der);
  assert.ok(shop.certificate.checkIssued(disguised));
  const certificate = read(shop, shop.pem + disguised.toString() + lower.pem);
  assert.equal(chainPem(certificate), shop.pem + lower.pem);
  assert.deepEqual(
    certificate.warnings.map(({ code }) => code),
    ['unrelated_certificate'],
  );
});

test('the issuer may come from another file, and a root found there is issuer but not sent', async () => {
  const direct = await root.issue({ names: ['direct.example.org'], ocsp: 'http://ocsp.example/' });
  assert.equal(read(direct, direct.pem).issuer, undefined);
  const certificate = read(direct, direct.pem, root.pem);
  assert.deepEqual(certificate.issuer?.raw, root.certificate.raw);
  assert.equal(chainPem(certificate), direct.pem);
  assert.equal(chainPem(read(shop, shop.pem, intermediate.pem + lower.pem + root.pem)), shop.pem + lower.pem + intermediate.pem);
});

test('certificates of one authority share what is the same in all of them', async () => {
  const one = read(shop, shop.chainPem);
  const other = await lower.issue({ names: ['other.example.org'] });
  const two = read(other, other.chainPem);
  assert.equal(one.intermediates.length, 2);
  assert.equal(two.intermediates, one.intermediates);
  assert.equal(two.issuer, one.issuer);
  const alone = await root.issue({ names: ['alone.example.org'] });
  assert.deepEqual(read(alone, alone.chainPem).intermediates, []);
});

test('a cross-signed root is sent, its self-signed twin is not', async () => {
  const pair = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const [newRoot, crossSigned] = [await Authority.root('New Root', { key: pair }), await root.subordinate('New Root', { key: pair })];
  const issued = await newRoot.issue({ names: ['new.example.org'] });
  assert.equal(chainPem(read(issued, issued.pem + newRoot.pem + crossSigned.pem)), issued.pem + crossSigned.pem);
});

test('a self-signed certificate has no issuer and no warning about it', async () => {
  const key = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const own = await (await Authority.root('self.example.org', { key })).issue({ commonName: 'self.example.org', names: ['self.example.org'], key });
  const certificate = read(own, own.pem);
  assert.equal(certificate.selfSigned, true);
  assert.equal(certificate.issuer, undefined);
  assert.deepEqual(certificate.warnings, []);
});

test('text around the blocks, CR LF and a combined file are accepted', () => {
  const combined = `\ufeffsubject: ä\r\n${(shop.chainPem + shop.keyPem).replaceAll('\n', '\r\n')}`;
  const certificate = readCertificate({ certificatePem: combined, keyPem: combined, source });
  assert.equal(chainPem(certificate), shop.chainPem);
  assert.equal(certificate.keyPem, shop.keyPem);
});

test('names that hide something are ignored, said, and split no neighbour (CVE-2021-44532, CVE-2009-2408)', async () => {
  const names = ['good.example.org', 'x.example.org, DNS:bank.example.org', 'bank.example.org\0.evil.example', 'a b.example.org', 'w*.example.org'];
  const issued = await root.issue({ names });
  const certificate = read(issued, issued.pem);
  assert.deepEqual(certificate.names, ['good.example.org']);
  assert.equal(certificate.warnings.length, 4);
  for (const { code, message } of certificate.warnings) {
    assert.equal(code, 'name_ignored');
    assert.doesNotMatch(message, /\0/);
  }
});

test('a certificate with a common name only is refused; one with an address only is not', async () => {
  const bare = await root.issue({ commonName: 'old.example.org' });
  refuses('certificate_without_names', () => read(bare, bare.pem), /CN=old\.example\.org.*subjectAltName/);
  const address = await root.issue({ names: ['127.0.0.1'] });
  assert.deepEqual(read(address, address.pem).addresses, ['127.0.0.1']);
});

test('an extension that occurs twice is refused: two readers could see two certificates', async () => {
  const value = Buffer.from('3000', 'hex');
  const extensions = [1, 2].map(() => ({ oid: '1.3.6.1.4.1.99999.1', critical: false, value }));
  const issued = await root.issue({ names: ['twice.example.org'], extensions });
  refuses('certificate_malformed', () => read(issued, issued.pem), /twice/);
});

test('validity is a warning at a time, not an error', async () => {
  const [notBefore, notAfter] = [new Date('2030-01-01T00:00:00Z'), new Date('2030-02-01T00:00:00Z')];
  const issued = await root.issue({ names: ['time.example.org'], notBefore, notAfter });
  const certificate = read(issued, issued.pem);
  assert.equal(validityWarning(certificate, notBefore.getTime() - 1000)?.code, 'certificate_not_yet_valid');
  assert.equal(validityWarning(certificate, notBefore.getTime()), undefined);
  assert.equal(validityWarning(certificate, notAfter.getTime()), undefined);
  assert.equal(validityWarning(certificate, notAfter.getTime() + 1000)?.code, 'certificate_expired');
});

test('a key of another certificate is refused, naming both files', async () => {
  const other = await lower.issue({ names: ['shop.example.org'] });
  refuses('key_mismatch', () => read(other, shop.chainPem), /\/c\/privkey\.pem.*\/c\/fullchain\.pem/);
});

test('bad certificate texts each have their code', () => {
  const cut = shop.chainPem.slice(0, shop.chainPem.length - 300);
  refuses('pem_truncated', () => read(shop, cut), /fullchain\.pem.*being written/);
  refuses('pem_truncated', () => read(shop, shop.pem.slice(0, 300) + shop.pem), /fullchain\.pem/);
  refuses('file_empty', () => read(shop, ' \n'));
  refuses('file_binary', () => read(shop, shop.certificate.raw.toString('utf8')), /openssl x509 -inform DER/);
  refuses('certificate_not_found', () => read(shop, shop.keyPem), /only PRIVATE KEY/);
  refuses('certificate_not_found', () => read(shop, 'hello'), /no PEM block/);
  const lines = shop.pem.split('\n');
  refuses('certificate_malformed', () => read(shop, [lines[0], ...lines.slice(4)].join('\n')), /certificate 1 of 1/);
});

test('bad key texts each have their code', () => {
  const withKey = (keyPem: string) => () => read({ keyPem }, shop.chainPem);
  const pkcs8 = { type: 'pkcs8', format: 'pem' } as const;
  const protection = { cipher: 'aes-256-cbc', passphrase: 'secret' };
  refuses('key_encrypted', withKey(shop.key.export({ ...pkcs8, ...protection }).toString()), /openssl pkey -in \/c\/privkey\.pem/);
  refuses('key_encrypted', withKey(shop.key.export({ type: 'sec1', format: 'pem', ...protection }).toString()), /openssl pkey/);
  refuses('key_not_found', withKey(shop.pem), /only CERTIFICATE/);
  refuses('key_not_found', withKey('-----BEGIN CERTIFICATE REQUEST-----\nMA==\n-----END CERTIFICATE REQUEST-----\n'), /only CERTIFICATE REQUEST/);
  refuses('key_not_found', withKey('-----BEGIN PUBLIC KEY-----\nMA==\n-----END PUBLIC KEY-----\n'), /only PUBLIC KEY/);
  refuses('key_malformed', withKey(shop.keyPem.replace(/\n\w{8}/, '\nAAAAAAAA')), /privkey\.pem/);
  refuses('pem_truncated', withKey(shop.keyPem.slice(0, 90)), /privkey\.pem/);
  refuses('file_empty', withKey(''), /privkey\.pem/);
  refuses('key_too_small', withKey(generateKeyPairSync('rsa', { modulusLength: 1024 }).privateKey.export(pkcs8).toString()), /1024 bits/);
  refuses('key_unsupported', withKey(generateKeyPairSync('ec', { namedCurve: 'secp256k1' }).privateKey.export(pkcs8).toString()), /secp256k1/);
  refuses('key_unsupported', withKey(generateKeyPairSync('dsa', { modulusLength: 1024, divisorLength: 160 }).privateKey.export(pkcs8).toString()), /dsa/);
  refuses('key_unsupported', withKey(generateKeyPairSync('x25519').privateKey.export(pkcs8).toString()), /x25519/);
});

test('sec1 and pkcs1 keys, with or without EC PARAMETERS, are read', async () => {
  const sec1 = `-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n${shop.key.export({ type: 'sec1', format: 'pem' }).toString()}`;
  assert.equal(read({ keyPem: sec1 }, shop.chainPem).keyType, 'ecdsa');
  const rsa = await root.issue({ names: ['rsa.example.org'], keyType: 'rsa' });
  assert.equal(read({ keyPem: rsa.key.export({ type: 'pkcs1', format: 'pem' }).toString() }, rsa.pem).keyType, 'rsa');
});

test('what the TLS library refuses is refused here, with its reason', async () => {
  const weak = generateKeyPairSync('rsa', { modulusLength: 1024 });
  const weakIssuer = await root.subordinate('Weak Issuer', { key: weak });
  const issued = await weakIssuer.issue({ names: ['weak.example.org'] });
  refuses('certificate_refused', () => read(issued, issued.chainPem), /ca key too small/);
});
