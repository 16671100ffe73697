import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import test from 'node:test';
import packageJson from '../package.json' with { type: 'json' };
import { parseConfig } from '../src/config/load.ts';
import { repository } from './support/installation.ts';
import { blocks, commands, fileLinks } from './support/markdown.ts';
import { assertKnown, Reader } from './support/reader.ts';
import { needs } from './support/tools.ts';

/** The README is true: what it links to is there, and what it shows is what happens (support/reader.ts says how that is done). */

const page = await readFile(path.join(repository, 'README.md'), 'utf8');
const all = blocks(page);

test('its links lead to files, and its npm scripts exist', () => {
  for (const file of fileLinks(page)) assert.ok(existsSync(path.join(repository, file)), file);
  const scripts = [...page.matchAll(/`npm (?:run )?(\w+)`/g)].map(([, name]) => name!);
  assert.ok(scripts.includes('start') && scripts.includes('test'));
  for (const name of scripts) assert.ok(name in packageJson.scripts, `npm ${name}`);
});

test('its configurations load', () => {
  const configurations = all.filter(({ language }) => language === 'yaml');
  assert.ok(configurations.length > 0);
  for (const { lines, line } of configurations) assert.ok(parseConfig(lines.join('\n'), `README.md:${line}`).virtualHosts.length > 0);
});

test('every command is one that this test knows how to run', () => {
  for (const { language, line } of all) assert.ok(['console', 'text', 'yaml', 'sh'].includes(language), `line ${line}: a block in "${language}"`);
  for (const command of all.filter(({ language }) => language === 'console').flatMap(commands)) assertKnown(command);
});

test('every command does what is shown', needs('openssl', 'curl', 'gnutls-cli', 'git', 'systemctl', 'systemd-sysusers'), async () => {
  await using reader = await Reader.at();
  for (const block of all) await reader.read(block);
  assert.equal(reader.starts, 2);
});
