import { readFile } from 'node:fs/promises';
import { once } from 'node:events';
import http from 'node:http';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { execute } from './program.ts';
import { Screen } from './screen.ts';

interface Answer {
  ok: boolean;
  output: string;
}

/**
 * Stands in for a running systemd and its journal, for one service installed below DESTDIR: does what the installed unit
 * says (ExecStart, ExecReload, the stop signal) with the real program. Enabling is done by the real systemctl, offline.
 * The unit's user, sandbox and readiness message are not: they need a real systemd.
 */
export class ServiceManager implements AsyncDisposable {
  readonly #destdir: string;
  readonly #env: NodeJS.ProcessEnv;
  readonly #server: http.Server;
  #service: Screen | undefined;

  private constructor(destdir: string, socket: string, env: NodeJS.ProcessEnv) {
    this.#destdir = destdir;
    this.#env = env;
    this.#server = http.createServer((request, response) => {
      void text(request)
        .then((words) => this.#do(request.url!.slice(1), words.trim().split('\n').join(' ')))
        .catch((error: Error): Answer => ({ ok: false, output: `${error.message}\n` }))
        .then(({ ok, output }) => response.writeHead(ok ? 200 : 500).end(output));
    });
    this.#server.listen(socket);
  }

  /** @param socket where the stand-ins for systemctl and journalctl reach it */
  static async listening(destdir: string, socket: string, env: NodeJS.ProcessEnv): Promise<ServiceManager> {
    const manager = new ServiceManager(destdir, socket, env);
    await once(manager.#server, 'listening');
    return manager;
  }

  /** The shell script of a stand-in; it prints and returns what is answered here. */
  static client(program: string, socket: string): string {
    return `printf '%s\\n' "$@" | curl --silent --fail-with-body --max-time 30 --unix-socket '${socket}' --data-binary @- 'http://service-manager/${program}'`;
  }

  /** The service, once it has been started. */
  get service(): Screen | undefined {
    return this.#service;
  }

  async #do(program: string, words: string): Promise<Answer> {
    const done: Answer = { ok: true, output: '' };
    switch (`${program} ${words}`) {
      case 'systemctl enable --now staplegate': {
        const { code, stderr } = await execute('systemctl', [`--root=${this.#destdir}`, 'enable', 'staplegate'], { env: this.#env });
        if (code === 0) await this.#start();
        return { ok: code === 0, output: stderr };
      }
      case 'systemctl restart staplegate':
        await this.#service?.end('SIGTERM');
        await this.#start();
        return done;
      case 'systemctl reload staplegate':
        for (const command of await this.#commands('ExecReload')) {
          const [name = '', ...args] = command.map((word) => (word === '$MAINPID' ? String(this.#service?.pid) : word));
          const { code, stdout, stderr } = await execute(name, args, { env: this.#env });
          if (code !== 0) return { ok: false, output: `Job for staplegate.service failed.\n${stdout}${stderr}` };
        }
        return done;
      case 'journalctl -u staplegate -o cat':
        return { ok: true, output: `${this.#service?.lines.join('\n')}\n` };
      default:
        return { ok: false, output: `the stand-in does not know: ${program} ${words}\n` };
    }
  }

  async #start(): Promise<void> {
    const [[name = '', ...args] = []] = await this.#commands('ExecStart');
    this.#service = new Screen(name, args, { env: this.#env });
    await this.#service.until('serving', () => this.#service!.lines.some((line) => line.includes(' serving ')));
  }

  /** The unit's commands of one setting, in order, word by word, with paths below DESTDIR. */
  async #commands(setting: string): Promise<string[][]> {
    const unit = await readFile(path.join(this.#destdir, 'usr/lib/systemd/system/staplegate.service'), 'utf8');
    return [...unit.matchAll(new RegExp(`^${setting}=(.*)$`, 'gm'))].map(([, command = '']) =>
      command.split(' ').map((word) => word.replace(/^(?=\/(opt|etc)\/)/, this.#destdir)),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#service?.end('SIGKILL');
    this.#server.close();
    this.#server.closeAllConnections();
  }
}
