import { randomBytes } from 'node:crypto';
import { constants, type FileHandle, open, rename, unlink } from 'node:fs/promises';
import path from 'node:path';

const temporaryFile = /^\..+\.[0-9a-f]{12}\.tmp$/;

/** Whether a name is one that {@link putFile} writes under before the file is complete. */
export function isTemporary(name: string): boolean {
  return temporaryFile.test(name);
}

/**
 * Puts a complete file in the place of the old one, or leaves the old one as it was: whatever happens in between
 * (crash, power cut, full disk), the name leads to one of the two, whole. It leads to the new one for good when the folder is synced too.
 *
 * @param sync false for what may as well be lost or empty after a power cut; a crash of this process alone does it no harm either
 */
export async function putFile(file: string, content: Uint8Array | string, { sync }: { sync: boolean }): Promise<void> {
  const temporary = path.join(path.dirname(file), `.${path.basename(file)}.${randomBytes(6).toString('hex')}.tmp`);
  try {
    const handle = await open(temporary, 'wx', 0o600);
    try {
      await handle.writeFile(content);
      if (sync) await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, file);
  } catch (error) {
    // On a full disk the half-written file is in the way of the next attempt; the error that led here matters more than one from removing it.
    await unlink(temporary).catch(() => undefined);
    throw error;
  }
}

/**
 * {@link putFile}, for good.
 *
 * @param folder an open handle of the folder
 */
export async function replaceFile(file: string, content: Uint8Array | string, folder: FileHandle): Promise<void> {
  await putFile(file, content, { sync: true });
  await folder.sync();
}

/**
 * Reads a regular file of at most `limit` bytes.
 *
 * @param followLinks for files of the administrator's; in our own folder a link is not ours and could lead anywhere
 * @returns undefined when there is none
 * @throws NotReadable when it is something else (a link, a pipe), TooLarge, or the system's error
 */
export async function readSmallFile(file: string, limit: number, { followLinks = false } = {}): Promise<Buffer | undefined> {
  let handle: FileHandle;
  try {
    // Without O_NONBLOCK, opening a pipe waits for a writer.
    handle = await open(file, constants.O_RDONLY | constants.O_NONBLOCK | (followLinks ? 0 : constants.O_NOFOLLOW));
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    if (code === 'ELOOP' || code === 'ENXIO') throw new NotReadable('is not a regular file');
    throw error;
  }
  try {
    const stat = await handle.stat();
    if (!stat.isFile()) throw new NotReadable('is not a regular file');
    if (stat.size > limit) throw new TooLarge(`is larger than ${limit} bytes`);
    const buffer = Buffer.alloc(stat.size);
    let size = 0;
    while (size < buffer.length) {
      const { bytesRead } = await handle.read(buffer, size, buffer.length - size, size);
      if (bytesRead === 0) break;
      size += bytesRead;
    }
    return buffer.subarray(0, size);
  } finally {
    await handle.close();
  }
}

/** There is something under the name, but not a file of ours. */
export class NotReadable extends Error {}

/** Ours it may be. */
export class TooLarge extends NotReadable {}
