import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';

/** Debian's own, which finds Debian's packages. */
export const pythonInterpreter = '/usr/bin/python3';

/** For `needs`: a package of Python's that Debian has. */
export function pythonPackage(name: string): string {
  return `/usr/lib/python3/dist-packages/${name}`;
}

export interface PythonServer extends AsyncDisposable {
  /** For `backends`. */
  url: string;
  /** The next line that it prints. */
  line(): Promise<string>;
}

/** A server written in Python: it prints its port first, in a line of its own. */
export async function startPython(source: string): Promise<PythonServer> {
  const child = spawn(pythonInterpreter, ['-u', '-c', source], { stdio: ['ignore', 'pipe', 'pipe'] });
  const exited = once(child, 'exit');
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => (said += text));
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const line = async (): Promise<string> => {
    const { value, done } = await lines.next();
    if (done) throw new Error(`Python ended: ${said}`);
    return value;
  };
  const url = `http://127.0.0.1:${await line()}`;
  const stop = async (): Promise<void> => {
    child.kill('SIGKILL');
    await exited;
  };
  return { url, line, [Symbol.asyncDispose]: stop };
}
