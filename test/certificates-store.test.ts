import assert from 'node:assert/strict';
import { mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import test from 'node:test';
import { CertificateStore } from '../src/certificates/store.ts';
import { Authority, type Issued } from '../src/demo/authority.ts';
import { configuration, folder, memoryLog } from './support/certificate-files.ts';

const root = await Authority.root('Test Root');
const intermediate = await root.subordinate('Test Intermediate');
const day = 86_400_000;

async function put(source: { certificate: string; key: string }, issued: Issued): Promise<void> {
  await mkdir(dirname(source.certificate), { recursive: true });
  await writeFile(source.certificate, issued.chainPem);
  await writeFile(source.key, issued.keyPem);
}

function make(now?: () => number) {
  const log = memoryLog();
  const changes: string[] = [];
  const onChange = (changed: ReadonlyMap<string, readonly { fingerprint: string }[]>) => {
    for (const [virtualHost, certificates] of changed) changes.push(`${virtualHost} ${certificates.map((certificate) => certificate.fingerprint).join(' ')}`);
  };
  const store = new CertificateStore({ log, onChange, ...(now && { now }) });
  const serving = (host: string) => store.identities(host).map((certificate) => certificate.fingerprint);
  const codes = (host?: string) => store.problems().flatMap((problem) => (problem.virtualHost === host ? problem.code : []));
  return { log, changes, store, serving, codes };
}

const fingerprint = ({ certificate }: Issued) => certificate.fingerprint256.replaceAll(':', '').toLowerCase();
const pairIn = (...directory: string[]) => ({ certificate: join(...directory, 'fullchain.pem'), key: join(...directory, 'privkey.pem') });

const everything = (store: CertificateStore) => [...store.files(), ...store.directories()];

test('RSA, ECDSA and Ed25519 of one virtual host are served together', async (t) => {
  const directory = await folder(t);
  const issued = await Promise.all((['rsa', 'ecdsa', 'ed25519'] as const).map((keyType) => intermediate.issue({ keyType, names: ['shop.example.org'] })));
  const certificates = issued.map((_, i) => pairIn(directory, String(i)));
  for (const [i, source] of certificates.entries()) await put(source, issued[i]!);
  const { store, serving, codes } = make();
  await store.load(configuration([{ serverName: 'shop.example.org', certificates }]));
  assert.deepEqual(serving('shop.example.org'), issued.map(fingerprint));
  assert.deepEqual(codes('shop.example.org'), []);
});

test('a broken pair takes out itself only: the good one of its virtual host and all others serve', async (t) => {
  const directory = await folder(t);
  const [half, whole] = [await intermediate.issue({ names: ['half.example.org'] }), await intermediate.issue({ names: ['whole.example.org'] })];
  await put(pairIn(directory, 'half'), half);
  await put(pairIn(directory, 'whole'), whole);
  const { store, serving, codes, log } = make();
  await store.load(
    configuration([
      { serverName: 'half.example.org', certificates: [pairIn(directory, 'absent'), pairIn(directory, 'half')] },
      { serverName: 'none.example.org', certificates: [pairIn(directory, 'absent')] },
      { serverName: 'whole.example.org', certificates: [pairIn(directory, 'whole')] },
    ]),
  );
  assert.deepEqual(serving('half.example.org'), [fingerprint(half)]);
  assert.deepEqual(serving('none.example.org'), []);
  assert.deepEqual(serving('whole.example.org'), [fingerprint(whole)]);
  assert.deepEqual(codes('half.example.org'), ['file_missing']);
  assert.deepEqual(codes('none.example.org'), ['file_missing', 'no_certificate']);
  assert.deepEqual(codes('whole.example.org'), []);
  // One cause, one line, although two virtual hosts suffer from it.
  assert.deepEqual(
    log.lines.map(({ code }) => code),
    ['file_missing', 'no_certificate'],
  );
});

test('a pair named by several virtual hosts is one certificate', async (t) => {
  const directory = await folder(t);
  await put(pairIn(directory, 'both'), await intermediate.issue({ names: ['a.example.org', 'b.example.org'] }));
  const { store } = make();
  const certificates = [pairIn(directory, 'both')];
  await store.load(configuration(['a.example.org', 'b.example.org'].map((serverName) => ({ serverName, certificates }))));
  assert.equal(store.identities('a.example.org')[0], store.identities('b.example.org')[0]);
  assert.deepEqual(store.files(), Object.values(certificates[0]!));
});

test('key and certificate written apart: the old pair serves until both match, then the change is reported once', async (t) => {
  const directory = await folder(t);
  const source = pairIn(directory, 'shop');
  const [old, renewed] = [await intermediate.issue({ names: ['shop.example.org'] }), await intermediate.issue({ names: ['shop.example.org'] })];
  await put(source, old);
  const { store, serving, codes, changes, log } = make();
  await store.load(configuration([{ serverName: 'shop.example.org', certificates: [source] }]));
  assert.deepEqual(changes, []);

  await writeFile(source.certificate, renewed.chainPem);
  await store.recheck([source.certificate]);
  await store.recheck([source.certificate]);
  assert.deepEqual(serving('shop.example.org'), [fingerprint(old)]);
  assert.deepEqual(codes('shop.example.org'), ['key_mismatch']);
  assert.deepEqual(
    log.lines.map(({ code }) => code),
    ['key_mismatch'],
  );

  await writeFile(source.key, renewed.keyPem);
  await store.recheck([source.key]);
  await store.recheck(everything(store));
  assert.deepEqual(serving('shop.example.org'), [fingerprint(renewed)]);
  assert.deepEqual(changes, [`shop.example.org ${fingerprint(renewed)}`]);
  assert.deepEqual(codes('shop.example.org'), []);
});

test('a file cut off between two blocks does not cost the issuer; asking for everything accepts it', async (t) => {
  const directory = await folder(t);
  const source = pairIn(directory, 'shop');
  const [old, renewed] = [await intermediate.issue({ names: ['shop.example.org'] }), await intermediate.issue({ names: ['shop.example.org'] })];
  await put(source, old);
  const { store, serving, codes } = make();
  const config = configuration([{ serverName: 'shop.example.org', certificates: [source] }]);
  await store.load(config);
  await put(source, { ...renewed, chainPem: renewed.pem });
  await store.recheck([source.certificate, source.key]);
  assert.deepEqual(serving('shop.example.org'), [fingerprint(old)]);
  assert.deepEqual(codes('shop.example.org'), ['chain_incomplete']);
  await store.load(config);
  assert.deepEqual(serving('shop.example.org'), [fingerprint(renewed)]);
});

test('a pair that is broken when the configuration is loaded again keeps serving from memory', async (t) => {
  const directory = await folder(t);
  const source = pairIn(directory, 'shop');
  const old = await intermediate.issue({ names: ['shop.example.org'] });
  await put(source, old);
  const { store, serving, log } = make();
  const config = configuration([{ serverName: 'shop.example.org', certificates: [source] }]);
  await store.load(config);
  await rm(source.key);
  await store.load(config);
  assert.deepEqual(serving('shop.example.org'), [fingerprint(old)]);
  assert.match(log.lines.at(-1)!.message, /privkey\.pem does not exist; the certificate read before is kept/);
});

test('a renewed certificate that a reload meets first is told of, one of a new virtual host is not', async (t) => {
  const directory = await folder(t);
  const [shop, cafe] = [pairIn(directory, 'shop'), pairIn(directory, 'cafe')];
  await put(shop, await intermediate.issue({ names: ['shop.example.org'] }));
  await put(cafe, await intermediate.issue({ names: ['cafe.example.org'] }));
  const { store, log } = make();
  const hosts = [{ serverName: 'shop.example.org', certificates: [shop] }];
  const told = () => log.lines.filter(({ message }) => message === 'certificate changed').length;
  await store.load(configuration(hosts));
  await store.load(configuration(hosts));
  assert.equal(told(), 0);
  await put(shop, await intermediate.issue({ names: ['shop.example.org'] }));
  await store.load(configuration([...hosts, { serverName: 'cafe.example.org', certificates: [cafe] }]));
  assert.equal(told(), 1);
});

test('touched files, the same bytes again, are no change', async (t) => {
  const directory = await folder(t);
  const source = pairIn(directory, 'shop');
  const issued = await intermediate.issue({ names: ['shop.example.org'] });
  await put(source, issued);
  const { store, changes } = make();
  await store.load(configuration([{ serverName: 'shop.example.org', certificates: [source] }]));
  await put(source, issued);
  await store.recheck(everything(store));
  assert.deepEqual(changes, []);
});

test('two certificates of one key type: the last-issued serves and the other is named', async (t) => {
  const directory = await folder(t);
  const [old, renewed] = [
    await intermediate.issue({ names: ['shop.example.org'], notBefore: new Date(Date.now() - 9 * day) }),
    await intermediate.issue({ names: ['shop.example.org'] }),
  ];
  const certificates = [pairIn(directory, 'renewed'), pairIn(directory, 'old')];
  await put(certificates[0]!, renewed);
  await put(certificates[1]!, old);
  const { store, serving, codes, log } = make();
  await store.load(configuration([{ serverName: 'shop.example.org', certificates }]));
  assert.deepEqual(serving('shop.example.org'), [fingerprint(renewed)]);
  assert.deepEqual(codes('shop.example.org'), ['duplicate_key_type']);
  assert.match(log.lines[0]!.message, /renewed\/fullchain\.pem serves and .*old\/fullchain\.pem does not/);
});

test('names that the certificate does not cover are named, and an expired one is served with a warning', async (t) => {
  const directory = await folder(t);
  const source = pairIn(directory, 'shop');
  await put(source, await intermediate.issue({ names: ['shop.example.org', '*.shop.example.org'], notAfter: new Date(Date.now() + day) }));
  let now = Date.now();
  const { store, serving, codes, log } = make(() => now);
  const aliases = ['www.shop.example.org', 'a.b.shop.example.org', 'example.com'];
  await store.load(configuration([{ serverName: 'shop.example.org', aliases, certificates: [source] }]));
  assert.deepEqual(codes('shop.example.org'), ['names_not_covered']);
  assert.match(log.lines[0]!.message, /does not cover a\.b\.shop\.example\.org, example\.com$/);
  now += 2 * day;
  await store.recheck([]);
  assert.deepEqual(codes('shop.example.org'), ['certificate_expired', 'names_not_covered']);
  assert.equal(serving('shop.example.org').length, 1);
});

test('certificates_dir is matched by name: exactly, by wildcard, and by what is valid now', async (t) => {
  const directory = await folder(t);
  const wildcard = await intermediate.issue({ names: ['*.example.org'] });
  const exact = await intermediate.issue({ names: ['shop.example.org', 'example.com'], keyType: 'rsa' });
  const future = await intermediate.issue({ names: ['shop.example.org', 'example.com'], keyType: 'rsa', notBefore: new Date(Date.now() + day) });
  await put(pairIn(directory, 'wildcard'), wildcard);
  await put(pairIn(directory, 'exact'), exact);
  await put(pairIn(directory, 'future'), future);
  await put({ certificate: join(directory, 'own.pem'), key: join(directory, 'own.key') }, await intermediate.issue({ names: ['own.example.org'] }));
  await writeFile(join(directory, 'README'), 'nothing');
  let now = Date.now();
  const { store, serving, codes, changes } = make(() => now);
  const hosts = ['shop.example.org', 'www.example.org', 'example.com', 'own.example.net'];
  await store.load(
    configuration([...hosts.map((serverName) => ({ serverName })), { serverName: 'x.example.org', certificates: [pairIn(directory, 'absent')] }], directory),
  );
  assert.deepEqual(new Set(serving('shop.example.org')), new Set([fingerprint(exact), fingerprint(wildcard)]));
  assert.deepEqual(serving('www.example.org'), [fingerprint(wildcard)]);
  assert.deepEqual(serving('example.com'), [fingerprint(exact)]);
  assert.deepEqual(serving('own.example.net'), []);
  assert.deepEqual(codes('own.example.net'), ['no_certificate']);
  // Explicit pairs, even broken ones, are the administrator's choice.
  assert.deepEqual(serving('x.example.org'), []);

  now += 2 * day;
  await store.recheck([]);
  assert.deepEqual(serving('example.com'), [fingerprint(future)]);
  assert.equal(changes.length, 2);
});

test('an expired leftover of another key type in certificates_dir serves only when nothing valid does', async (t) => {
  const directory = await folder(t);
  const leftover = await intermediate.issue({ names: ['shop.example.org'], keyType: 'rsa', notAfter: new Date(Date.now() - 1000) });
  const valid = await intermediate.issue({ names: ['shop.example.org'] });
  await put(pairIn(directory, 'leftover'), leftover);
  const { store, serving, codes } = make();
  await store.load(configuration([{ serverName: 'shop.example.org' }], directory));
  assert.deepEqual(serving('shop.example.org'), [fingerprint(leftover)]);
  assert.deepEqual(codes('shop.example.org'), ['certificate_expired']);
  await put(pairIn(directory, 'valid'), valid);
  await store.recheck([directory]);
  assert.deepEqual(serving('shop.example.org'), [fingerprint(valid)]);
});

test('a pair that appears in certificates_dir serves; one that vanishes is kept until another covers its names', async (t) => {
  const directory = await folder(t);
  const { store, serving, codes, changes } = make();
  await store.load(configuration([{ serverName: 'shop.example.org' }], directory));
  assert.deepEqual(codes('shop.example.org'), ['no_certificate']);

  const [first, second] = [await intermediate.issue({ names: ['shop.example.org'] }), await intermediate.issue({ names: ['shop.example.org'] })];
  await put(pairIn(directory, 'first'), first);
  await store.recheck([directory]);
  assert.deepEqual(serving('shop.example.org'), [fingerprint(first)]);

  await rm(join(directory, 'first'), { recursive: true });
  await store.recheck([directory, pairIn(directory, 'first').certificate]);
  assert.deepEqual(serving('shop.example.org'), [fingerprint(first)]);
  assert.deepEqual(codes('shop.example.org'), ['pair_missing']);

  await put(pairIn(directory, 'second'), second);
  await store.recheck([directory]);
  assert.deepEqual(serving('shop.example.org'), [fingerprint(second)]);
  assert.deepEqual(codes('shop.example.org'), []);
  assert.deepEqual(store.files(), Object.values(pairIn(directory, 'second')));
  assert.equal(changes.length, 2);
});

test('a certificates_dir that cannot be listed for a while changes nothing but says so', async (t) => {
  const directory = join(await folder(t), 'certs');
  const issued = await intermediate.issue({ names: ['shop.example.org'] });
  await put(pairIn(directory, 'shop'), issued);
  const { store, serving, codes, changes } = make();
  const config = configuration([{ serverName: 'shop.example.org' }], directory);
  await store.load(config);
  await rename(directory, `${directory}.away`);
  await store.recheck(everything(store));
  await store.load(config);
  assert.deepEqual(serving('shop.example.org'), [fingerprint(issued)]);
  assert.deepEqual(codes(), ['directory_unreadable']);
  await rename(`${directory}.away`, directory);
  await store.recheck(everything(store));
  assert.deepEqual([codes(), codes('shop.example.org'), changes], [[], [], []]);
});

test('a broken pair of certificates_dir is reported although nobody knows whose it is', async (t) => {
  const directory = await folder(t);
  await put(pairIn(directory, 'broken'), { ...(await intermediate.issue({ names: ['shop.example.org'] })), keyPem: '' });
  const { store, codes } = make();
  await store.load(configuration([{ serverName: 'shop.example.org' }], directory));
  assert.deepEqual(codes(), ['file_empty']);
});

test('no log line holds key material', async (t) => {
  const directory = await folder(t);
  const source = pairIn(directory, 'shop');
  const issued = await intermediate.issue({ names: ['shop.example.org'] });
  const { store, log } = make();
  for (const keyPem of [issued.keyPem.slice(0, 150), issued.keyPem.replace('PRIVATE', 'PUBLIC'), issued.keyPem.replace(/\n\w{6}/, '\nAAAAAA'), issued.keyPem]) {
    await put(source, { ...issued, keyPem });
    await store.load(configuration([{ serverName: 'shop.example.org', certificates: [source] }]));
  }
  assert.equal(log.lines.length, 5);
  for (const line of issued.keyPem.split('\n').filter((text) => !text.startsWith('-') && text !== '')) {
    assert.ok(!JSON.stringify(log.lines).includes(line.slice(8, 40)));
  }
});
