import { mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { TestContext } from 'node:test';
import { stringify } from 'yaml';
import { Authority, type Issued, type IssueOptions } from '../../src/demo/authority.ts';
import { Program } from './program.ts';

/** What a configuration says unless a test says otherwise. */
const usual = { listen: [{ address: '127.0.0.1:0' }], workers: 1, state_dir: 'state' };

/**
 * A folder with a small public-key infrastructure: root, issuing authority, and the certificates of one test's virtual
 * hosts. The issuer is sent along: curl cannot check a staple with an issuer that it has to find among its roots.
 */
export class Site {
  readonly folder: string;
  readonly root: Authority;
  readonly authority: Authority;
  readonly #uses = new AsyncDisposableStack();

  private constructor(folder: string, root: Authority, authority: Authority) {
    this.folder = folder;
    this.root = root;
    this.authority = authority;
  }

  static async create(t: TestContext): Promise<Site> {
    const folder = await mkdtemp(path.join(tmpdir(), 'staplegate-e2e-'));
    const root = await Authority.root('End-to-end root');
    await writeFile(path.join(folder, 'root.pem'), root.pem);
    const site = new Site(folder, root, await root.subordinate('End-to-end issuer'));
    site.#uses.defer(() => rm(folder, { recursive: true, force: true }));
    t.after(() => site.#uses.disposeAsync());
    return site;
  }

  /** Ends with the test, before what was there earlier; the folder goes last. */
  async use<T extends AsyncDisposable>(starting: T | Promise<T>): Promise<T> {
    return this.#uses.use(await starting);
  }

  /** Done at the end of the test, before what was to be done earlier. */
  defer(work: () => Promise<unknown>): void {
    this.#uses.defer(async () => void (await work()));
  }

  /** The program, serving this configuration: one worker and a free port, unless it says otherwise. */
  serving(config: object): Promise<Program> {
    return this.use(Program.serving(this.folder, { ...usual, ...config }));
  }

  /** For clients: the root. */
  get ca(): string {
    return this.file('root.pem');
  }

  file(...names: string[]): string {
    return path.join(this.folder, ...names);
  }

  issue(name: string, options: IssueOptions = {}): Promise<Issued> {
    return this.authority.issue({ names: [name], ...options });
  }

  /** Writes `STEM.pem` and `STEM.key`; returns them as the configuration names them. */
  async write(stem: string, { chainPem, keyPem }: Pick<Issued, 'chainPem' | 'keyPem'>): Promise<{ certificate: string; key: string }> {
    await mkdir(path.dirname(this.file(stem)), { recursive: true });
    await writeFile(this.file(`${stem}.pem`), chainPem);
    await writeFile(this.file(`${stem}.key`), keyPem, { mode: 0o600 });
    return { certificate: `${stem}.pem`, key: `${stem}.key` };
  }

  /** Puts another configuration in the place of config.yaml, whole. */
  async configure(config: object | string): Promise<void> {
    await writeFile(this.file('config.new'), typeof config === 'string' ? config : stringify({ ...usual, ...config }));
    await rename(this.file('config.new'), this.file('config.yaml'));
  }
}
