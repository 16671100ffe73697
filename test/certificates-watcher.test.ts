import assert from 'node:assert/strict';
import { EventEmitter, once } from 'node:events';
import fs from 'node:fs';
import { appendFile, chmod, mkdir, rename, rm, stat, symlink, utimes, writeFile } from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import { join } from 'node:path';
import test, { type TestContext } from 'node:test';
import { FileWatcher } from '../src/certificates/watcher.ts';
import { folder, memoryLog } from './support/certificate-files.ts';

const never = 3_600_000;

function look(path: string): string {
  try {
    return fs.statSync(path).isDirectory() ? 'directory' : fs.readFileSync(path, 'utf8');
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? '';
  }
}

/** A watcher whose reports can be waited for. Without a poll, so that events alone must do. */
async function watch(t: TestContext, files: string[], { directories = [], ...options }: { directories?: string[]; poll?: number; settle?: number } = {}) {
  const log = memoryLog();
  /** What was reported, with what it held then. */
  const reports: string[] = [];
  const events = new EventEmitter();
  const onChange = (paths: string[]) => {
    reports.push(...paths.map((path) => `${path}=${look(path)}`));
    events.emit('report');
  };
  const watcher = new FileWatcher({ settle: 10, poll: never, onChange, log, ...options });
  t.after(() => watcher.close());
  await watcher.update(files, directories);
  reports.length = 0; // they are new
  /** Waits until this path was reported while it held this, and forgets all reports so far. */
  const reported = async (path: string, content: string) => {
    while (!reports.includes(`${path}=${content}`)) await once(events, 'report');
    return reports.splice(0);
  };
  return { watcher, log, reported, reports };
}

test('a file is reported when it is written, replaced, deleted and created again', { timeout: 20_000 }, async (t) => {
  const file = join(await folder(t), 'config.yaml');
  await writeFile(file, 'a');
  const { reported } = await watch(t, [file]);
  await writeFile(file, 'b');
  await reported(file, 'b');
  await writeFile(`${file}.new`, 'c');
  await rename(`${file}.new`, file);
  await reported(file, 'c');
  await writeFile(file, 'd');
  await reported(file, 'd');
  await rm(file);
  await reported(file, 'ENOENT');
  await writeFile(file, 'e');
  await reported(file, 'e');
});

test('a directory in the place of a file, as docker makes for a mount of nothing, gives way to the file', { timeout: 20_000 }, async (t) => {
  const file = join(await folder(t), 'config.yaml');
  await mkdir(file);
  const { reported } = await watch(t, [file]);
  await rm(file, { recursive: true });
  await writeFile(file, 'a');
  await reported(file, 'a');
});

test('only contents count: neighbours, touched times and equal bytes are no change', { timeout: 20_000 }, async (t) => {
  const directory = await folder(t);
  const [file, other] = [join(directory, 'a'), join(directory, 'b')];
  await writeFile(file, 'same');
  await writeFile(other, '1');
  const { reported } = await watch(t, [file, other]);
  await utimes(file, 1, 1);
  await writeFile(`${file}.new`, 'same');
  await rename(`${file}.new`, file);
  await writeFile(join(directory, 'neighbour'), 'x');
  await appendFile(other, '2');
  assert.deepEqual(await reported(other, '12'), [`${other}=12`]);
});

test('links are followed at both ends: retargeted, and written behind', { timeout: 20_000 }, async (t) => {
  const directory = await folder(t);
  const at = (...names: string[]) => join(directory, ...names);
  await mkdir(at('live', 'shop'), { recursive: true });
  await mkdir(at('archive', 'shop'), { recursive: true });
  await writeFile(at('archive', 'shop', 'fullchain1.pem'), '1');
  await symlink('../../archive/shop/fullchain1.pem', at('live', 'shop', 'fullchain.pem'));
  await symlink('live', at('current'));
  const file = at('current', 'shop', 'fullchain.pem');
  const { reported } = await watch(t, [file]);

  await writeFile(at('archive', 'shop', 'fullchain1.pem'), '1, written in place');
  await reported(file, '1, written in place');
  await writeFile(at('archive', 'shop', 'fullchain2.pem'), '2');
  await rm(at('live', 'shop', 'fullchain.pem'));
  await symlink('../../archive/shop/fullchain2.pem', at('live', 'shop', 'fullchain.pem'));
  await reported(file, '2');
  // A link among the directories.
  await mkdir(at('next', 'shop'), { recursive: true });
  await writeFile(at('next', 'shop', 'fullchain.pem'), '3');
  await symlink('next', at('swap'));
  await rename(at('swap'), at('current'));
  await reported(file, '3');
  // The new end is watched too.
  await writeFile(at('next', 'shop', 'fullchain.pem'), '4');
  await reported(file, '4');
});

test('a directory that is replaced, or deleted and made again, is watched anew', { timeout: 20_000 }, async (t) => {
  const directory = await folder(t);
  const file = join(directory, 'certs', 'a');
  await mkdir(join(directory, 'certs'));
  await writeFile(file, '1');
  const { reported } = await watch(t, [file]);

  await mkdir(join(directory, 'new'));
  await writeFile(join(directory, 'new', 'a'), '2');
  await rename(join(directory, 'certs'), join(directory, 'old'));
  await rename(join(directory, 'new'), join(directory, 'certs'));
  await reported(file, '2');
  await writeFile(file, '3');
  await reported(file, '3');
  await rm(join(directory, 'certs'), { recursive: true });
  await reported(file, 'ENOENT');
  await mkdir(join(directory, 'certs'));
  await writeFile(file, '4');
  await reported(file, '4');
  await writeFile(file, '5');
  await reported(file, '5');
});

test('a directory deleted and made again between two looks is watched anew', { timeout: 20_000 }, async (t) => {
  const directory = join(await folder(t), 'certs');
  const file = join(directory, 'a');
  await mkdir(directory);
  await writeFile(file, '1');
  const { reported } = await watch(t, [file], { settle: 300 });
  await rm(directory, { recursive: true });
  // Time enough for chokidar to give the directory up, and too little for a look.
  for (let i = 0; i < 200; i += 1) await stat(directory).catch(() => undefined);
  await mkdir(directory);
  await writeFile(file, '2');
  await reported(file, '2');
  await writeFile(file, '3');
  await reported(file, '3');
});

test('what does not exist yet is waited for, directories included', { timeout: 20_000 }, async (t) => {
  const directory = await folder(t);
  const file = join(directory, 'a', 'b', 'c');
  const { reported } = await watch(t, [file]);
  await mkdir(join(directory, 'a', 'b'), { recursive: true });
  await writeFile(file, '1');
  await reported(file, '1');
});

test('links in a circle, to themselves and to nowhere are looked at without harm', { timeout: 20_000 }, async (t) => {
  const directory = await folder(t);
  const [a, b, self] = [join(directory, 'a'), join(directory, 'b'), join(directory, 'self')];
  await symlink('b', a);
  await symlink('a', b);
  await symlink('self/x', self);
  const { reported } = await watch(t, [a, b, self]);
  await rm(a);
  await writeFile(a, 'file');
  await reported(b, 'file');
});

test('permission lost and regained are changes', { timeout: 20_000 }, async (t) => {
  const before = process.geteuid!();
  // Permissions do not bind root; another effective user id brings them back.
  if (before === 0) process.seteuid!(65_534);
  t.after(() => process.seteuid!(before));
  const file = join(await folder(t), 'a');
  await writeFile(file, '1');
  const { reported } = await watch(t, [file]);
  await chmod(file, 0);
  await reported(file, 'EACCES');
  await chmod(file, 0o600);
  await reported(file, '1');
});

test('names in a directory and one level below are reported, contents are not', { timeout: 20_000 }, async (t) => {
  const directory = await folder(t);
  await mkdir(join(directory, 'shop'));
  const { reported } = await watch(t, [], { directories: [directory] });
  await writeFile(join(directory, 'shop', 'fullchain.pem'), '1');
  await reported(directory, 'directory');
  await writeFile(join(directory, 'shop', 'fullchain.pem'), '2');
  await mkdir(join(directory, 'mail'));
  assert.equal((await reported(directory, 'directory')).length, 1);
  await writeFile(join(directory, 'mail', 'fullchain.pem'), '1');
  await reported(directory, 'directory');
  await rm(directory, { recursive: true });
  await reported(directory, 'ENOENT');
  await mkdir(directory);
  await reported(directory, 'directory');
  await mkdir(join(directory, 'again'));
  await reported(directory, 'directory');
});

test('a constant stream of changes does not put off the report for ever', { timeout: 20_000 }, async (t) => {
  const file = join(await folder(t), 'a');
  await writeFile(file, '');
  const { reports } = await watch(t, [file], { settle: 50 });
  // Each write comes sooner after the last than the settling time.
  while (reports.length === 0) {
    await appendFile(file, 'x');
    await new Promise(setImmediate);
  }
});

test('update: a file listed later is reported if it changed lately, a dropped one no more', { timeout: 20_000 }, async (t) => {
  const directory = await folder(t);
  const [first, fresh, late] = [join(directory, 'first'), join(directory, 'fresh'), join(directory, 'late')];
  await writeFile(first, '1');
  await writeFile(fresh, '1');
  const { watcher, reported } = await watch(t, [first]);
  void watcher.update([fresh, late]);
  assert.deepEqual(await reported(fresh, '1'), [`${fresh}=1`]);
  await writeFile(first, '2');
  await appendFile(late, '1');
  assert.deepEqual(await reported(late, '1'), [`${late}=1`]);
});

test('a callback that fails is logged, and the next change is reported', { timeout: 20_000 }, async (t) => {
  const file = join(await folder(t), 'a');
  await writeFile(file, '1');
  const log = memoryLog();
  const events = new EventEmitter();
  let calls = 0;
  const onChange = () => {
    calls += 1;
    events.emit('called');
    if (calls === 1) throw new Error('broken');
  };
  const watcher = new FileWatcher({ settle: 5, poll: never, onChange, log });
  t.after(() => watcher.close());
  await watcher.update([file]);
  for (const content of ['2', '3']) {
    const called = once(events, 'called');
    await writeFile(file, content);
    await called;
  }
  assert.equal(log.lines.filter(({ level, message }) => level === 'error' && message.includes('broken')).length, 1);
});

test('without kernel events the poll finds changes, and the limit to raise is named once', { timeout: 20_000 }, async (t) => {
  const directory = await folder(t);
  const files = ['a', 'b'].map((name) => join(directory, name, 'file'));
  for (const file of files) {
    await mkdir(join(file, '..'));
    await writeFile(file, '1');
  }
  const { watch: original } = fs;
  t.after(() => {
    fs.watch = original;
    syncBuiltinESMExports();
  });
  fs.watch = () => {
    throw Object.assign(new Error('ENOSPC: System limit for number of file watchers reached'), { code: 'ENOSPC' });
  };
  syncBuiltinESMExports();
  const { reported, log } = await watch(t, files, { poll: 20 });
  assert.deepEqual(
    log.lines.map(({ level, code }) => [level, code]),
    [['warn', 'watch_limit']],
  );
  assert.match(log.lines[0]!.message, /fs\.inotify\.max_user_watches/);
  await writeFile(files[1]!, '2');
  await reported(files[1]!, '2');
});
