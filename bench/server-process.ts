import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import * as net from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { type CpuTimes, cpuTimes, processTree, proportionalBytes } from './process-tree.ts';

export interface Command {
  argv: readonly string[];
  env?: NodeJS.ProcessEnv;
}

/** A port of loopback where nothing listens. */
export async function freePort(): Promise<number> {
  const server = net.createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as net.AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

/** What must not be left behind when this process is ended before its time. */
const running = new Set<ChildProcess>();
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1));
process.once('exit', () => running.forEach(kill));

function kill({ pid }: ChildProcess): void {
  if (pid === undefined) return;
  for (const member of processTree(pid)) {
    try {
      process.kill(member, 'SIGKILL');
    } catch {
      // It has ended already.
    }
  }
}

/** A server in the foreground, with everything it forks. */
export class ServerProcess implements AsyncDisposable {
  readonly port: number;
  /** When it was started, on the clock of `performance`. */
  readonly started: number;
  readonly #child: ChildProcess;
  readonly #ended: Promise<unknown>;

  private constructor(child: ChildProcess, port: number, ended: Promise<unknown>, started: number) {
    this.#child = child;
    this.#ended = ended;
    this.port = port;
    this.started = started;
  }

  /**
   * Resolves when the port accepts connections.
   * @throws Error with what it said, when it ends or does not accept within `patience` ms
   */
  static async start({ argv, env }: Command, port: number, patience = 60_000): Promise<ServerProcess> {
    const [program = '', ...args] = argv;
    const started = performance.now();
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, PATH: `${process.env['PATH']}:/usr/sbin`, ...env } });
    running.add(child);
    const ended = once(child, 'exit')
      .catch((error: Error) => error)
      .finally(() => running.delete(child));
    let said = '';
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text: string) => (said = (said + text).slice(-4_000)));
    let isOver = false;
    void ended.then(() => (isOver = true));
    while (!(await accepts(port))) {
      if (isOver || performance.now() - started > patience) {
        kill(child);
        throw new Error(`${argv.join(' ')}: ${isOver ? 'ended' : 'does not accept connections'}\n${said}`);
      }
      await delay(10);
    }
    return new ServerProcess(child, port, ended, started);
  }

  get pid(): number {
    return this.#child.pid!;
  }

  cpuTimes(): CpuTimes {
    return cpuTimes(this.#child.pid!);
  }

  memory(): number {
    return proportionalBytes(this.#child.pid!);
  }

  async stop(): Promise<void> {
    this.#child.kill('SIGTERM');
    const timer = setTimeout(kill, 5_000, this.#child);
    await this.#ended;
    clearTimeout(timer);
    this.#child.stdout?.destroy();
    this.#child.stderr?.destroy();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }
}

function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect({ port, host: '127.0.0.1' });
    socket.on('error', () => resolve(false));
    socket.on('connect', () => {
      socket.destroy();
      resolve(true);
    });
  });
}
