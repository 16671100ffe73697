import { isDeepStrictEqual } from 'node:util';
import { loadConfig } from '../config/load.ts';
import type { Config } from '../config/schema.ts';
import type { Log } from '../log.ts';
import { type NamedFiles, readNamedFiles } from './named-files.ts';

/** The configuration in force, with the files that it names, and why what its file says now is not, where it is not. */
export class Configuration {
  readonly #log: Log;
  #config: Config;
  #files: NamedFiles = { clientAuthorities: new Map(), backendFiles: new Map(), problems: [] };
  #loadedAt = Date.now();
  #refused: string | undefined;

  constructor(config: Config, log: Log) {
    this.#config = config;
    this.#log = log;
  }

  get config(): Config {
    return this.#config;
  }

  get files(): NamedFiles {
    return this.#files;
  }

  get status(): { file: string; loadedAt: number; refused?: string } {
    return { file: this.#config.file, loadedAt: this.#loadedAt, ...(this.#refused !== undefined && { refused: this.#refused }) };
  }

  /** Puts a configuration in force, and says what is wrong with the files that it names. */
  use(config: Config): void {
    this.#files = readNamedFiles(config, this.#files);
    this.#config = config;
    for (const { severity, virtualHost, code, message } of this.#files.problems) this.#log[severity](message, { code, virtual_host: virtualHost });
  }

  /**
   * Reads the file again. Anything wrong keeps the configuration in force.
   * @param adopt calls `use`, or throws what is wrong
   * @param ending aborted when the program ends: what fails then is no fault of the file
   * @returns whether the new one is in force
   */
  async reload(adopt: (config: Config) => Promise<void>, ending: AbortSignal): Promise<boolean> {
    this.#log.info(`reloading ${this.#config.file}`);
    try {
      await adopt(await loadConfig(this.#config.file));
      this.#refused = undefined;
      this.#loadedAt = Date.now();
      this.#log.info('configuration reloaded', { code: 'reloaded' });
      return true;
    } catch (error) {
      if (ending.aborted) return false;
      this.#refused = error instanceof Error ? error.message : String(error);
      for (const line of this.#refused.split('\n')) this.#log.error(line, { code: 'reload_refused' });
      this.#log.error('the new configuration is not used; the one before stays in force', { code: 'reload_refused' });
      return false;
    }
  }

  /** Whether a reload would change anything: a comment does not, nor does a file that is only new to the watcher. */
  async isOutdated(): Promise<boolean> {
    if (this.#refused !== undefined) return true;
    try {
      const config = await loadConfig(this.#config.file);
      return !isDeepStrictEqual([config, readNamedFiles(config, this.#files)], [this.#config, this.#files]);
    } catch {
      return true; // the reload says what is wrong
    }
  }
}
