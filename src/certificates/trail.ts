import { lstat, readlink } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { subdirectories } from './content.ts';

/** What must be watched to see that a path leads to something else. */
export interface Trail {
  /** The file and every symbolic link on the way to it, by real directory; replacing one of them changes what the path means. */
  entries: string[];
  /** The real directories that hold the entries, with their identities: one that was replaced must be watched anew. */
  directories: Map<string, string>;
  /** The path without symbolic links, and the identity of what is there; undefined when it leads nowhere. */
  end: { path: string; id: string; isDirectory: boolean } | undefined;
}

/** As Linux: more links than this are a loop (path_resolution(7)). */
const maximumLinks = 40;

/**
 * Follows paths component by component. certbot's live/ links into archive/, Kubernetes' files link through `..data`: the
 * change happens at a link, and inotify tells only the directory that holds it. One object serves one look at the disk.
 */
export class Trails {
  /** Results only: remembering unfinished ones would make two links that point at each other wait for each other. */
  readonly #known = new Map<string, Trail>();

  /** Never throws; a path that cannot be followed has no end, and its trail stops in the deepest directory that exists. */
  async follow(path: string, links = 0): Promise<Trail> {
    const trail = this.#known.get(path) ?? (await this.#follow(path, links));
    this.#known.set(path, trail);
    return trail;
  }

  async #follow(path: string, links: number): Promise<Trail> {
    if (path === '/') return { entries: [], directories: new Map(), end: { path, id: path, isDirectory: true } };
    const parent = await this.follow(dirname(path), links);
    if (parent.end === undefined) return parent;
    const entry = join(parent.end.path, basename(path));
    const entries = [...parent.entries, entry];
    const directories = new Map(parent.directories).set(parent.end.path, parent.end.id);
    try {
      const stat = await lstat(entry);
      // ext4 gives the number of a deleted directory to the next one that is made.
      const end = { path: entry, id: `${stat.dev}:${stat.ino}:${stat.birthtimeMs}`, isDirectory: stat.isDirectory() };
      // Ancestors that are plain directories are no entries: their own watch tells when they are moved or deleted.
      if (end.isDirectory) return { entries: parent.entries, directories: parent.directories, end };
      if (!stat.isSymbolicLink()) return { entries, directories, end };
      if (links >= maximumLinks) return { entries, directories, end: undefined };
      const rest = await this.follow(resolve(parent.end.path, await readlink(entry)), links + 1);
      return { entries: [...entries, ...rest.entries], directories: new Map([...directories, ...rest.directories]), end: rest.end };
    } catch {
      // Missing, or not to be looked at: whoever reads the file says which.
      return { entries, directories, end: undefined };
    }
  }
}

/** The trail of a file. A directory that stands in its place is an entry too: it will give way to the file. */
export async function followFile(path: string, trails: Trails): Promise<Trail> {
  const trail = await trails.follow(path);
  if (!trail.end?.isDirectory) return trail;
  const holder = (await trails.follow(dirname(trail.end.path))).end;
  const directories = new Map(trail.directories);
  if (holder) directories.set(holder.path, holder.id);
  return { ...trail, entries: [...trail.entries, trail.end.path], directories };
}

/** The trail of a directory whose content matters, two levels deep: what it holds counts as entries by the directory's own path. */
export async function followDirectory(path: string, trails: Trails): Promise<Trail> {
  const top = await trails.follow(path);
  const below = await Promise.all((await subdirectories(path)).map((directory) => trails.follow(directory)));
  const entries: string[] = [];
  const directories = new Map<string, string>();
  for (const trail of [top, ...below]) {
    entries.push(...trail.entries);
    for (const [directory, id] of trail.directories) directories.set(directory, id);
    if (trail.end?.isDirectory) {
      entries.push(trail.end.path);
      directories.set(trail.end.path, trail.end.id);
    }
  }
  return { entries, directories, end: top.end };
}
