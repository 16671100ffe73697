import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';

export interface Foreground extends AsyncDisposable {
  /** What `ready` found. */
  readonly said: RegExpExecArray;
}

/**
 * Another program's server, in the foreground, once a line that it prints matches `ready`.
 * @throws Error with everything that it printed, when it ends before
 */
export async function foreground(command: string, args: readonly string[], ready: RegExp): Promise<Foreground> {
  // Debian has servers where only root looks.
  const env = { ...process.env, PATH: `${process.env['PATH']}:/usr/sbin` };
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], env });
  const closed = once(child, 'close');
  const lines: string[] = [];
  const { promise, resolve } = Promise.withResolvers<RegExpExecArray>();
  for (const input of [child.stdout, child.stderr]) {
    createInterface({ input }).on('line', (line) => {
      lines.push(line);
      const found = ready.exec(line);
      if (found) resolve(found);
    });
  }
  const ended = closed.then((): never => {
    throw new Error(`${command} did not start: ${lines.join('\n')}`);
  });
  const said = await Promise.race([promise, ended]);
  const stop = async (): Promise<void> => {
    child.kill();
    await closed;
  };
  return { said, [Symbol.asyncDispose]: stop };
}
