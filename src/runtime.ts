import type { Log } from './log.ts';

/** The first releases of each line without known vulnerabilities in what Staplegate uses of Node. */
const securityFloor: Record<number, [minor: number, patch: number]> = { 24: [22, 3], 26: [13, 1] };

/** @returns what is wrong with this version of Node, if anything */
function belowSecurityFloor(version: string): string | undefined {
  const [major = 0, minor = 0, patch = 0] = version.replace(/^v/, '').split('.').map(Number);
  const floor = securityFloor[major];
  if (!floor || minor > floor[0] || (minor === floor[0] && patch >= floor[1])) return undefined;
  return `Node ${version} has known vulnerabilities; ${major}.${floor.join('.')} is the first without: install a newer Node (README.md, "Node")`;
}

export function warnBelowSecurityFloor(log: Log): void {
  const problem = belowSecurityFloor(process.version);
  if (problem !== undefined) log.warn(problem, { code: 'node_outdated' });
}
