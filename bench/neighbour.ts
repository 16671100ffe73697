import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';

/** A process of the bench's own beside the program: a responder, clients. */
export class Neighbour {
  readonly #child: ChildProcess;

  /** @param file beside this one */
  constructor(file: string, ...args: string[]) {
    this.#child = fork(fileURLToPath(new URL(file, import.meta.url)), args, { serialization: 'advanced' });
  }

  get pid(): number {
    return this.#child.pid!;
  }

  async ask<T>(message: object = {}): Promise<T> {
    this.#child.send(message);
    const [answer] = (await once(this.#child, 'message')) as [T];
    return answer;
  }

  async end(): Promise<void> {
    this.#child.disconnect();
    await once(this.#child, 'exit');
  }
}

/** CPU time of a process so far, in milliseconds. */
export async function cpuTime(pid: number): Promise<number> {
  const fields = (await readFile(`/proc/${pid}/stat`, 'utf8')).replace(/^.*\) /, '').split(' ');
  // utime and stime, in ticks of 10 ms (proc_pid_stat(5)).
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

/** What each process spends while `work` goes on, in shares of one core. */
export async function cpuShares<T>(pids: Record<string, number>, work: () => Promise<T>): Promise<{ shares: Record<string, number>; result: T }> {
  const take = async () => new Map(await Promise.all(Object.entries(pids).map(async ([name, pid]) => [name, await cpuTime(pid)] as const)));
  const [before, since] = [await take(), performance.now()];
  const result = await work();
  const [after, milliseconds] = [await take(), performance.now() - since];
  return { shares: Object.fromEntries(Array.from(after, ([name, cpu]) => [name, Number(((cpu - before.get(name)!) / milliseconds).toFixed(2))])), result };
}
