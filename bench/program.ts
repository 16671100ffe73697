import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { configOf, type Material } from './material.ts';

/** As the service is started. */
const staplegate = fileURLToPath(new URL('../scripts/staplegate', import.meta.url));

/** The real program, started for a measurement; times are milliseconds since its start. */
export class Program {
  readonly #process: ChildProcess;
  readonly #started = performance.now();
  readonly #serving = Promise.withResolvers<void>();
  port = 0;
  listeningAfter = 0;
  servingAfter = 0;

  private constructor(config: string, onLine: (line: string, after: number) => void) {
    this.#process = spawn(staplegate, ['run', '--config', config], { stdio: ['ignore', 'inherit', 'pipe'] });
    createInterface({ input: this.#process.stderr! }).on('line', (line) => {
      const after = performance.now() - this.#started;
      const port = /listening on 127\.0\.0\.1:(\d+)/.exec(line)?.[1];
      if (port !== undefined) [this.port, this.listeningAfter] = [Number(port), after];
      if (line.includes(' serving ')) {
        this.servingAfter = after;
        this.#serving.resolve();
      }
      onLine(line, after);
    });
  }

  /** Starts with one worker for all names, and resolves when it serves. */
  static async start(folder: string, { names, certificatesDir }: Material, onLine: (line: string, after: number) => void = () => {}): Promise<Program> {
    const config = path.join(folder, 'config.yaml');
    await writeFile(config, configOf(names, certificatesDir, folder, 1));
    const program = new Program(config, onLine);
    await program.#serving.promise;
    return program;
  }

  get pid(): number {
    return this.#process.pid!;
  }

  /** Of the one worker. */
  async workerPid(): Promise<number> {
    const [child = ''] = (await readFile(`/proc/${this.pid}/task/${this.pid}/children`, 'utf8')).split(' ');
    return Number(child);
  }

  /** Of the supervisor, or of a worker, in kB: VmRSS is now, VmHWM the most so far. */
  async memory(what: 'VmRSS' | 'VmHWM', pid = this.pid): Promise<number> {
    const status = await readFile(`/proc/${pid}/status`, 'utf8');
    return Number(new RegExp(`${what}:\\s+(\\d+)`).exec(status)?.[1]);
  }

  async stop(): Promise<void> {
    this.#process.kill('SIGTERM');
    await once(this.#process, 'exit');
  }
}
