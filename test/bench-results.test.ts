import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { withFigures } from '../bench/page.ts';
import { figure, judged, type Measured, mergeResults, ratio } from '../bench/results.ts';

const circumstances = { date: '2026-11-22', commit: 'abc', machine: 'two cores', versions: {}, absent: {} };
const row: Measured = {
  ...circumstances,
  // The machine was twice as slow in the second round, and nginx was disturbed in the third.
  peers: { nginx: [{ cpu: 10 }, { cpu: 20 }, { cpu: 30 }], staplegate: [{ cpu: 12 }, { cpu: 24 }, { cpu: 12 }] },
};

test('a ratio compares the figures of one round, and is the median of all rounds', () => {
  assert.equal(ratio(row, 'staplegate', 'nginx', 'cpu'), 1.2);
  assert.equal(figure(row, 'nginx', 'cpu'), 20);
  assert.equal(ratio(row, 'staplegate', 'haproxy', 'cpu'), undefined);
});

test('a goal is met up to and including its limit, and not judged without figures', () => {
  assert.deepEqual(judged(row, { figure: 'cpu', times: 'nginx', most: 1.2 }), { reached: 1.2, met: true });
  assert.deepEqual(judged(row, { figure: 'cpu', times: 'nginx', most: 1.1 }), { reached: 1.2, met: false });
  assert.deepEqual(judged(row, { figure: 'cpu', least: 13 }), { reached: 12, met: false });
  assert.equal(judged(row, { figure: 'cpu', times: 'caddy', most: 1 }), undefined);
});

test('the rows of one run replace those of the same name, and leave the others', async (t) => {
  const folder = await mkdtemp(path.join(tmpdir(), 'staplegate-test-'));
  t.after(() => rm(folder, { recursive: true }));
  const file = path.join(folder, 'results.json');
  await mergeResults(file, { a: row, b: row });
  await mergeResults(file, { b: { ...row, date: '2026-11-23' } });
  const kept = JSON.parse(await readFile(file, 'utf8')) as Record<string, Measured>;
  assert.deepEqual([kept['a']?.date, kept['b']?.date], ['2026-11-22', '2026-11-23']);
});

test('the page says of every goal whether it was met, and keeps what was written around the figures', async () => {
  const page = await readFile(new URL('../docs/benchmarks.md', import.meta.url), 'utf8');
  const written = withFigures(page, { 'h1-100k': row });
  assert.match(written, /\| 20 \| – \| – \| – \| – \| 12 \| 1\.20 \| \*\*≤ 1\.1 × nginx: missed \(1\.20\)\*\* \|/);
  assert.ok(written.startsWith('# Benchmarks\n') && written.includes('## How to read it'));
  assert.throws(() => withFigures('no marks', {}), /must have the lines/);
});
