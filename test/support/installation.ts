import { chmod, cp, mkdir, readdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

export const repository = fileURLToPath(new URL('../..', import.meta.url)).replace(/\/$/, '');

const notInClones = new Set(['node_modules', '.git', '.demo', 'coverage']);

/** What a clone of the repository would hold, from the files as they are now. */
export async function copyCheckout(target: string): Promise<void> {
  await mkdir(target, { recursive: true });
  for (const name of await readdir(repository)) {
    if (!notInClones.has(name)) await cp(path.join(repository, name), path.join(target, name), { recursive: true });
  }
}

/** A folder for the front of the PATH: programs by name, each a POSIX shell script. */
export async function standIns(folder: string, scripts: Record<string, string>): Promise<string> {
  await mkdir(folder, { recursive: true });
  for (const [name, script] of Object.entries(scripts)) {
    const file = path.join(folder, name);
    await writeFile(file, `#!/bin/sh\n${script}\n`);
    await chmod(file, 0o755);
  }
  return folder;
}

/**
 * `npm ci` without the network, as a shell script for the working folder: links to the repository's packages. With
 * --omit=optional, all but the Node among them.
 */
export const npmCi = `
rm -rf node_modules
mkdir -p node_modules/.bin
for package in '${repository}'/node_modules/*; do
  case "$* $package" in *--omit=optional*/node-linux-*) continue ;; esac
  ln -s "$package" node_modules/
done
case "$*" in *--omit=optional*) ;; *) ln -s '${repository}/node_modules/.bin/node' node_modules/.bin/node ;; esac
cp package-lock.json node_modules/.package-lock.json`;
