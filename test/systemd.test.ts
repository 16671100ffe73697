import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import test from 'node:test';
import { fileURLToPath } from 'node:url';
import { execute, temporaryFolder } from './support/program.ts';
import { needs } from './support/tools.ts';

const root = fileURLToPath(new URL('..', import.meta.url)).replace(/\/$/, '');
const unit = path.join(root, 'systemd/staplegate.service');

test('the unit is well-formed, and every program that it names is there', needs('systemd-analyze'), async () => {
  await using folder = await temporaryFolder();
  // As if this checkout had been installed as the README says.
  const installed = folder.file('staplegate.service');
  await writeFile(installed, (await readFile(unit, 'utf8')).replaceAll('/opt/staplegate', root));
  const { code, stdout, stderr } = await execute('systemd-analyze', ['verify', '--man=no', installed]);
  assert.equal(stdout + stderr, '');
  assert.equal(code, 0);
});

test('systemd rates its exposure 2.0 or lower', needs('systemd-analyze'), async () => {
  const { stdout } = await execute('systemd-analyze', ['security', '--offline=true', '--no-pager', unit]);
  const level = Number(/Overall exposure level for \S+: ([\d.]+)/.exec(stdout)?.[1]);
  assert.ok(level <= 2, `exposure level ${level}`);
});

test('the program stops within the time that systemd gives it', async () => {
  const text = await readFile(unit, 'utf8');
  const stop = Number(/^TimeoutStopSec=(\d+)$/m.exec(text)?.[1]);
  const reference = await readFile(path.join(root, 'docs/configuration.md'), 'utf8');
  const grace = Number(/`shutdown_grace` \|[^|]*\| `(\d+)s`/.exec(reference)?.[1]);
  assert.ok(stop >= grace + 5, `TimeoutStopSec=${stop}, shutdown_grace ${grace} s`);
});

test('the user is declared', needs('systemd-sysusers'), async () => {
  const { code, stdout, stderr } = await execute('systemd-sysusers', ['--dry-run', path.join(root, 'systemd/staplegate.sysusers.conf')]);
  assert.equal(code, 0, stderr);
  assert.match(stdout + stderr, /staplegate/);
});
