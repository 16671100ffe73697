import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';

/**
 * Holds processes to a share of a core, with the kernel's own means: a control group with a quota (cgroups(7)). It needs root, and
 * a hierarchy with the controller `cpu`.
 */

/** Long enough that waking up costs little beside it. */
const periodMicroseconds = 100_000;

/** Version 1 has a hierarchy for each controller, version 2 one for all. */
const [legacy, unified] = ['/sys/fs/cgroup/cpu', '/sys/fs/cgroup'];

let groups = 0;

/** The group that this process is in, to which those that are let go of return. */
function ownGroup(root: string): string {
  const line = root === legacy ? /^\d+:(?:\S*,)?cpu(?:,\S*)?:(.*)$/m : /^0::(.*)$/m;
  return path.join(root, line.exec(readFileSync('/proc/self/cgroup', 'latin1'))?.[1] ?? '');
}

function move(pid: number | string, group: string): void {
  writeFileSync(path.join(group, 'cgroup.procs'), String(pid));
}

/** Lets one process, with all threads and all children to come, have `share` of a core until this is disposed of. */
export class CpuShare implements Disposable {
  readonly #group: string;
  readonly #home: string;

  /** @throws the system's error, where groups cannot be made */
  constructor(pid: number, share: number) {
    const root = existsSync(path.join(legacy, 'cpu.cfs_quota_us')) ? legacy : unified;
    const quota = String(Math.round(share * periodMicroseconds));
    this.#home = ownGroup(root);
    this.#group = path.join(root, `staplegate-bench-${process.pid}-${(groups += 1)}`);
    if (root === unified) writeFileSync(path.join(root, 'cgroup.subtree_control'), '+cpu');
    mkdirSync(this.#group);
    process.once('exit', this.#release);
    if (root === legacy) {
      writeFileSync(path.join(this.#group, 'cpu.cfs_period_us'), String(periodMicroseconds));
      writeFileSync(path.join(this.#group, 'cpu.cfs_quota_us'), quota);
    } else writeFileSync(path.join(this.#group, 'cpu.max'), `${quota} ${periodMicroseconds}`);
    move(pid, this.#group);
  }

  [Symbol.dispose](): void {
    process.off('exit', this.#release);
    this.#release();
  }

  readonly #release = (): void => {
    // A group with members cannot be removed; those that have ended are none.
    for (const pid of readFileSync(path.join(this.#group, 'cgroup.procs'), 'latin1').split('\n').filter(Boolean)) {
      try {
        move(pid, this.#home);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
      }
    }
    rmdirSync(this.#group);
  };
}
