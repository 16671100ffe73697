import assert from 'node:assert/strict';
import { cp, mkdir, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { execute, temporaryFolder } from './support/program.ts';
import { repository } from './support/installation.ts';

test('compiled code is kept in the checkout, and where it cannot be kept the program starts all the same', async () => {
  await using folder = await temporaryFolder();
  const at = (...names: string[]) => path.join(folder.path, ...names);
  await mkdir(at('node_modules', '.bin'), { recursive: true });
  await symlink(process.execPath, at('node_modules', '.bin', 'node'));
  await cp(path.join(repository, 'scripts', 'staplegate'), at('scripts', 'staplegate'));
  await mkdir(at('src'));
  await writeFile(at('src', 'main.ts'), 'const answer: string = process.argv[2]!;\nconsole.log(answer);\n');
  const compiled = at('node_modules', '.compiled');
  const start = async (environment: NodeJS.ProcessEnv): Promise<void> => {
    // Node hands its own on where there is none.
    const env = { ...process.env, NODE_V8_COVERAGE: '', ...environment };
    const { stdout } = await execute(at('scripts', 'staplegate'), ['hello'], { env });
    assert.equal(stdout, 'hello\n');
  };

  await start({ NODE_V8_COVERAGE: at('coverage') });
  await assert.rejects(readdir(compiled), { code: 'ENOENT' });
  await start({});
  assert.ok((await readdir(compiled, { recursive: true, withFileTypes: true })).some((entry) => entry.isFile()));
  await start({});
  await rm(compiled, { recursive: true });
  await writeFile(compiled, 'no folder');
  await start({});
});
