import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmod, mkdir, readdir, readFile, stat, symlink, utimes, writeFile } from 'node:fs/promises';
import path from 'node:path';
import test from 'node:test';
import type { FetchRecord } from '../src/ocsp/fetch-record.ts';
import { FolderInUse } from '../src/ocsp/lock.ts';
import { type CacheKey, StapleCache } from '../src/ocsp/staple-cache.ts';
import { execute, temporaryFolder } from './support/program.ts';
import { recordedLog } from './support/stapling.ts';

const key: CacheKey = { fingerprint: 'a'.repeat(64), issuerFingerprint: 'b'.repeat(64) };
const stem = `${key.fingerprint}-${key.issuerFingerprint}`;
const record: FetchRecord = {
  name: 'www.example.org',
  fetchedAt: 1,
  responder: 'http://127.0.0.1/',
  certIdHash: 'sha256',
  nextTry: 2,
  failures: 3,
  error: { code: 'c', message: 'm', at: 4 },
};

async function openCache(folder: string): Promise<{ cache: StapleCache; log: ReturnType<typeof recordedLog> } & AsyncDisposable> {
  const log = recordedLog();
  const cache = new StapleCache(folder, log);
  await cache.open();
  return { cache, log, [Symbol.asyncDispose]: () => cache.close() };
}

const mode = async (file: string): Promise<string> => ((await stat(file)).mode & 0o777).toString(8);

test('what is stored is loaded again: raw DER and a JSON beside it, for the owner only', async () => {
  await using folder = await temporaryFolder();
  const state = path.join(folder.path, 'state', 'ocsp');
  await using opened = await openCache(state);
  const { cache, log } = opened;
  assert.equal(await cache.storeResponse(key, Buffer.from('response')), true);
  assert.equal(await cache.storeRecord(key, record), true);
  assert.deepEqual(await cache.load(key, 100), { der: Buffer.from('response'), record });
  assert.deepEqual(await cache.load({ ...key, issuerFingerprint: 'c'.repeat(64) }, 100), { der: undefined, record: undefined });
  assert.equal(await readFile(path.join(state, `${stem}.der`), 'utf8'), 'response');
  assert.deepEqual([await mode(state), await mode(path.join(state, `${stem}.der`)), await mode(path.join(state, `${stem}.json`))], ['700', '600', '600']);
  assert.deepEqual(log.lines, []);
});

test('a folder that others can read is closed to them, and what a crash left half-written is removed', async () => {
  await using folder = await temporaryFolder();
  await chmod(folder.path, 0o755);
  await folder.put(`.${stem}.der.0123456789ab.tmp`, 'half');
  await folder.put(`${stem}.der`, 'whole');
  await using opened = await openCache(folder.path);
  assert.equal(await mode(folder.path), '700');
  const names = await readdir(folder.path);
  assert.deepEqual(
    names.filter((name) => !name.startsWith('owner-')),
    [`${stem}.der`],
  );
  assert.equal(String((await opened.cache.load(key, 100)).der), 'whole');
});

test('a folder that a link leads to keeps its mode', async () => {
  await using folder = await temporaryFolder();
  const [elsewhere, link] = [folder.file('elsewhere'), folder.file('ocsp')];
  await mkdir(elsewhere);
  await chmod(elsewhere, 0o755);
  await symlink(elsewhere, link);
  await using opened = await openCache(link);
  assert.deepEqual([await opened.cache.storeResponse(key, Buffer.from('response')), await mode(elsewhere)], [true, '755']);
});

test('a second instance is refused, with the process that is in the way; the folder is free again after close', async () => {
  await using folder = await temporaryFolder();
  {
    await using first = await openCache(folder.path);
    await assert.rejects(openCache(folder.path), (error) => {
      assert.ok(error instanceof FolderInUse);
      assert.equal(error.code, 'state_dir_in_use');
      assert.match(error.message, new RegExp(`process ${process.pid}\\b.*state_dir`));
      return true;
    });
    assert.equal(await first.cache.storeResponse(key, Buffer.from('still mine')), true);
  }
  await using second = await openCache(folder.path);
  assert.equal(String((await second.cache.load(key, 100)).der), 'still mine');
});

test('a folder whose name is longer than a socket address can be locked too', async () => {
  await using folder = await temporaryFolder();
  const long = path.join(folder.path, 'x'.repeat(200));
  await using first = await openCache(long);
  assert.deepEqual(first.log.lines, []);
  await assert.rejects(openCache(long), FolderInUse);
});

test('a write that fails half-way keeps the old response, leaves nothing behind, and is said once', async () => {
  await using folder = await temporaryFolder();
  const child = `
    import { StapleCache } from ${JSON.stringify(new URL('../src/ocsp/staple-cache.ts', import.meta.url))};
    const said = [];
    const log = { warn: (message) => said.push(message), info: (message) => said.push(message) };
    const cache = new StapleCache(process.argv[1], log);
    await cache.open();
    const key = ${JSON.stringify(key)};
    const stored = [await cache.storeResponse(key, Buffer.from('old'))];
    for (let i = 0; i < 3; i += 1) stored.push(await cache.storeResponse(key, Buffer.alloc(5000)));
    stored.push(await cache.storeRecord(key, { name: 'x', failures: 0 }));
    console.log(JSON.stringify({ stored, failures: cache.writeFailures, said }));
    await cache.close();`;
  // A file size limit fails like a full disk: the first part of the file is written, the rest is not.
  const script = `trap '' XFSZ; ulimit -f 2; exec "$0" --input-type=module-typescript -e "$1" -- "$2"`;
  const { stdout, stderr } = await execute('bash', ['-c', script, process.execPath, child, folder.path]);
  assert.notEqual(stdout, '', stderr);
  const { stored, failures, said } = JSON.parse(stdout) as { stored: boolean[]; failures: number; said: string[] };
  assert.deepEqual([stored, failures], [[true, false, false, false, true], 3]);
  assert.equal(said.length, 2);
  assert.match(said[0] ?? '', /\.der cannot be written: EFBIG.*state_dir/);
  assert.match(said[1] ?? '', /can be written again/);
  assert.deepEqual((await readdir(folder.path)).sort(), [`${stem}.der`, `${stem}.json`]);
  assert.equal(await readFile(folder.file(`${stem}.der`), 'utf8'), 'old');
});

test('a folder that cannot be made is a warning, and nothing throws', async () => {
  await using folder = await temporaryFolder();
  const file = folder.file('file');
  await writeFile(file, '');
  await using opened = await openCache(path.join(file, 'ocsp'));
  const { cache, log } = opened;
  assert.equal(await cache.storeResponse(key, Buffer.from('x')), false);
  await cache.prune([], Date.now(), 0);
  assert.equal((await cache.load(key, 100)).der, undefined);
  assert.equal(log.of('warn').filter(({ facts }) => facts.code === 'cache_not_writable').length, 1);
});

test('a response larger than the limit, which was higher before, stays where it is', async () => {
  await using folder = await temporaryFolder();
  await using opened = await openCache(folder.path);
  const { cache, log } = opened;
  await cache.storeResponse(key, Buffer.alloc(101, 7));
  assert.equal((await cache.load(key, 100)).der, undefined);
  assert.match(log.of('warn')[0]?.message ?? '', /\.der is larger than 100 bytes \(ocsp\.max_response_size\) and is not used/);
  assert.deepEqual((await cache.load(key, 101)).der, Buffer.alloc(101, 7));
});

test('what cannot be a response is quarantined: a link, a pipe, a folder', async () => {
  await using folder = await temporaryFolder();
  await using opened = await openCache(folder.path);
  const { cache, log } = opened;
  const file = folder.file(`${stem}.der`);
  await folder.put('secret', 'secret');
  const make = [() => symlink(folder.file('secret'), file), () => mkdir(file), () => void execFileSync('mkfifo', [file])];
  for (const [i, one] of make.entries()) {
    await one();
    assert.equal((await cache.load(key, 100)).der, undefined);
    assert.equal((await readdir(folder.file('quarantine'))).length, i + 1);
    assert.equal(log.of('warn').at(-1)?.facts.code, 'cache_damaged');
  }
  assert.equal(await readFile(folder.file('secret'), 'utf8'), 'secret');
});

test('the quarantine keeps the newest few', async () => {
  await using folder = await temporaryFolder();
  await using opened = await openCache(folder.path);
  for (let i = 0; i < 40; i += 1) {
    await opened.cache.storeResponse(key, Buffer.from(`${i}`));
    await opened.cache.quarantine(key, 'test');
  }
  const quarantine = folder.file('quarantine');
  const names = (await readdir(quarantine)).sort();
  assert.equal(names.length, 32);
  assert.equal(await mode(quarantine), '700');
  assert.equal(await readFile(path.join(quarantine, names.at(-1) ?? ''), 'utf8'), '39');
});

test('only what is not in use, is ours and is old enough is cleaned up', async () => {
  await using folder = await temporaryFolder();
  await using opened = await openCache(folder.path);
  const unused = { ...key, fingerprint: 'c'.repeat(64) };
  const recent = { ...key, fingerprint: 'd'.repeat(64) };
  for (const one of [key, unused, recent]) {
    await opened.cache.storeResponse(one, Buffer.from('x'));
    await opened.cache.storeRecord(one, record);
  }
  await folder.put('notes.txt', '');
  const old = new Date(Date.now() - 8 * 86_400_000);
  for (const name of await readdir(folder.path)) if (!name.startsWith('d') && !name.startsWith('owner')) await utimes(folder.file(name), old, old);
  await opened.cache.prune([key], Date.now(), 7 * 86_400_000);
  const left = (await readdir(folder.path)).map((name) => name[0]).sort();
  assert.deepEqual(left, ['a', 'a', 'd', 'd', 'n', 'o']);
});

test('a damaged record is worth nothing and harms nothing', async () => {
  await using folder = await temporaryFolder();
  await using opened = await openCache(folder.path);
  const load = async (text: string) => {
    await folder.put(`${stem}.json`, text);
    return (await opened.cache.load(key, 100)).record;
  };
  for (const text of ['', '{"name":', 'null', '7', '"x"']) assert.equal(await load(text), undefined);
  const empty = { name: '', fetchedAt: undefined, responder: undefined, certIdHash: undefined, nextTry: undefined, failures: 0, error: undefined };
  assert.deepEqual(await load('{"name":[],"fetchedAt":"x","certIdHash":"md5","nextTry":-1,"failures":null,"error":7}'), empty);
});

test('a file that cannot be read is a warning', async () => {
  await using folder = await temporaryFolder();
  await using opened = await openCache(folder.path);
  const tooLong = { ...key, fingerprint: 'a'.repeat(300) };
  assert.deepEqual(await opened.cache.load(tooLong, 100), { der: undefined, record: undefined });
  assert.equal(opened.log.of('warn')[0]?.facts.code, 'cache_unreadable');
});
