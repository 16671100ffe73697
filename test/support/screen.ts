import { type ChildProcess, spawn, type SpawnOptions } from 'node:child_process';
import { once } from 'node:events';

/** A program that stays in the foreground of a terminal of its own, with all that it has printed so far. */
export class Screen implements AsyncDisposable {
  readonly lines: string[] = [];
  readonly #process: ChildProcess;
  readonly #ended: Promise<unknown>;
  readonly #waiting = new Set<() => void>();
  #isClosed = false;

  constructor(command: string, args: readonly string[], options: SpawnOptions) {
    // A process group of its own is what a terminal sends Ctrl-C to.
    this.#process = spawn(command, args, { ...options, stdio: ['ignore', 'pipe', 'pipe'], detached: true });
    for (const stream of [this.#process.stdout!, this.#process.stderr!]) {
      let partial = '';
      stream.setEncoding('utf8').on('data', (text: string) => {
        const lines = (partial + text).split('\n');
        partial = lines.pop() ?? '';
        this.lines.push(...lines);
        this.#look();
      });
    }
    this.#ended = once(this.#process, 'close').then(() => {
      this.#isClosed = true;
      this.#look();
    });
  }

  get pid(): number {
    return this.#process.pid!;
  }

  #look(): void {
    for (const look of this.#waiting) look();
  }

  /** Resolves when `isThere` says so; fails when the program ends before, or after 20 s. */
  async until(what: string, isThere: () => boolean): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const fail = (why: string) => reject(new Error(`${why}: ${what}\n${this.lines.join('\n')}`));
    const look = () => (isThere() ? resolve() : this.#isClosed && fail('the program ended before this was seen'));
    const timer = setTimeout(() => fail('not seen within 20 s'), 20_000);
    this.#waiting.add(look);
    look();
    try {
      await promise;
    } finally {
      clearTimeout(timer);
      this.#waiting.delete(look);
    }
  }

  /** Ctrl-C reaches every process of the group; a service manager's SIGTERM only the first. */
  async end(signal: 'SIGINT' | 'SIGTERM' | 'SIGKILL'): Promise<void> {
    if (this.#process.exitCode === null && this.#process.signalCode === null) process.kill(signal === 'SIGTERM' ? this.pid : -this.pid, signal);
    await this.#ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end('SIGKILL');
  }
}
