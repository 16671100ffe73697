import assert from 'node:assert/strict';
import { type FileHandle, open } from 'node:fs/promises';
import test from 'node:test';
import { setImmediate as nextTurn, setTimeout } from 'node:timers/promises';
import { FolderSync } from '../src/ocsp/folder-sync.ts';
import { temporaryFolder } from './support/program.ts';

/** A real folder whose syncs are counted. */
async function countedFolder(path: string): Promise<{ handle: FileHandle; begun: () => number; fail: (error: Error | undefined) => void } & AsyncDisposable> {
  const handle = await open(path);
  const sync = handle.sync.bind(handle);
  let begun = 0;
  let failure: Error | undefined;
  handle.sync = () => {
    begun += 1;
    return failure === undefined ? sync() : Promise.reject(failure);
  };
  return { handle, begun: () => begun, fail: (error) => void (failure = error), [Symbol.asyncDispose]: () => handle.close() };
}

test('names that come one by one get a sync each; all that come while one is going on share the next', async () => {
  await using temporary = await temporaryFolder();
  await using folder = await countedFolder(temporary.path);
  const names = new FolderSync(folder.handle);
  for (let i = 1; i <= 3; i += 1) {
    await names.sync();
    assert.equal(folder.begun(), i);
  }
  const first = names.sync();
  while (folder.begun() === 3) await nextTurn();
  // This one has begun: what is renamed now may be too late for it.
  const others = Array.from({ length: 1000 }, () => names.sync());
  await Promise.all([first, ...others]);
  assert.equal(folder.begun(), 5);
});

test('in a storm names wait for each other: far fewer syncs than names', async () => {
  await using temporary = await temporaryFolder();
  await using folder = await countedFolder(temporary.path);
  const names = new FolderSync(folder.handle);
  const asked: Promise<void>[] = [];
  for (let i = 0; i < 200; i += 1) {
    asked.push(names.sync());
    await setTimeout(2); // one that is done at once takes less
  }
  await Promise.all(asked);
  assert.ok(folder.begun() < 150, `${folder.begun()} syncs for 200 names`);
});

test('a sync that fails fails for all who waited for it, and for nobody after', async () => {
  await using temporary = await temporaryFolder();
  await using folder = await countedFolder(temporary.path);
  const names = new FolderSync(folder.handle);
  folder.fail(new Error('EIO'));
  const results = await Promise.allSettled([names.sync(), names.sync()]);
  assert.deepEqual(
    results.map(({ status }) => status),
    ['rejected', 'rejected'],
  );
  assert.equal(folder.begun(), 1);
  folder.fail(undefined);
  await names.sync();
  assert.equal(folder.begun(), 2);
});
