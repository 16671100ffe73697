import assert from 'node:assert/strict';
import { statSync, utimesSync, writeFileSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'node:test';
import { directoryContent, fileContent } from '../src/certificates/content.ts';
import { folder } from './support/certificate-files.ts';

const minute = 60_000;

test('times of a file that changed just now do not prove its bytes: the clock may tick too slowly', async (t) => {
  const file = join(await folder(t), 'a');
  await writeFile(file, '1');
  const changedAt = statSync(file).ctimeMs;
  assert.equal(fileContent(file, undefined, changedAt + 1).signature, undefined);
  const settled = fileContent(file, undefined, changedAt + minute);
  assert.notEqual(settled.signature, undefined);
  assert.equal(fileContent(file, settled, changedAt + minute), settled);
});

test('other bytes of the same size under the old modification time are seen', async (t) => {
  const file = join(await folder(t), 'a');
  await writeFile(file, '1');
  utimesSync(file, 1000, 1000);
  const before = fileContent(file, undefined, Date.now() + minute);
  const { ctimeNs } = statSync(file, { bigint: true });
  do {
    writeFileSync(file, '2');
    utimesSync(file, 1000, 1000);
  } while (statSync(file, { bigint: true }).ctimeNs === ctimeNs);
  assert.notEqual(fileContent(file, before, Date.now() + minute).state, before.state);
});

test('missing, unreadable and too large files have a state too', async (t) => {
  const directory = await folder(t);
  const big = join(directory, 'big');
  await writeFile(big, Buffer.alloc(2 * 1024 * 1024));
  assert.equal(fileContent(join(directory, 'absent'), undefined, 0).state, 'ENOENT');
  assert.equal(fileContent(join(big, 'below'), undefined, 0).state, 'ENOTDIR');
  assert.equal(fileContent(big, undefined, 0).state, fileContent(big, undefined, 0).state);
});

test('a directory is compared by names, its own and those one level below', async (t) => {
  const directory = await folder(t);
  const states = new Set<string>();
  const add = () => states.add(directoryContent(directory).state);
  add();
  await mkdir(join(directory, 'a', 'b'), { recursive: true });
  add();
  await writeFile(join(directory, 'a', 'file'), '1');
  add();
  assert.equal(states.size, 3);
  await writeFile(join(directory, 'a', 'file'), '2');
  await writeFile(join(directory, 'a', 'b', 'deep'), '');
  add();
  assert.equal(states.size, 3);
});
