import assert from 'node:assert/strict';
import test from 'node:test';
import { findResponseHeadEnd, scanResponseHead, type ScannedResponse } from '../src/engine/head.ts';
import { FieldScanner, type Refuse } from '../src/engine/field-lines.ts';
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
  const read = (bytes: Buffer, lenient: boolean): (Omit<ScannedResponse, 'fields'> & { fields: string[][] }) | undefined => {
    try {
      const end = findResponseHeadEnd(bytes, 0, lenient);
      if (end === -1) return;
      const scanned = scanResponseHead(bytes, 0, end, lenient);
      return { ...scanned, fields: scanned.fields.map(({ name, value }) => [name, value]) };
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
    const names = lenient.fields.map(([name = '']) => name);
    assert.deepEqual(framing(names), framing(lines), JSON.stringify(text));
  }
  assert.ok(rescued > 100);
});

test('a scanner reads a head alike, whatever heads it has read before', () => {
  const refuse: Refuse = (code) => new ProxyError(code, code);
  const read = (scanner: FieldScanner, text: string): unknown => {
    try {
      return scanner.scan(text, 0, refuse).map((one) => ({ ...one }));
    } catch (error) {
      return (error as ProxyError).code;
    }
  };
  const lines = ['A: b', 'A: bc', 'a: b', 'A:b ', 'A: ', 'Set-Cookie: x=1', 'Set-Cookie: x=2', 'Content-Length: 1', 'Content-Length:\t1', 'A b'] as const;
  const long = `Long: ${'l'.repeat(5_000)}`;
  const dice = new Dice(1);
  let scanner = new FieldScanner();
  let refused = 0;
  let head: string[] = [];
  for (let n = 0; n < 20_000; n += 1) {
    const changed = head.map((line) => (dice.below(3) === 0 ? dice.pick(lines) : line));
    head = dice.pick([head, head, [...head, dice.pick(lines)], [...head, dice.pick(lines)], head.slice(1), changed]);
    const text = [...head, ...(dice.below(4) === 0 ? [long] : []), '', ''].join('\r\n');
    const result = read(scanner, text);
    assert.deepEqual(result, read(new FieldScanner(), text), JSON.stringify(text));
    if (typeof result !== 'string') continue;
    refused += 1;
    head = [];
    if (dice.below(2) === 0) scanner = new FieldScanner();
  }
  assert.ok(refused > 1_000 && refused < 10_000, `${refused} were refused`);
});
