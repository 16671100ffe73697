import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { chmod, mkdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'node:test';
import { promisify } from 'node:util';
import { CertificateError, type CertificateCode } from '../src/certificates/certificate-error.ts';
import { chainPem } from '../src/certificates/certificate.ts';
import { loadPair, scanDirectory } from '../src/certificates/files.ts';
import { Authority } from '../src/demo/authority.ts';
import { folder } from './support/certificate-files.ts';

const root = await Authority.root('Test Root');
const intermediate = await root.subordinate('Test Intermediate');
const shop = await intermediate.issue({ names: ['shop.example.org'], ocsp: 'http://ocsp.example/' });

function refused(code: CertificateCode, source: { certificate: string; key: string }, pattern: RegExp): void {
  assert.throws(
    () => loadPair(source),
    (error: unknown) => {
      assert.ok(error instanceof CertificateError, String(error));
      assert.equal(error.code, code);
      assert.match(error.message, pattern);
      assert.doesNotMatch(error.message, /\n/);
      return true;
    },
  );
}

test('every bad file has its own code, and its message names it', async (t) => {
  const directory = await folder(t);
  const at = (name: string) => join(directory, name);
  await writeFile(at('key.pem'), shop.keyPem);
  await writeFile(at('good.pem'), shop.chainPem);
  await writeFile(at('empty.pem'), '');
  await writeFile(at('certificate.der'), shop.certificate.raw);
  await writeFile(at('big.pem'), shop.chainPem + '#'.repeat(1024 * 1024));
  await mkdir(at('directory.pem'));
  await symlink('../archive/nowhere.pem', at('dangling.pem'));
  await symlink('loop.pem', at('loop.pem'));
  await promisify(execFile)('mkfifo', [at('pipe.pem')]);
  const bad: [string, CertificateCode, RegExp][] = [
    ['absent.pem', 'file_missing', /absent\.pem does not exist/],
    ['good.pem/below', 'file_missing', /good\.pem\/below/],
    ['dangling.pem', 'file_missing', /dangling\.pem is a link to \.\.\/archive\/nowhere\.pem/],
    ['loop.pem', 'file_unreadable', /loop\.pem.*ELOOP/],
    ['directory.pem', 'file_is_directory', /directory\.pem is a directory/],
    ['pipe.pem', 'file_not_regular', /pipe\.pem/],
    ['empty.pem', 'file_empty', /empty\.pem is empty/],
    ['certificate.der', 'file_binary', /certificate\.der.*openssl x509/],
    ['big.pem', 'file_too_large', /big\.pem.*1 MiB/],
  ];
  for (const [name, code, pattern] of bad) {
    refused(code, { certificate: at(name), key: at('key.pem') }, pattern);
    refused(code, { certificate: at('good.pem'), key: at(name) }, pattern);
  }
});

test('a file that may not be read names the user id', async (t) => {
  const directory = await folder(t);
  const [certificate, key] = [join(directory, 'a.pem'), join(directory, 'a.key')];
  await writeFile(certificate, shop.chainPem);
  await writeFile(key, shop.keyPem);
  await chmod(directory, 0o755);
  await chmod(key, 0);
  // Permissions do not bind root; another effective user id brings them back.
  const user = process.geteuid!() === 0 ? 65_534 : process.geteuid!();
  const before = process.geteuid!();
  process.seteuid!(user);
  try {
    refused('file_unreadable', { certificate, key }, new RegExp(`a\\.key cannot be read by user id ${user} \\(EACCES\\)`));
  } finally {
    process.seteuid!(before);
  }
});

test('the issuer is found beside the certificate under the names that other servers use', async (t) => {
  for (const name of ['chain.pem', 'shop.issuer.pem', 'shop.issuer', 'shop.pem.issuer', 'issuer.pem', 'ca.pem']) {
    const directory = await folder(t);
    const source = { certificate: join(directory, 'shop.pem'), key: join(directory, 'shop.key') };
    await writeFile(source.certificate, shop.pem);
    await writeFile(source.key, shop.keyPem);
    assert.equal(loadPair(source).issuer, undefined);
    await writeFile(join(directory, name), intermediate.pem);
    const certificate = loadPair(source);
    assert.equal(certificate.source.issuer, join(directory, name));
    assert.equal(chainPem(certificate), shop.chainPem);
  }
});

test('a broken file beside the certificate is a warning, and the next one is tried', async (t) => {
  const directory = await folder(t);
  const source = { certificate: join(directory, 'shop.pem'), key: join(directory, 'shop.key') };
  await writeFile(source.certificate, shop.pem);
  await writeFile(source.key, shop.keyPem);
  await writeFile(join(directory, 'chain.pem'), '');
  const alone = loadPair(source);
  assert.deepEqual(
    alone.warnings.map(({ code }) => code),
    ['file_empty'],
  );
  await writeFile(join(directory, 'ca.pem'), intermediate.pem);
  assert.equal(chainPem(loadPair(source)), shop.chainPem);
});

test('a directory is searched for pairs two levels deep; everything else is ignored', async (t) => {
  const directory = await folder(t);
  const at = (...names: string[]) => join(directory, ...names);
  const files = ['README', 'flat.pem', 'flat.key', 'alone.pem', 'alone2.key', 'live/shop/fullchain.pem', 'live/shop/privkey.pem', 'shop/cert.pem'];
  files.push('shop/fullchain.pem', 'shop/privkey.pem', 'shop/chain.pem', 'pair/x.pem', 'pair/x.key', '..2026/fullchain.pem', '..2026/privkey.pem');
  for (const file of files) {
    await mkdir(join(at(file), '..'), { recursive: true });
    await writeFile(at(file), '');
  }
  await symlink('shop', at('linked'));
  await symlink('README', at('link-to-file'));
  await symlink('nowhere', at('link-to-nothing'));
  const { pairs, problems } = scanDirectory(directory);
  assert.deepEqual(
    pairs.map(({ certificate, key }) => [certificate, key]),
    [
      [at('flat.pem'), at('flat.key')],
      [at('linked', 'fullchain.pem'), at('linked', 'privkey.pem')],
      [at('pair', 'x.pem'), at('pair', 'x.key')],
      [at('shop', 'fullchain.pem'), at('shop', 'privkey.pem')],
    ],
  );
  assert.deepEqual(problems, []);
});

test('a directory that is not there, or is a file, is a problem and not an exception', async (t) => {
  const directory = await folder(t);
  await writeFile(join(directory, 'file'), '');
  for (const [name, cause] of [
    ['absent', 'ENOENT'],
    ['file', 'ENOTDIR'],
  ] as const) {
    const { pairs, problems } = scanDirectory(join(directory, name));
    assert.deepEqual(pairs, []);
    assert.equal(problems[0]?.code, 'directory_unreadable');
    assert.match(problems[0].message, new RegExp(`${name}.*${cause}`));
  }
});
