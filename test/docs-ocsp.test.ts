import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import test from 'node:test';
import { fileURLToPath } from 'node:url';
import { errorTables } from '../scripts/reference.ts';
import { sectionsOf } from '../src/config/keys.ts';
import { schema } from '../src/config/schema.ts';
import { fileLinks } from './support/markdown.ts';

const docs = fileURLToPath(new URL('../docs/', import.meta.url));
const page = (name: string): string => readFileSync(docs + name, 'utf8');
const pages = ['ocsp.md', 'from-apache.md', 'library.md'];

const settings = new Set([...sectionsOf(schema)].flatMap(([section, keys]) => keys.map((key) => (section === '' ? key : `${section}.${key}`))));
const codes = new Set(errorTables.flatMap(([, rows]) => rows.map(([code]) => code)));

/** What stands between backticks. */
const words = (name: string): string[] => [...page(name).matchAll(/`([^`\n]+)`/g)].map(([, word]) => word!);

test('every setting that these pages name exists', () => {
  for (const name of pages) {
    const named = words(name).flatMap((word) => /^((?:ocsp|virtual_hosts\[\])\.[a-z_.[\]]+)(?::.*)?$/.exec(word)?.[1] ?? []);
    for (const setting of named) assert.ok(settings.has(setting), `${name}: ${setting}`);
    if (name !== 'library.md') assert.ok(named.length > 8, name);
  }
});

test('docs/ocsp.md puts every setting of ocsp into its context', () => {
  const text = page('ocsp.md');
  const missing = [...settings].filter((setting) => setting.startsWith('ocsp.') && !text.includes(`\`${setting}`));
  assert.deepEqual(missing, []);
});

test('the codes and states that docs/ocsp.md names exist', () => {
  const states = ['good', 'pending', 'failing', 'revoked', 'expired', 'no_responder', 'off'];
  const named = words('ocsp.md').filter((word) => /^[a-z]+_[a-z_]+$/.test(word) && !settings.has(word) && !word.endsWith('_proxy') && word !== 'ocsp_response');
  for (const word of named) assert.ok(codes.has(word) || states.includes(word), word);
  for (const state of states) assert.ok(page('ocsp.md').includes(`| \`${state}\` |`), state);
});

test('docs/from-apache.md has every stapling directive of mod_ssl and mod_md', () => {
  const text = page('from-apache.md');
  const stapling = 'Cache ErrorCacheTimeout FakeTryLater ForceURL ResponderTimeout ResponseMaxAge ResponseTimeSkew ReturnResponderErrors StandardCacheTimeout';
  const directives = stapling.split(' ').map((end) => `SSLStapling${end}`);
  const others = ['SSLUseStapling', 'SSLOCSPProxyURL', 'MDStapling', 'MDStapleOthers', 'MDStaplingKeepResponse', 'MDStaplingRenewWindow'];
  for (const directive of [...directives, ...others]) assert.ok(text.includes(`| \`${directive}\` |`), directive);
});

test('the files and headings that these pages link to exist', () => {
  const anchor = (heading: string): string =>
    heading
      .toLowerCase()
      .replaceAll(/[^a-z0-9 _-]/g, '')
      .replaceAll(' ', '-');
  for (const name of [...pages, 'tls-clients.md', 'forwarding.md']) {
    for (const file of fileLinks(page(name))) assert.ok(existsSync(path.join(docs, file)), `${name}: ${file}`);
    for (const [, file, target] of page(name).matchAll(/\]\(([^)#:]+)#([^)]+)\)/g)) {
      const headings = [...page(file!).matchAll(/^#+ (.+)$/gm)].map(([, heading]) => anchor(heading!));
      assert.ok(headings.includes(target!), `${name}: ${file}#${target}`);
    }
  }
});

test('pictures are plain SVG: no script, nothing loaded from elsewhere, a title for those who cannot see', () => {
  const pictures = readdirSync(docs).filter((name) => name.endsWith('.svg'));
  assert.ok(pictures.includes('staple-timeline.svg'));
  for (const name of pictures) {
    const text = page(name);
    assert.doesNotMatch(text, /<script|\son\w+=|href=|url\(|@import|<!ENTITY/i, name);
    assert.match(text, /<title id="title">.+<\/title>/, name);
    assert.match(text, /prefers-color-scheme: dark/, name);
  }
});
