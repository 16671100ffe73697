import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import * as net from 'node:net';
import type { TestContext } from 'node:test';
import type * as tls from 'node:tls';
import type { Told } from './application.ts';
import { HttpsClient } from './load.ts';
import { childrenOf } from './processes.ts';
import { execute, type Finished, type Program } from './program.ts';
import { Site } from './site.ts';

/** A port that redirects can name: from below those that the system hands out. */
async function fixedPort(): Promise<number> {
  for (;;) {
    const port = 15_000 + Math.floor(Math.random() * 15_000);
    const server = net.createServer().listen(port, '127.0.0.1');
    const free = await once(server, 'listening').then(
      () => true,
      () => false,
    );
    server.close();
    if (free) return port;
  }
}

/** The real program with one worker, an https and an http listener, and curl to look at it. */
export class ServedSite {
  readonly site: Site;
  readonly program: Program;

  private constructor(site: Site, program: Program) {
    this.site = site;
    this.program = program;
  }

  /**
   * @param hosts keys of each virtual host by name; all are under one certificate, which is also for localhost
   * @param top keys of the configuration
   */
  static async start(t: TestContext, hosts: Record<string, object>, top: object = {}, site?: Site): Promise<ServedSite> {
    const where = site ?? (await Site.create(t));
    const certificates = [await where.write('all', await where.issue('', { names: [...Object.keys(hosts), 'localhost'] }))];
    const program = await where.serving({
      listen: [{ address: `127.0.0.1:${await fixedPort()}` }, { address: '127.0.0.1:0', protocol: 'http' }],
      shutdown_grace: '1s',
      virtual_hosts: Object.entries(hosts).map(([name, host]) => ({ server_name: name, certificates, ...host })),
      ...top,
    });
    return new ServedSite(where, program);
  }

  get port(): number {
    return this.program.port('https');
  }

  /** HTTP/1.1 unless `args` say otherwise. Every host name is here; without a port in the URL, http and https are those of the program. */
  #args(args: readonly string[]): string[] {
    const to = [`:80:127.0.0.1:${this.program.port('http')}`, `:443:127.0.0.1:${this.port}`, `:${this.port}:127.0.0.1:${this.port}`];
    return ['-sS', '--http1.1', '--cacert', this.site.ca, '--noproxy', '*', ...to.flatMap((rule) => ['--connect-to', rule]), ...args];
  }

  /** curl, whatever comes of it. */
  curl(args: readonly string[], input?: Buffer): Promise<Finished> {
    return execute('curl', this.#args(args), input === undefined ? {} : { input });
  }

  /** What curl prints. */
  async get(...args: string[]): Promise<string> {
    const { code, stdout, stderr } = await this.curl(args);
    assert.equal(code, 0, stderr);
    return stdout;
  }

  /** What an Application was told, once for each answer. */
  async told(...args: string[]): Promise<Told[]> {
    const answers = (await this.get(...args)).trim().split('\n');
    return answers.map((line) => JSON.parse(line) as Told);
  }

  /** SHA-256 of what curl prints. */
  async sum(...args: string[]): Promise<string> {
    const { stdout, stderr } = await execute('sh', ['-c', 'curl "$@" | sha256sum', 'sh', ...this.#args(args)]);
    assert.equal(stderr, '');
    return stdout.slice(0, 64);
  }

  connect(name: string, options: tls.ConnectionOptions = {}): Promise<HttpsClient> {
    return HttpsClient.connect({ port: this.port, name, ca: this.site.root.pem }, options);
  }

  /** The most memory that the worker has had, in bytes: VmHWM of proc_pid_status(5). */
  async mostMemory(): Promise<number> {
    const [worker] = childrenOf(this.program.process.pid);
    const status = await readFile(`/proc/${worker}/status`, 'utf8');
    return Number(/^VmHWM:\s+(\d+) kB/m.exec(status)?.[1]) * 1024;
  }
}
