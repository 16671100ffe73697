import { spawnSync } from 'node:child_process';
import { globSync } from 'node:fs';

/** Everything that must hold before a change is committed: types, lint, format, then every test with coverage. */

const steps: [name: string, command: string, args: string[]][] = [
  ['types', 'tsc', []],
  ['lint', 'oxlint', ['--type-aware', '--deny-warnings']],
  ['format', 'oxfmt', ['--check', '.']],
  [
    'tests',
    process.execPath,
    ['--test', '--test-concurrency=2', '--experimental-test-coverage', '--test-coverage-include=src/**', ...globSync('test/**/*.test.ts').toSorted()],
  ],
];

for (const [name, command, args] of steps) {
  const started = performance.now();
  const { status } = spawnSync(command, args, { stdio: 'inherit' });
  console.log(`${name}: ${status === 0 ? 'ok' : 'failed'} in ${((performance.now() - started) / 1000).toFixed(1)} s`);
  if (status !== 0) process.exit(1);
}
