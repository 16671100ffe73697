import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import test from 'node:test';
import { ConfigError } from '../src/config/config-error.ts';
import { parseConfig } from '../src/config/load.ts';
import { readYaml } from '../src/config/yaml-document.ts';

function syntaxOf(text: string): string[] {
  const { problems, position } = readYaml(text);
  return problems.map(({ offset, message }) => {
    const { line, column } = position(offset);
    return `${line}:${column}: ${message}`;
  });
}

test('faults of notation have a place and a remedy', () => {
  const cases: [string, RegExp][] = [
    ['', /^1:1: the file is empty; it needs at least listen and virtual_hosts$/],
    ['# nothing\n---\n', /^1:1: the file is empty/],
    ['~', /^1:1: the file is empty/],
    ['listen:\n\t- address: x\n', /^2:1: tabs cannot indent; use spaces$/],
    ['a:\n  b: 1\n\tc: 2\n', /^3:1: tabs/],
    ['a:\n   b: 1\n  c: 2\n', /^3:1: not indented like/],
    ['a: [1, 2\nb: 3\n', /^2:1: .*bracket before it is not closed$/],
    ['a: "b\n', /^2:1: a closing quote/],
    ['a: b: c\n', /^1:4: a second `:`/],
    ['a: 1\nfoo\nb: 2\n', /^2:1: expected `key: value`/],
    ['a: 1\n- b\n', /^2:1: expected `key: value`/],
    ['listen: [::]:443\n', /^1:13: unexpected text; put a value in quotes/],
    ['a: @b\n', /^1:4: a value must not begin with @/],
    ['a: "\\q"\n', /^1:5: unknown escape in double quotes/],
    ['a: 1\n---\nb: 2\n', /^2:1: a second document begins here; remove the `---`$/],
    ['a: 1\nb: 2\na: 3\n', /^3:1: `a` is given twice$/],
    ['{ a: 1, a: 2 }\n', /^1:9: `a` is given twice$/],
    ['? [a, b]\n: c\n', /^1:3: a key must be plain text$/],
    [': a\n', /^1:1: the key before the colon is missing$/],
    ['a: !!binary abc\n', /^1:4: tags are not supported/],
    ['a: !secret b\n', /^1:4: tags are not supported/],
    ['%FOO\n---\na: 1\n', /^1:1: directives .* are not supported$/],
    ['a: *.example.org\n', /^1:4: a value that begins with \* must be in quotes: '\*\.example\.org'$/],
    ['a: &a [*a]\n', /^1:8: a value that begins with \*/],
    ['a: &b &c d\n', /^1:7: unexpected anchor/],
  ];
  for (const [text, expected] of cases) {
    const problems = syntaxOf(text);
    assert.equal(problems.length, 1, `${JSON.stringify(text)}: ${problems.join(' | ')}`);
    assert.match(problems[0] ?? '', expected, JSON.stringify(text));
  }
});

test('YAML 1.2: yes, on and 0o-less octals are not what YAML 1.1 made of them, whatever the directive says', () => {
  assert.deepEqual(readYaml('%YAML 1.1\n---\na: [no, on, 010, 1_000, 12:30]\n').root?.value, { a: ['no', 'on', 10, '1_000', '12:30'] });
});

test('a bomb of aliases is refused before it is expanded', () => {
  const levels = 'bcdefghijkl'.split('').map((name, i) => `${name}: &${name} [${Array(10).fill(`*${'abcdefghijk'[i]}`).join(', ')}]`);
  assert.match(syntaxOf(['a: &a [1, 1]', ...levels].join('\n'))[0] ?? '', /^6:\d+: the aliases \(\*\) stand for too many values$/);
});

test('nesting is limited, in the parser and after it', () => {
  for (const text of ['['.repeat(100_000), '{a: '.repeat(50_000), '- '.repeat(50_000), `a: ${'['.repeat(40)}${']'.repeat(40)}`])
    assert.match(syntaxOf(text)[0] ?? '', /nested too deeply$/);
});

test('a key cannot reach the prototype of the values', () => {
  const value = readYaml('__proto__: { polluted: true }\nconstructor: 1\n').root?.value as object;
  assert.equal(Object.getPrototypeOf(value), Object.prototype);
  assert.equal(({} as { polluted?: true }).polluted, undefined);
  assert.deepEqual(Object.keys(value), ['__proto__', 'constructor']);
});

/** Park and Miller's minimal standard generator: the same mutations in every run. */
function* numbers(seed: number): Generator<number, never> {
  for (let state = seed; ;) yield (state = (state * 48_271) % 2_147_483_647);
}

test('whatever is done to the sample, the result is a configuration or a list of problems', () => {
  const sample = readFileSync(new URL('../config.yaml', import.meta.url));
  const random = numbers(20_261_122);
  const below = (limit: number) => random.next().value % limit;
  const fragments = [
    '\t',
    '\n',
    '\n\n',
    ': ',
    '- ',
    '[',
    ']',
    '{',
    '}',
    '"',
    "'",
    '#',
    '&a ',
    '*a',
    '!!str ',
    '|',
    '>',
    '? ',
    '---\n',
    '~',
    '0',
    '-1',
    'é',
    '\u2028',
    '\ufeff',
    '\0',
    '__proto__: 1\n',
  ];
  let valid = 0;
  const total = 2_000;
  for (let i = 0; i < total; i++) {
    let bytes = sample;
    for (let edits = 1 + below(3); edits > 0; edits--) {
      const at = below(bytes.length);
      const length = below(4) === 0 ? below(200) : below(3);
      const piece =
        below(3) === 0
          ? sample.subarray(at, at + below(300))
          : below(2) === 0
            ? Buffer.from([below(256)])
            : Buffer.from(fragments[below(fragments.length)] ?? '');
      bytes = Buffer.concat([bytes.subarray(0, at), piece, bytes.subarray(at + length)]);
    }
    const text = bytes.toString('utf8');
    try {
      const config = parseConfig(text, 'config.yaml');
      assert.ok(config.virtualHosts.length > 0);
      valid += 1;
    } catch (error) {
      assert.ok(error instanceof ConfigError, `${String(error)}\n${text}`);
      assert.ok(error.problems.length > 0);
      const lines = text.split('\n').length;
      for (const { line, column, message } of error.problems) {
        assert.ok(line >= 1 && line <= lines && column >= 1, `${line}:${column} of ${lines} lines`);
        assert.doesNotMatch(message, /received|expected \w+$|Invalid|Unrecognized|undefined|NaN|flow|scalar|mapping|implicit|is not valid/, message);
        assert.doesNotMatch(message, /[\x00-\x1f\x7f-\x9f\u2028\u2029]/);
      }
    }
  }
  assert.ok(valid > total / 20 && valid < total / 1.2, `${valid} of ${total} are valid`);
});
