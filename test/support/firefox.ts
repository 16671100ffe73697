import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { execute } from './program.ts';

/** What a page load came to: the text of the page, or the error that the browser shows instead. */
export type Visit = { text: string } | { error: string };

/** What keeps Firefox from asking anybody but us. */
const quiet = {
  'app.normandy.enabled': false,
  'app.update.enabled': false,
  'browser.shell.checkDefaultBrowser': false,
  'datareporting.policy.dataSubmissionEnabled': false,
  'network.captive-portal-service.enabled': false,
  'network.connectivity-service.enabled': false,
  'network.proxy.type': 0,
  'toolkit.telemetry.enabled': false,
};

const patience = 30_000;

/** A headless Firefox with a fresh profile, driven by WebDriver BiDi (https://w3c.github.io/webdriver-bidi/). */
export class Firefox implements AsyncDisposable {
  readonly #end: () => Promise<void>;
  readonly #socket: WebSocket;
  #calls = 0;

  private constructor(socket: WebSocket, end: () => Promise<void>) {
    this.#socket = socket;
    this.#end = end;
  }

  /**
   * @param folder for its profile
   * @param options the root that it trusts (PEM file), and names that are this machine
   */
  static async start(folder: string, { ca, names }: { ca: string; names: readonly string[] }): Promise<Firefox> {
    const profile = path.join(folder, 'firefox');
    await mkdir(profile);
    const database = `sql:${profile}`;
    for (const args of [
      ['-N', '-d', database, '--empty-password'],
      ['-A', '-d', database, '-n', 'root', '-t', 'C,,', '-i', ca],
    ]) {
      const { code, stderr } = await execute('certutil', args);
      if (code !== 0) throw new Error(`certutil ${args.join(' ')}: ${stderr}`);
    }
    const settings = Object.entries({ ...quiet, 'network.dns.localDomains': names.join(',') });
    await writeFile(path.join(profile, 'user.js'), settings.map(([key, value]) => `user_pref(${JSON.stringify(key)}, ${JSON.stringify(value)});\n`).join(''));

    const args = ['--headless', '--no-remote', '--profile', profile, '--remote-debugging-port=0', 'about:blank'];
    // A group of its own, so that its content processes end with it.
    const child = spawn('firefox-esr', args, { env: { ...process.env, HOME: folder }, stdio: ['ignore', 'ignore', 'pipe'], detached: true });
    const exited = once(child, 'exit');
    const end = async (): Promise<void> => {
      if (child.exitCode === null && child.signalCode === null) process.kill(-child.pid!, 'SIGKILL');
      await exited;
    };
    const { promise: address, resolve, reject } = Promise.withResolvers<string>();
    const said: string[] = [];
    const timer = setTimeout(() => reject(new Error(`Firefox does not listen: ${said.join('\n')}`)), patience);
    const lines = createInterface({ input: child.stderr });
    lines.on('line', (line) => {
      said.push(line);
      const url = /WebDriver BiDi listening on (ws:\S+)/.exec(line)?.[1];
      if (url !== undefined) resolve(url);
    });
    lines.on('close', () => reject(new Error(`Firefox ended: ${said.join('\n')}`)));
    try {
      const socket = new WebSocket(`${await address}/session`);
      await once(socket, 'open');
      const firefox = new Firefox(socket, end);
      await firefox.#call('session.new', { capabilities: { alwaysMatch: { acceptInsecureCerts: false } } });
      return firefox;
    } catch (error) {
      await end();
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  async open(url: string): Promise<Visit> {
    const { contexts } = await this.#call<{ contexts: { context: string }[] }>('browsingContext.getTree', {});
    const { context } = contexts[0]!;
    try {
      await this.#call('browsingContext.navigate', { context, url, wait: 'complete' });
    } catch (error) {
      return { error: (error as Error).message };
    }
    const { result } = await this.#call<{ result: { value: string } }>('script.evaluate', {
      expression: 'document.body.innerText',
      target: { context },
      awaitPromise: false,
    });
    return { text: result.value };
  }

  #call<Result>(method: string, params: object): Promise<Result> {
    const id = (this.#calls += 1);
    const { promise, resolve, reject } = Promise.withResolvers<Result>();
    const timer = setTimeout(() => done(() => reject(new Error(`Firefox does not answer ${method}`))), patience);
    const done = (settle: () => void): void => {
      clearTimeout(timer);
      this.#socket.removeEventListener('message', onMessage);
      settle();
    };
    const onMessage = ({ data }: MessageEvent): void => {
      const answer = JSON.parse(String(data)) as { id?: number; result: Result; error?: string; message?: string };
      if (answer.id !== id) return;
      done(() => (answer.error === undefined ? resolve(answer.result) : reject(new Error(answer.message ?? answer.error))));
    };
    this.#socket.addEventListener('message', onMessage);
    this.#socket.send(JSON.stringify({ id, method, params }));
    return promise;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#socket.close();
    await this.#end();
  }
}
