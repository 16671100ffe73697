import { readdirSync, readFileSync } from 'node:fs';

/** Process ids of the children of a process: the workers of a supervisor. */
export function childrenOf(parent: number | undefined): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && parentOf(name) === parent)
    .map(Number);
}

/** Field 4 of proc_pid_stat(5); the name before it may hold spaces and parentheses. Undefined when the process has ended. */
function parentOf(pid: string): number | undefined {
  try {
    const [state, parent] = readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ').at(-1)?.split(' ') ?? [];
    return state === 'Z' ? undefined : Number(parent);
  } catch {
    return undefined;
  }
}

/** Whether a process is there and not a zombie that nobody has waited for. */
export function isRunning(pid: number): boolean {
  return parentOf(String(pid)) !== undefined;
}
