import assert from 'node:assert/strict';
import { copyFile, mkdir, writeFile } from 'node:fs/promises';
import { test } from 'node:test';
import { execute, temporaryFolder } from './support/program.ts';

const root = { '': { name: 'staplegate' } };
const wanted = { ...root, 'node_modules/yaml': { version: '2.9.1' }, 'node_modules/node-elsewhere': { version: '24.21.0', optional: true } };

/** @returns what npm was called with, if it was; `npm` is a script that only says that it was */
async function npmCall(locks: Record<string, object | string>, ...args: string[]): Promise<string | undefined> {
  await using folder = await temporaryFolder();
  await mkdir(`${folder.path}/scripts`);
  await mkdir(`${folder.path}/node_modules/.bin`, { recursive: true });
  await writeFile(`${folder.path}/node_modules/.bin/node`, '');
  await copyFile(new URL('../scripts/install.mjs', import.meta.url), `${folder.path}/scripts/install.mjs`);
  for (const [name, packages] of Object.entries(locks))
    await writeFile(`${folder.path}/${name}`, typeof packages === 'string' ? packages : JSON.stringify({ packages }));
  await writeFile(`${folder.path}/npm.mjs`, 'console.error("npm was asked for", ...process.argv.slice(2))');
  const npm = `${folder.path}/npm.mjs`;
  const { stderr } = await execute(process.execPath, [`${folder.path}/scripts/install.mjs`, ...args], { env: { ...process.env, npm_execpath: npm } });
  return /^npm was asked for (.*)$/m.exec(stderr)?.[1];
}

const installs = async (...call: Parameters<typeof npmCall>): Promise<boolean> => (await npmCall(...call)) !== undefined;

test('packages are installed when one is missing or has another version, and only then', async () => {
  const { 'node_modules/node-elsewhere': _, ...here } = wanted;
  assert.equal(await installs({ 'package-lock.json': wanted }), true, 'nothing is there');
  assert.equal(await installs({ 'package-lock.json': wanted, 'node_modules/.package-lock.json': '' }), true, 'npm was stopped');
  assert.equal(await installs({ 'package-lock.json': wanted, 'node_modules/.package-lock.json': here }), false, 'not for this platform');
  assert.equal(await installs({ 'package-lock.json': wanted, 'node_modules/.package-lock.json': root }), true, 'one is missing');
  const older = { ...wanted, 'node_modules/yaml': { version: '2.9.0' } };
  assert.equal(await installs({ 'package-lock.json': wanted, 'node_modules/.package-lock.json': older }), true, 'another version');
});

test('the service needs nothing of what developers need', async () => {
  const more = { ...wanted, 'node_modules/typescript': { version: '7.0.2', dev: true } };
  const locks = { 'package-lock.json': more, 'node_modules/.package-lock.json': wanted };
  assert.equal(await installs(locks), true);
  assert.equal(await installs(locks, '--omit=dev'), false);
  assert.match((await npmCall({ 'package-lock.json': more }, '--omit=dev')) ?? '', /^ci --omit=dev --no-audit /);
});
