import { hash } from 'node:crypto';
import { type BigIntStats, constants, readdirSync, readFileSync, statSync } from 'node:fs';
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

/** What was a file a moment ago may be a named pipe now, which would wait for a writer for ever. */
const notWaiting = { flag: constants.O_RDONLY | constants.O_NONBLOCK };
const largestHashed = 1024 * 1024;
/** File systems count time in ticks of up to two seconds (FAT): a younger file may change again without changing its times. */
const freshness = 2000;

/** Looks at a file; reads it only when its inode, size or times are not those of `previous`. Never throws for what is on the disk. */
export function fileContent(path: string, previous: Content | undefined, now: number): Content {
  try {
    const stats = statSync(path, { bigint: true });
    const signature = [stats.dev, stats.ino, stats.mode, stats.size, stats.mtimeNs, stats.ctimeNs].join(':');
    if (previous?.signature === signature) return previous;
    const changedAt = newest(stats);
    const state = stats.isFile() && stats.size <= largestHashed ? sha256(readFileSync(path, notWaiting)) : signature;
    return { state, signature: now - changedAt > freshness ? signature : undefined, changedAt };
  } catch (error) {
    return { state: failure(error), signature: undefined, changedAt: 0 };
  }
}

/** Looks at the names in a directory and in the directories directly in it. */
export function directoryContent(path: string): Content {
  return { state: sha256(JSON.stringify([names(path), subdirectories(path).map(names)])), signature: undefined, changedAt: Number.POSITIVE_INFINITY };
}

/** Those in a directory, or why it cannot be listed. */
function names(directory: string): string[] | string {
  try {
    return readdirSync(directory).sort();
  } catch (error) {
    return failure(error);
  }
}

/** The directories, and the links that may lead to one, in a directory; none when it cannot be listed. */
export function subdirectories(path: string): string[] {
  try {
    return readdirSync(path, { withFileTypes: true })
      .filter((entry) => entry.isDirectory() || entry.isSymbolicLink())
      .map(({ name }) => join(path, name))
      .sort();
  } catch {
    return []; // its content says why
  }
}

function newest({ mtimeMs, ctimeMs }: BigIntStats): number {
  return Number(mtimeMs > ctimeMs ? mtimeMs : ctimeMs);
}

function sha256(data: string | Buffer): string {
  return hash('sha256', data, 'base64');
}

function failure(error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? 'failed';
}
