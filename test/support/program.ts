import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { stringify } from 'yaml';

const main = fileURLToPath(new URL('../../src/main.ts', import.meta.url));

export interface TemporaryFolder extends AsyncDisposable {
  path: string;
  file: (name: string) => string;
  /** Writes a file. @returns its path */
  put: (name: string, content: Uint8Array | string) => Promise<string>;
}

/** A folder for one test's files, removed with `using`-style disposal. */
export async function temporaryFolder(): Promise<TemporaryFolder> {
  const folder = await mkdtemp(path.join(tmpdir(), 'staplegate-test-'));
  const file = (name: string): string => path.join(folder, name);
  const put = async (name: string, content: Uint8Array | string): Promise<string> => {
    await writeFile(file(name), content);
    return file(name);
  };
  return { path: folder, file, put, [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }) };
}

export interface Finished {
  code: number | null;
  signal: string | null;
  stdout: string;
  stderr: string;
}

/** Runs a program to its end, at most `timeoutMs`. */
export async function execute(
  command: string,
  args: readonly string[],
  options: { input?: string | Buffer; timeoutMs?: number; env?: NodeJS.ProcessEnv } = {},
): Promise<Finished> {
  const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'], timeout: options.timeoutMs ?? 20_000, ...(options.env && { env: options.env }) });
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  child.stdin.on('error', () => {}); // the program may end without reading its input
  child.stdin.end(options.input ?? '');
  const [code, signal] = (await once(child, 'close')) as [number | null, string | null];
  return { code, signal, stdout, stderr };
}

/** `staplegate …`, run to its end. */
export function staplegate(...args: string[]): Promise<Finished> {
  return execute(process.execPath, [main, ...args]);
}

/** The same in this environment. */
export function staplegateIn(env: NodeJS.ProcessEnv, ...args: string[]): Promise<Finished> {
  return execute(process.execPath, [main, ...args], { env });
}

/** A running `staplegate run`, its log line by line. */
export class Program implements AsyncDisposable {
  readonly process: ChildProcess;
  readonly ended: Promise<void>;
  readonly log: string[] = [];
  readonly #listeners = new Set<() => void>();

  constructor(args: readonly string[]) {
    this.process = spawn(process.execPath, [main, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
    let partial = '';
    const read = (text: string) => {
      const lines = (partial + text).split('\n');
      partial = lines.pop() ?? '';
      this.log.push(...lines);
      for (const listener of this.#listeners) listener();
    };
    this.process.stdout?.setEncoding('utf8').on('data', read);
    this.process.stderr?.setEncoding('utf8').on('data', read);
    this.ended = once(this.process, 'close').then(() => {
      for (const listener of this.#listeners) listener();
    });
  }

  /** Starts with this configuration, and waits until it serves. */
  static async serving(folder: string, config: object): Promise<Program> {
    const file = path.join(folder, 'config.yaml');
    await writeFile(file, stringify(config));
    const program = new Program(['run', '--config', file]);
    try {
      await program.line(/ serving \d+ virtual host/);
    } catch (error) {
      await program[Symbol.asyncDispose]();
      throw error;
    }
    return program;
  }

  /** The first log line from `from` on that matches; fails when the program ends before one does, or after 20 s. */
  async line(pattern: RegExp, from = 0): Promise<string> {
    const { promise, resolve, reject } = Promise.withResolvers<string>();
    const look = () => {
      const found = this.log.slice(from).find((line) => pattern.test(line));
      if (found !== undefined) resolve(found);
      else if (this.process.exitCode !== null || this.process.signalCode !== null)
        reject(new Error(`ended before logging ${String(pattern)}:\n${this.log.join('\n')}`));
    };
    const timer = setTimeout(() => reject(new Error(`no line ${String(pattern)} within 20 s:\n${this.log.join('\n')}`)), 20_000);
    this.#listeners.add(look);
    look();
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
      this.#listeners.delete(look);
    }
  }

  /** The port behind the newest `listening on` line of this protocol and host. */
  port(protocol: 'https' | 'http' = 'https', host = '127.0.0.1'): number {
    const line = this.log.findLast((text) => text.includes(` listening on ${host}:`) && text.endsWith(`(${protocol})`));
    if (line === undefined) throw new Error(`not listening on ${host} (${protocol}):\n${this.log.join('\n')}`);
    return Number(/:(\d+) \(/.exec(line)?.[1]);
  }

  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    this.process.kill(signal);
    await this.ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop(this.process.exitCode === null ? 'SIGKILL' : 'SIGTERM');
  }
}
