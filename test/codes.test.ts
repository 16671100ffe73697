import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import test from 'node:test';
import { fileURLToPath } from 'node:url';
import { errorTables } from '../scripts/reference.ts';

const root = fileURLToPath(new URL('..', import.meta.url));
const listed = errorTables.flatMap(([, rows]) => rows.map(([code]) => code));

test('every code that the source logs or throws is in docs/errors.md', () => {
  const known = new Set(listed);
  for (const file of globSync('src/**/*.ts', { cwd: root })) {
    const text = readFileSync(root + file, 'utf8');
    for (const [, code] of text.matchAll(/\bcode(?::| =) '([a-z]+_[a-z_]+)'/g)) assert.ok(known.has(code!), `${file}: ${code}`);
  }
});

test('a code means one thing', () => {
  const repeated = listed.filter((code, i) => listed.indexOf(code) !== i);
  assert.deepEqual(repeated, []);
});
