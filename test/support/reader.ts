import assert from 'node:assert/strict';
import { once } from 'node:events';
import { chmod, mkdir, readFile, stat, writeFile } from 'node:fs/promises';
import net from 'node:net';
import path from 'node:path';
import { Authority } from '../../src/demo/authority.ts';
import { type OcspResponder, startOcspResponder } from '../../src/demo/ocsp-responder.ts';
import { copyCheckout, npmCi, standIns } from './installation.ts';
import { type Block, type Command, commands } from './markdown.ts';
import { execute, type Finished, temporaryFolder } from './program.ts';
import { Screen } from './screen.ts';
import { ServiceManager } from './service-manager.ts';
import { missingFrom } from './shown-output.ts';

/** A README command may begin with these and nothing else: a new one needs a look at what it does to the machine. */
const known = new Set(
  'npm openssl curl gnutls-cli grep sed cat ls head git install systemctl journalctl scripts/staplegate'
    .split(' ')
    .concat('/opt/staplegate/scripts/install-service.sh', '/usr/local/bin/staplegate'),
);

/** Fails for a command that this reader must not run. */
export function assertKnown({ text, line }: Command): void {
  if (text === '^C') return;
  const parts = text.replaceAll(/'[^']*'/g, "''").split(/\||&&|;|\$\(/);
  for (const part of parts) {
    const name = part
      .trim()
      .replace(/^sudo (-u \S+ )?/, '')
      .split(/\s/)[0]!;
    assert.ok(known.has(name), `README.md:${line}: this test does not know ${name}`);
  }
}

/**
 * Someone who does what the README says, from its first command to its last, and compares what comes out with what it
 * shows.
 *
 * - console blocks: every command runs in a shell, in a copy of the repository. Two are different: `npm start` stays in
 *   the foreground until `^C`; `npm test`, which appears in the text only, is not run by itself: its script has to exist.
 * - text blocks: lines that the program in the foreground, later the service, prints next.
 * - yaml blocks: become /etc/staplegate/config.yaml. sh blocks: run as a certbot deploy hook.
 *
 * Ports are mapped to free ones, and /opt and /etc to a folder. What needs root, a running systemd or the network runs
 * through stand-ins at the front of the PATH: `sudo` runs the command with DESTDIR set; `systemctl` and `journalctl` talk
 * to ServiceManager, which does what the installed unit says; `npm ci` links the packages that are here; `install` knows
 * no group staplegate.
 */
export class Reader implements AsyncDisposable {
  /** How often the demo was started. */
  starts = 0;
  readonly #stack = new AsyncDisposableStack();
  readonly #folder: string;
  readonly #clone: string;
  readonly #destdir: string;
  readonly #env: NodeJS.ProcessEnv;
  readonly #ports: Map<string, string>;
  readonly #responder: OcspResponder;
  readonly #manager: ServiceManager;
  #demo: Screen | undefined;
  /** How much was on the screen before the last command. */
  #mark = 0;

  private constructor(parts: { folder: string; env: NodeJS.ProcessEnv; ports: Map<string, string>; responder: OcspResponder; manager: ServiceManager }) {
    this.#folder = parts.folder;
    this.#clone = path.join(parts.folder, 'staplegate');
    this.#destdir = path.join(parts.folder, 'root');
    this.#env = parts.env;
    this.#ports = parts.ports;
    this.#responder = parts.responder;
    this.#manager = parts.manager;
  }

  static async at(): Promise<Reader> {
    await using stack = new AsyncDisposableStack();
    const { path: folder } = stack.use(await temporaryFolder());
    const destdir = path.join(folder, 'root');
    const socket = path.join(folder, 'systemd.sock');

    // Of the variables of `npm test`, those would steer the npm that is run here.
    const own = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('npm_')));
    const real = async (name: string) => (await execute('sh', ['-c', `command -v ${name}`], { env: own })).stdout.trim();
    const bin = await standIns(path.join(folder, 'bin'), {
      sudo: `[ "$1" != -u ] || shift 2\nDESTDIR='${destdir}' exec "$@"`,
      npm: `[ "$1" = ci ] || exec '${await real('npm')}' "$@"\n[ "$2" != --prefix ] || cd "$3"\n${npmCi}`,
      install: `for word; do shift; [ "$word" != staplegate ] || word=$(id -g); set -- "$@" "$word"; done\nexec '${await real('install')}' "$@"`,
      systemctl: ServiceManager.client('systemctl', socket),
      journalctl: ServiceManager.client('journalctl', socket),
    });
    await writeFile(path.join(folder, '.curlrc'), 'no-progress-meter\n');
    const env = { ...own, CURL_HOME: folder, PATH: `${bin}:${path.dirname(process.execPath)}:${own['PATH']}:/usr/sbin` };

    const manager = stack.use(await ServiceManager.listening(destdir, socket, { ...own, PATH: env.PATH.replace(`${bin}:`, '') }));
    const authority = await (await Authority.root('Example root')).subordinate('Example issuer');
    const responder = await startOcspResponder({ authority });
    stack.defer(() => responder.close());
    const reader = new Reader({ folder, env, ports: await freePorts('8443', '8080', '8444', '8081', '443', '80'), responder, manager });
    await reader.#prepare(authority);
    reader.#stack.use(stack.move());
    return reader;
  }

  /** What the README takes for granted: a clone, a machine with systemd, a certificate with its key, certbot's renewal of it. */
  async #prepare(authority: Authority): Promise<void> {
    await copyCheckout(this.#clone);
    const setUp = `git init -q && git add . && git -c user.name=reader -c user.email=reader@example.org commit -qm clone && ${npmCi}`;
    const { code, stderr } = await this.#shell(setUp);
    assert.equal(code, 0, stderr);

    await mkdir(path.join(this.#destdir, 'usr/lib/systemd/system'), { recursive: true });
    await writeFile(path.join(this.#destdir, 'usr/lib/systemd/system/multi-user.target'), '[Unit]\n');
    await mkdir(path.join(this.#destdir, 'var/lib/staplegate'), { recursive: true, mode: 0o700 });

    const names = ['shop.example.org'];
    for (const folder of [this.#clone, path.join(this.#folder, 'live/shop.example.org')]) {
      const { chainPem, keyPem } = await authority.issue({ names, ocsp: this.#responder.url });
      await mkdir(folder, { recursive: true });
      await writeFile(path.join(folder, 'fullchain.pem'), chainPem);
      await writeFile(path.join(folder, 'privkey.pem'), keyPem, { mode: 0o600 });
    }
  }

  async read(block: Block): Promise<void> {
    const text = block.lines.join('\n');
    if (block.language === 'console') for (const command of commands(block)) await this.#do(command);
    if (block.language === 'text') await this.#see({ text: 'log lines', shown: ['…', ...block.lines, '…'], line: block.line });
    if (block.language === 'yaml')
      await writeFile(this.#installed('/etc/staplegate/config.yaml'), `${this.#here(text)}\nstate_dir: ${this.#installed('/var/lib/staplegate')}\n`);
    if (block.language === 'sh') await this.#certbotHook(text);
  }

  /** Does one command, and compares. */
  async #do(command: Command): Promise<void> {
    const { text, shown, line } = command;
    assertKnown(command);
    if (text === 'npm start') return this.#startDemo(command);
    this.#mark = this.#screen?.lines.length ?? 0;
    if (text === '^C') {
      await this.#demo?.end('SIGINT');
      return this.#see(command);
    }
    const { code, stdout, stderr } = await this.#shell(this.#here(text));
    const output = lines(this.#asShown(stdout + stderr));
    assert.equal(missingFrom(output, shown), undefined, `README.md:${line}: not printed by ${text}\n\n${output.join('\n')}`);
    // What `check` says about a bad configuration is its way of failing.
    assert.equal(code, shown.some((each) => /\.yaml:\d+:\d+: /.test(each)) ? 1 : 0, `README.md:${line}: exit code of ${text}\n${output.join('\n')}`);
  }

  async #startDemo(command: Command): Promise<void> {
    const port = (shown: string) => this.#ports.get(shown)!;
    const ports = ['--https-port', port('8443'), '--http-port', port('8080'), '--responder-port', port('8444'), '--backend-port', port('8081')];
    this.#demo = this.#stack.use(new Screen('npm', ['start', '--', ...ports], { cwd: this.#clone, env: this.#env }));
    this.#mark = 0;
    await this.#see(command);
    // The second time, as the text says, the staples come from the disk.
    assert.equal(
      this.#demo.lines.some((line) => line.includes('OCSP update')),
      this.starts === 0,
    );
    this.starts++;
  }

  /** Waits until the program in the foreground, or the service, has printed this. */
  async #see({ text, shown, line }: Command): Promise<void> {
    const screen = this.#screen;
    assert.ok(screen, `README.md:${line}: nothing is running`);
    const missing = () => missingFrom(lines(this.#asShown(screen.lines.slice(this.#mark).join('\n'))), shown);
    await screen.until(`README.md:${line}: ${text}: ${shown.join('\n')}`, () => missing() === undefined);
  }

  get #screen(): Screen | undefined {
    return this.#manager.service ?? this.#demo;
  }

  async #certbotHook(text: string): Promise<void> {
    const hook = path.join(this.#folder, 'hook');
    await writeFile(hook, this.#here(text));
    await chmod(hook, 0o755);
    const lineage = path.join(this.#folder, 'live/shop.example.org');
    const { code, stderr } = await execute(hook, [], { env: { ...this.#env, RENEWED_LINEAGE: lineage } });
    assert.equal(code, 0, stderr);
    for (const name of ['fullchain.pem', 'privkey.pem']) {
      const copy = this.#installed(`/etc/staplegate/certs/shop.example.org/${name}`);
      assert.equal(await readFile(copy, 'utf8'), await readFile(path.join(lineage, name), 'utf8'));
      assert.equal((await stat(copy)).mode & 0o777, 0o640);
    }
  }

  #shell(command: string): Promise<Finished> {
    return execute('sh', ['-c', `cd '${this.#clone}' && { ${command}\n}`], { env: this.#env });
  }

  #installed(file: string): string {
    return path.join(this.#destdir, file);
  }

  /** A command or a configuration of the README, with the ports and paths of this run. */
  #here(text: string): string {
    return text
      .replace('/usr/local/bin/staplegate check', '/opt/staplegate/scripts/staplegate check --config /etc/staplegate/config.yaml')
      .replaceAll(/(?<![\w/])\/(?=(opt|etc)\/staplegate)/g, `${this.#destdir}/`)
      .replaceAll(/(0\.0\.0\.0|shop\.example\.org):(\d+)/g, '127.0.0.1:$2')
      .replaceAll(/(?<=localhost:|127\.0\.0\.1:|--port )\d+/g, (port) => this.#ports.get(port) ?? port);
  }

  /** Output of this run, with the ports and paths of the README. */
  #asShown(text: string): string {
    let shown = text.replaceAll(this.#responder.url, 'http://ocsp.example.org/').replaceAll(this.#destdir, '').replaceAll(this.#clone, '/home/you/staplegate');
    for (const [port, free] of this.#ports) shown = shown.replaceAll(new RegExp(`\\b${free}\\b`, 'g'), port);
    return shown.replaceAll(/127\.0\.0\.1(?=:(443|80)\b)/g, '0.0.0.0');
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#stack.disposeAsync();
  }
}

function lines(text: string): string[] {
  return text === '' ? [] : text.replace(/\n$/, '').split('\n');
}

/** A free port for each of these, all different. */
async function freePorts(...shown: string[]): Promise<Map<string, string>> {
  const servers = shown.map(() => net.createServer().listen(0, '127.0.0.1'));
  await Promise.all(servers.map((server) => once(server, 'listening')));
  const ports = servers.map((server) => String((server.address() as net.AddressInfo).port));
  for (const server of servers) server.close();
  return new Map(shown.map((port, i) => [port, ports[i]!]));
}
