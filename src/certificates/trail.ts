import { lstatSync, readlinkSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { subdirectories } from './content.ts';

/** What must be watched to see that a path leads to something else. */
export interface Trail {
  /** The file and every symbolic link on the way to it, by real directory; replacing one of them changes what the path means. */
  entries: readonly string[];
  /** The real directories that hold the entries, with their identities: one that was replaced must be watched anew. */
  directories: ReadonlyMap<string, string>;
  /** The path without symbolic links, and the identity of the directory that is there; undefined when it leads nowhere. */
  end: { path: string; directory: string | undefined } | undefined;
}

/** As Linux: more links than this are a loop (path_resolution(7)). */
const maximumLinks = 40;

/**
 * Follows paths component by component. certbot's live/ links into archive/, Kubernetes' files link through `..data`: the
 * change happens at a link, and inotify tells only the directory that holds it. One object serves one look at the disk.
 */
export class Trails {
  /** Of directories and links only: there may be ten thousand files in one directory. */
  readonly #known = new Map<string, Trail>();
  /** What is watched for all files of a directory, by its trail. */
  readonly #inside = new Map<Trail, ReadonlyMap<string, string>>();

  /** Never throws; a path that cannot be followed has no end, and its trail stops in the deepest directory that exists. */
  follow(path: string, links = 0): Trail {
    return this.#known.get(path) ?? this.#follow(path, links);
  }

  /** Results only are kept: remembering unfinished ones would make two links that point at each other wait for each other. */
  #keep(path: string, trail: Trail): Trail {
    this.#known.set(path, trail);
    return trail;
  }

  #follow(path: string, links: number): Trail {
    if (path === '/') return { entries: [], directories: new Map(), end: { path, directory: path } };
    const parent = this.follow(dirname(path), links);
    if (parent.end === undefined) return parent;
    const entry = join(parent.end.path, basename(path));
    const directories = this.#directoriesIn(parent, parent.end);
    try {
      const stat = lstatSync(entry);
      // Ancestors that are plain directories are no entries: their own watch tells when they are moved or deleted. ext4 gives the
      // number of a deleted directory to the next one that is made.
      if (stat.isDirectory()) return this.#keep(path, { ...parent, end: { path: entry, directory: `${stat.dev}:${stat.ino}:${stat.birthtimeMs}` } });
      const entries = [...parent.entries, entry];
      if (!stat.isSymbolicLink()) return { entries, directories, end: { path: entry, directory: undefined } };
      if (links >= maximumLinks) return this.#keep(path, { entries, directories, end: undefined });
      const rest = this.follow(resolve(parent.end.path, readlinkSync(entry)), links + 1);
      return this.#keep(path, { entries: [...entries, ...rest.entries], directories: new Map([...directories, ...rest.directories]), end: rest.end });
    } catch {
      // Missing, or not to be looked at: whoever reads the file says which.
      return { entries: [...parent.entries, entry], directories, end: undefined };
    }
  }

  /** One map for all files of a directory. */
  #directoriesIn(parent: Trail, { path, directory = '' }: NonNullable<Trail['end']>): ReadonlyMap<string, string> {
    const known = this.#inside.get(parent) ?? new Map(parent.directories).set(path, directory);
    this.#inside.set(parent, known);
    return known;
  }
}

/** The trail of a file. A directory that stands in its place is an entry too: it will give way to the file. */
export function followFile(path: string, trails: Trails): Trail {
  const trail = trails.follow(path);
  if (trail.end?.directory === undefined) return trail;
  const holder = trails.follow(dirname(trail.end.path)).end;
  const directories = new Map(trail.directories);
  if (holder?.directory !== undefined) directories.set(holder.path, holder.directory);
  return { ...trail, entries: [...trail.entries, trail.end.path], directories };
}

/** The trail of a directory whose content matters, two levels deep: what it holds counts as entries by the directory's own path. */
export function followDirectory(path: string, trails: Trails): Trail {
  const top = trails.follow(path);
  const below = subdirectories(path).map((directory) => trails.follow(directory));
  const entries: string[] = [];
  const directories = new Map<string, string>();
  for (const { entries: own, directories: held, end } of [top, ...below]) {
    entries.push(...own);
    for (const [directory, id] of held) directories.set(directory, id);
    if (end?.directory !== undefined) {
      entries.push(end.path);
      directories.set(end.path, end.directory);
    }
  }
  return { entries, directories, end: top.end };
}
