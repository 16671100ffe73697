/**
 * Documentation shows real output, shortened: a line `…` stands for any number of lines, `…` inside a line for any text.
 * What differs from run to run (times, serial numbers, durations, versions) is left out of the comparison.
 */

const varying: [RegExp, string][] = [
  [/\d{4}-\d\d-\d\dT[\d:.]+Z/g, '<time>'],
  [/[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \d{4} GMT/g, '<time>'],
  [/\d{4}-\d\d-\d\d/g, '<date>'],
  [/\b(\w*ms|workers)=\d+/g, '$1=<n>'],
  [/\b[0-9a-f]{16,}\b/gi, '<hex>'],
  [/(?<![\d.])v?\d+\.\d+\.\d+(?![\d.])/g, '<version>'],
  [/(\.yaml):\d+:\d+:/g, '$1:<line>:<column>:'],
];

function normalized(line: string): string {
  return varying.reduce((text, [pattern, word]) => text.replace(pattern, word), line).trimEnd();
}

function matcher(shown: string): RegExp {
  const parts = normalized(shown)
    .split('…')
    .map((part) => part.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&'));
  return new RegExp(`^${parts.join('.*')}$`);
}

/**
 * Looks for shown lines in real output: in order, and one right after the other where no `…` stands between.
 * @returns the first shown line that the output does not have in its place, undefined when all are there
 */
export function missingFrom(output: readonly string[], shown: readonly string[]): string | undefined {
  const lines = output.map(normalized);
  let at = 0;
  for (const [i, group] of groups(shown).entries()) {
    const patterns = group.map(matcher);
    const starts = i === 0 ? [0] : lines.keys();
    const start = [...starts].find((n) => n >= at && patterns.every((pattern, k) => pattern.test(lines[n + k] ?? '')));
    if (start === undefined) return group.find((_, k) => !lines.some((line) => patterns[k]!.test(line))) ?? group[0];
    at = start + group.length;
  }
  return at < lines.length && shown.at(-1) !== '…' ? `(the output goes on: ${output[at]})` : undefined;
}

/** Runs of lines without a `…` between them; the first is empty when the output begins with one. */
function groups(shown: readonly string[]): string[][] {
  const all: string[][] = [[]];
  for (const line of shown) {
    if (line === '…') all.push([]);
    else all.at(-1)!.push(line);
  }
  return all;
}
