import assert from 'node:assert/strict';
import test from 'node:test';
import { findResponseHeadEnd, scanResponseHead, type ScannedResponse } from '../src/engine/head.ts';
import { ProxyError } from '../src/proxy/proxy-error.ts';
import { requestCase, responseCase, type Case } from './fuzz/cases.ts';
import { Dice } from './fuzz/dice.ts';
import { type Differences, requestDifferences, responseDifferences } from './fuzz/differences.ts';
import { responses } from './fuzz/grammar.ts';

/** What we accept, llhttp must accept and mean the same; what only llhttp accepts must be explained by a rule, and each rule must be needed. */
async function readAlike(read: (number: number) => Promise<Case>, { stricter, wider, followed }: Differences, count: number): Promise<void> {
  const unused = new Set([...stricter, ...wider, ...followed].map(({ name }) => name));
  let alike = 0;
  for (let number = 0; number < count; number += 1) {
    const { text, finding, rule, ...verdict } = await read(number);
    assert.equal(finding, undefined, `case ${number}: ${JSON.stringify(text)}`);
    alike += verdict.alike;
    if (rule !== undefined) unused.delete(rule);
  }
  assert.deepEqual([...unused], []);
  // Otherwise the cases are too odd to show anything.
  assert.ok(alike > count / 2, `${alike} messages of ${count} cases were read alike`);
}

test('requests: what we accept, llhttp accepts and means the same', () => readAlike(requestCase, requestDifferences, 12_000));

test('responses: what we accept, llhttp accepts and means the same', () => readAlike(responseCase, responseDifferences, 8_000));

test('lenient reading understands what strict reading does, and loses no line about framing', () => {
  const read = (bytes: Buffer, lenient: boolean): ScannedResponse | undefined => {
    try {
      const end = findResponseHeadEnd(bytes, 0, lenient);
      return end === -1 ? undefined : scanResponseHead(bytes, 0, end, lenient);
    } catch (error) {
      assert.ok(error instanceof ProxyError && error.code === 'backend_bad_response');
    }
  };
  const framing = (lines: readonly string[]): string[] =>
    lines.map((line) => (line.split(':')[0] ?? '').toLowerCase().replaceAll(/[^a-z]/g, '')).filter((name) => /contentlength|transferencoding/.test(name));
  let rescued = 0;
  for (let number = 0; number < 10_000; number += 1) {
    const text = responses(new Dice(number));
    const bytes = Buffer.from(text, 'latin1');
    const strict = read(bytes, false);
    const lenient = read(bytes, true);
    if (strict) assert.deepEqual(lenient, strict, JSON.stringify(text));
    if (!lenient) continue;
    if (!strict) rescued += 1;
    // A reason may say what it likes.
    const lines = text.slice(text.indexOf('\n'), findResponseHeadEnd(bytes, 0, true)).split(/[\r\n]+/);
    const names = lenient.fields.map(({ name }) => name);
    assert.deepEqual(framing(names), framing(lines), JSON.stringify(text));
  }
  assert.ok(rescued > 100);
});
