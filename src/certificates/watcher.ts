import { basename, join } from 'node:path';
import { type FSWatcher, watch } from 'chokidar';
import type { Log } from '../log.ts';
import { type Content, directoryContent, fileContent } from './content.ts';
import { inSlices } from './in-slices.ts';
import { followDirectory, followFile, type Trail, Trails } from './trail.ts';

export interface FileWatcherOptions {
  /** Milliseconds of quiet after which changes are looked at; under constant change that happens every ten times as long. */
  settle?: number;
  /** Milliseconds between two looks at everything, for network file systems and lost events. */
  poll?: number;
  /** Gets the files and directories whose content is not what it was; the next call waits for the end of this one. */
  onChange: (paths: string[]) => void | Promise<void>;
  log: Log;
}

interface Target {
  isDirectory: boolean;
  directories: Trail['directories'];
  /** Links on the way, and whatever else is not the path itself. */
  entries: Trail['entries'];
  /** Undefined until it has been looked at. */
  content: Content | undefined;
}

const longestBurst = 10;
/** Milliseconds between two looks when the kernel gives no events. */
const pollWithoutEvents = 10_000;
/** Milliseconds. Who lists a file later has read it before; a change in between must not be lost. */
const recent = 600_000;
/** There may be ten thousand files, and few have any. */
const none: Pick<Target, 'directories' | 'entries'> = { directories: new Map(), entries: [] };
/** When directories come and go faster than they can be watched, the poll has to do. */
const attemptsToWatch = 5;

/**
 * Reports that files hold something else than before, whether they were written, renamed over, or reached through a
 * link that was swapped. Events only say where to look; contents decide. Once `update` has resolved no change is missed.
 */
export class FileWatcher {
  readonly #onChange: FileWatcherOptions['onChange'];
  readonly #log: Log;
  readonly #settle: number;
  readonly #poll: number;
  readonly #targets = new Map<string, Target>();
  /** Paths of targets by trail entry, where that is another path. */
  #byEntry = new Map<string, string[]>();
  #dirty = new Set<string>();
  #watcher: FSWatcher | undefined;
  /** The watched directories with their identities. */
  #watched = '';
  #hasEvents = true;
  #timer: NodeJS.Timeout | undefined;
  #pollTimer: NodeJS.Timeout | undefined;
  #burstSince: number | undefined;
  /** Looks happen one after another. */
  #looking: Promise<void> = Promise.resolve();
  #closed = false;

  constructor({ settle = 200, poll = 60_000, onChange, log }: FileWatcherOptions) {
    this.#onChange = onChange;
    this.#log = log;
    this.#settle = settle;
    this.#poll = poll;
    this.#schedulePoll();
  }

  /**
   * Watches these absolute paths, there or not, from now on. What is new among them and changed in the last ten minutes is reported once.
   * @param directories in which files, and directories of files, may appear; only names are compared there
   * @returns when it has looked at them
   */
  update(files: readonly string[], directories: readonly string[] = []): Promise<void> {
    const wanted = new Set([...files, ...directories]);
    for (const path of this.#targets.keys()) if (!wanted.has(path)) this.#targets.delete(path);
    const add = (path: string, isDirectory: boolean) => {
      if (this.#targets.has(path)) return;
      this.#targets.set(path, { ...none, isDirectory, content: undefined });
      this.#dirty.add(path);
    };
    for (const path of files) add(path, false);
    for (const path of directories) add(path, true);
    return this.#look();
  }

  /** Ends after a callback that is under way. */
  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    clearTimeout(this.#pollTimer);
    await this.#looking;
    await this.#watcher?.close();
  }

  #schedulePoll(): void {
    clearTimeout(this.#pollTimer);
    if (this.#closed) return;
    const delay = this.#hasEvents ? this.#poll : Math.min(this.#poll, pollWithoutEvents);
    this.#pollTimer = setTimeout(() => {
      this.#markAll();
      void this.#look().then(() => this.#schedulePoll());
    }, delay);
  }

  /** `name` is an entry of a watched directory; null or the directory's own name say that it was itself moved or deleted. */
  #event(directory: string, name: string | null): void {
    if (name === null || name === basename(directory)) this.#markAll();
    else for (const entry of [join(directory, name), directory]) this.#mark(entry);
    if (this.#dirty.size === 0 || this.#closed) return;
    const now = performance.now();
    this.#burstSince ??= now;
    const left = this.#burstSince + longestBurst * this.#settle - now;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#look(), Math.max(0, Math.min(this.#settle, left)));
  }

  #mark(entry: string): void {
    if (this.#targets.has(entry)) this.#dirty.add(entry);
    for (const path of this.#byEntry.get(entry) ?? []) this.#dirty.add(path);
  }

  #markAll(): void {
    for (const path of this.#targets.keys()) this.#dirty.add(path);
  }

  #look(): Promise<void> {
    this.#looking = this.#looking
      .then(() => this.#lookOnce())
      .catch((error: unknown) => this.#log.error(`a change of files could not be handled: ${(error as Error).message}`, { code: 'watch_failed' }));
    return this.#looking;
  }

  async #lookOnce(): Promise<void> {
    if (this.#closed) return;
    clearTimeout(this.#timer);
    this.#burstSince = undefined;
    let paths = [...this.#dirty];
    this.#dirty = new Set();
    for (let attempt = 0; attempt < attemptsToWatch; attempt += 1) {
      await this.#follow(paths);
      if (!(await this.#watchDirectories())) break;
      // What changed before the directories were watched gave no event.
      paths = [...this.#targets.keys()];
    }
    const changed = await this.#compare(paths);
    if (changed.length > 0 && !this.#closed) await this.#onChange(changed);
  }

  /** Finds out which directory entries lead to the targets. */
  async #follow(paths: string[]): Promise<void> {
    const trails = new Trails();
    await inSlices(paths, (path) => {
      const target = this.#targets.get(path);
      if (target === undefined) return;
      const { entries, directories } = (target.isDirectory ? followDirectory : followFile)(path, trails);
      const others = entries.filter((entry) => entry !== path);
      Object.assign(target, { directories, entries: others.length === 0 ? none.entries : others });
    });
    this.#byEntry = new Map();
    for (const [path, { entries }] of this.#targets) {
      for (const entry of entries) {
        const paths = this.#byEntry.get(entry);
        if (paths) paths.push(path);
        else this.#byEntry.set(entry, [path]);
      }
    }
  }

  /** Watches the directories of all trails; says whether they are others than before. */
  async #watchDirectories(): Promise<boolean> {
    // The files of a directory share one map.
    const maps = new Set(Array.from(this.#targets.values(), ({ directories }) => directories));
    const directories = new Map([...maps].flatMap((own) => [...own]));
    const watched = JSON.stringify([...directories].sort());
    if (watched === this.#watched || !this.#hasEvents) return false;
    this.#watched = watched;
    // Both at once would share one inotify watch for a path, and with it the inode that a replaced directory had before.
    await this.#watcher?.close();
    this.#watcher = watch([...directories.keys()], {
      depth: 0,
      followSymlinks: false,
      ignoreInitial: true,
      atomic: false,
      ignorePermissionErrors: true,
      // Only what the kernel says about the directories matters: their files need no tracking of chokidar's own.
      ignored: (path) => !directories.has(path),
    });
    const watcher = this.#watcher;
    await new Promise<void>((resolve) => {
      watcher.on('ready', resolve);
      watcher.on('raw', (_event, name, details) => {
        // CHOKIDAR_USEPOLLING in the environment makes chokidar poll, and then it names no directory.
        const { watchedPath } = details as { watchedPath?: string };
        this.#event(watchedPath ?? '', watchedPath === undefined ? null : name);
      });
      watcher.on('error', (error) => this.#failed(error as NodeJS.ErrnoException));
    });
    return true;
  }

  /** Compares contents with those of the last look. */
  async #compare(paths: string[]): Promise<string[]> {
    const changed: string[] = [];
    await inSlices(paths, (path) => {
      const target = this.#targets.get(path);
      if (target === undefined) return;
      const now = Date.now();
      const content = target.isDirectory ? directoryContent(path) : fileContent(path, target.content, now);
      const isOther = target.content === undefined ? now - content.changedAt < recent : target.content.state !== content.state;
      if (isOther) changed.push(path);
      target.content = content;
    });
    return changed;
  }

  #failed(error: NodeJS.ErrnoException): void {
    if (error.code !== 'ENOSPC' && error.code !== 'EMFILE') {
      this.#log.debug(`a directory is not watched but looked at every ${this.#poll} ms: ${error.message}`, { code: 'watch_failed' });
      return;
    }
    if (!this.#hasEvents) return;
    this.#hasEvents = false;
    const limits = 'raise fs.inotify.max_user_watches and fs.inotify.max_user_instances with sysctl, then restart';
    this.#log.warn(`the kernel's limit of file watches is reached (${error.code}); changed files are noticed more slowly: ${limits}`, { code: 'watch_limit' });
    this.#schedulePoll();
  }
}
