import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { CommandError } from './outcome.ts';

const reasons: Record<string, (file: string) => string> = {
  ENOENT: (file) => `the folder ${path.dirname(file)} does not exist`,
  ENOTDIR: (file) => `${path.dirname(file)} is not a folder`,
  EISDIR: () => 'it is a folder; name a file in it',
  EACCES: () => 'permission denied',
  EPERM: () => 'permission denied',
  EROFS: () => 'the disk is read-only',
  ENOSPC: () => 'the disk is full',
  EDQUOT: () => 'the disk quota is used up',
};

/** Writes what a command made into the file that `--out` names. @throws CommandError `file_not_writable` */
export async function writeOutput(file: string, content: Uint8Array): Promise<void> {
  try {
    await writeFile(file, content);
  } catch (error) {
    const { code = 'unknown error' } = error as NodeJS.ErrnoException;
    throw new CommandError('file_not_writable', `${file} cannot be written (--out): ${reasons[code]?.(file) ?? code}`);
  }
}
