import { randomBytes } from 'node:crypto';
import { type FileHandle, readdir, unlink } from 'node:fs/promises';
import net from 'node:net';
import path from 'node:path';

/** Another running instance owns the folder. */
export class FolderInUse extends Error {
  readonly code = 'state_dir_in_use';

  constructor(folder: string, owner: string) {
    super(`${folder} is in use by another running Staplegate (process ${owner}); give each instance a state_dir of its own`);
    this.name = 'FolderInUse';
  }
}

export interface Lock {
  release(): Promise<void>;
}

const ownerFile = /^owner-(\d+)-[0-9a-f]{16}\.sock$/;

/**
 * Makes this process the owner of an open folder, until it releases it or dies.
 *
 * The lock is a listening Unix socket with a unique name. The kernel closes it with its process, however that ends,
 * so a connection tells without doubt whether an owner lives: nothing to guess from process numbers, which are reused
 * and mean something else in another container. As no two owners share a name, a dead one's socket can be removed
 * without a race. Each instance makes its own socket before it looks for others: two can never both own the folder,
 * though two started in the same instant may both refuse.
 *
 * @throws FolderInUse, and the system's error when a socket cannot be made there (full or read-only disk)
 */
export async function lockFolder(folder: string, handle: FileHandle): Promise<Lock> {
  const own = `owner-${process.pid}-${randomBytes(8).toString('hex')}.sock`;
  const server = await listen(reachable(handle, own));
  try {
    for (const name of await readdir(folder)) {
      const owner = ownerFile.exec(name)?.[1];
      if (owner === undefined || name === own) continue;
      if (await isListening(reachable(handle, name))) throw new FolderInUse(folder, owner);
      await unlink(path.join(folder, name)).catch(ignoreMissing);
    }
  } catch (error) {
    await close(server);
    throw error;
  }
  return { release: () => close(server) };
}

/** A socket's address holds 107 bytes; going through the open folder keeps long folder names possible. */
function reachable(handle: FileHandle, name: string): string {
  return `/proc/self/fd/${handle.fd}/${name}`;
}

function listen(address: string): Promise<net.Server> {
  return new Promise((resolve, reject) => {
    const server = net.createServer((socket) => socket.destroy());
    server.once('error', reject);
    // exclusive: a cluster worker would otherwise ask its primary to listen.
    server.listen({ path: address, exclusive: true }, () => resolve(server.unref()));
  });
}

function close(server: net.Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
  });
}

function isListening(address: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect(address);
    const done = (listening: boolean): void => {
      socket.destroy();
      resolve(listening);
    };
    socket.once('connect', () => done(true));
    // Anything but a plain "nobody is there" counts as alive: EAGAIN is a busy owner, EACCES another user's.
    socket.once('error', (error: NodeJS.ErrnoException) => done(error.code !== 'ECONNREFUSED' && error.code !== 'ENOENT'));
  });
}

function ignoreMissing(error: NodeJS.ErrnoException): void {
  if (error.code !== 'ENOENT') throw error;
}
