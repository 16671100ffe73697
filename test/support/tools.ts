import { spawnSync } from 'node:child_process';

/**
 * Test options for a test that drives these programs, or uses these files: it is skipped where one is missing, except with CI=true, where
 * the missing program makes it fail. scripts/debian-packages.sh installs them.
 */
export function needs(...programs: string[]): { skip?: string } {
  const missing = programs.filter((program) => spawnSync('sh', ['-c', 'PATH=$PATH:/usr/sbin command -v "$0" || test -e "$0"', program]).status !== 0);
  return missing.length === 0 || process.env['CI'] === 'true' ? {} : { skip: `not installed: ${missing.join(', ')} (scripts/debian-packages.sh)` };
}
