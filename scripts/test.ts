import { spawnSync } from 'node:child_process';
import { globSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

/** Everything that must hold before a change is committed: types, lint, format, then every test, and what they cover. */

// Programs that the tests start and kill write their coverage too; node's own report fails on a file cut off by SIGKILL.
const coverage = mkdtempSync(path.join(tmpdir(), 'staplegate-coverage-'));

const steps: [name: string, command: string, args: string[]][] = [
  ['types', 'tsc', []],
  ['lint', 'oxlint', ['--type-aware', '--deny-warnings']],
  ['format', 'oxfmt', ['--check', '.']],
  ['tests', process.execPath, ['--test', '--test-concurrency=2', ...globSync('test/**/*.test.ts').toSorted()]],
  ['coverage', 'c8', ['report', '--temp-directory', coverage, '--src', 'src', '--include', 'src/**', '--reporter', 'text-summary']],
];

let failed = false;
for (const [name, command, args] of steps) {
  const started = performance.now();
  const environment = name === 'tests' ? { NODE_V8_COVERAGE: coverage } : {};
  const { status } = spawnSync(command, args, { stdio: 'inherit', env: { ...process.env, ...environment } });
  console.log(`${name}: ${status === 0 ? 'ok' : 'failed'} in ${((performance.now() - started) / 1000).toFixed(1)} s`);
  failed ||= status !== 0;
  if (failed) break;
}
rmSync(coverage, { recursive: true });
process.exit(failed ? 1 : 0);
