import { readdirSync, readFileSync } from 'node:fs';

/** What Linux knows of a process and all its descendants. Processes that end while they are looked at are left out. */

function read(file: string): string | undefined {
  try {
    return readFileSync(file, 'latin1');
  } catch {
    return undefined;
  }
}

/** The process and its descendants. */
export function processTree(root: number): number[] {
  const children = new Map<number, number[]>();
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    // Field 4 of proc_pid_stat(5) is the parent; the name before it may hold spaces and parentheses.
    const parent = Number(read(`/proc/${pid}/stat`)?.split(') ').at(-1)?.split(' ')[1]);
    children.set(parent, [...(children.get(parent) ?? []), Number(pid)]);
  }
  const tree = [root];
  for (const pid of tree) tree.push(...(children.get(pid) ?? []));
  return tree;
}

/** CPU time by thread, in nanoseconds. `/proc/PID/stat` counts in ticks of 10 ms, the scheduler's own figure is exact. */
export type CpuTimes = ReadonlyMap<string, number>;

export function cpuTimes(root: number): CpuTimes {
  const times = new Map<string, number>();
  for (const pid of processTree(root)) {
    for (const thread of threads(pid)) {
      const [onCpu] = read(`/proc/${pid}/task/${thread}/schedstat`)?.split(' ') ?? [];
      if (onCpu !== undefined) times.set(`${pid}/${thread}`, Number(onCpu));
    }
  }
  return times;
}

function threads(pid: number): string[] {
  try {
    return readdirSync(`/proc/${pid}/task`);
  } catch {
    return [];
  }
}

/** Microseconds of CPU between two readings. A thread that ended in between is lost: no server measured here ends threads under load. */
export function cpuMicroseconds(before: CpuTimes, after: CpuTimes): number {
  let nanoseconds = 0;
  for (const [thread, time] of after) nanoseconds += time - (before.get(thread) ?? 0);
  return nanoseconds / 1000;
}

/** Memory of all processes, in bytes; pages that several share are divided among them (Pss). */
export function proportionalBytes(root: number): number {
  return rollup(root, /^Pss:\s+(\d+)/m);
}

/** The same, with shared pages counted for each (Rss). */
export function residentBytes(root: number): number {
  return rollup(root, /^Rss:\s+(\d+)/m);
}

function rollup(root: number, line: RegExp): number {
  let kilobytes = 0;
  for (const pid of processTree(root)) kilobytes += Number(line.exec(read(`/proc/${pid}/smaps_rollup`) ?? '')?.[1] ?? 0);
  return kilobytes * 1024;
}
