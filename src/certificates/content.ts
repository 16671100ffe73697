import { createHash } from 'node:crypto';
import type { BigIntStats } from 'node:fs';
import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';

/** What a path holds, so that two looks can be compared. */
export interface Content {
  /** Differs when the bytes differ, or why they cannot be read. */
  state: string;
  /** Inode, size and times; undefined when they are too fresh to prove that the bytes are the same. */
  signature: string | undefined;
  /** When it last changed, in milliseconds since the epoch; 0 when missing, Infinity when not known. */
  changedAt: number;
}

const largestHashed = 1024 * 1024;
/** File systems count time in ticks of up to two seconds (FAT): a younger file may change again without changing its times. */
const freshness = 2000;

/** Looks at a file; reads it only when its inode, size or times are not those of `previous`. Never throws for what is on the disk. */
export async function fileContent(path: string, previous: Content | undefined, now: number): Promise<Content> {
  try {
    const stats = await stat(path, { bigint: true });
    const signature = [stats.dev, stats.ino, stats.mode, stats.size, stats.mtimeNs, stats.ctimeNs].join(':');
    if (previous?.signature === signature) return previous;
    const changedAt = newest(stats);
    const state = stats.isFile() && stats.size <= largestHashed ? sha256(await readFile(path)) : signature;
    return { state, signature: now - changedAt > freshness ? signature : undefined, changedAt };
  } catch (error) {
    return { state: failure(error), signature: undefined, changedAt: 0 };
  }
}

/** Looks at the names in a directory and in the directories directly in it. */
export async function directoryContent(path: string): Promise<Content> {
  const names = (directory: string) => readdir(directory).then((list) => list.sort(), failure);
  const below = await Promise.all((await subdirectories(path)).map(names));
  return { state: sha256(JSON.stringify([await names(path), below])), signature: undefined, changedAt: Number.POSITIVE_INFINITY };
}

/** The directories, and the links that may lead to one, in a directory; none when it cannot be listed. */
export async function subdirectories(path: string): Promise<string[]> {
  const entries = await readdir(path, { withFileTypes: true }).catch(() => []);
  return entries
    .filter((entry) => entry.isDirectory() || entry.isSymbolicLink())
    .map(({ name }) => join(path, name))
    .sort();
}

function newest({ mtimeMs, ctimeMs }: BigIntStats): number {
  return Number(mtimeMs > ctimeMs ? mtimeMs : ctimeMs);
}

function sha256(data: string | Buffer): string {
  return createHash('sha256').update(data).digest('hex');
}

function failure(error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? 'failed';
}
