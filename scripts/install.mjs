// Installs what package-lock.json names, when it is not installed yet; with --omit=dev, what the service needs of it. Plain
// JavaScript that Node 18 can run: the Node that Staplegate itself needs is one of the things it installs.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const isForService = process.argv.includes('--omit=dev');

/** What a lock file names; nothing where there is none, or where npm was stopped while it wrote one. */
function packagesOf(lock) {
  try {
    return JSON.parse(readFileSync(root + lock, 'utf8')).packages;
  } catch {
    return {};
  }
}

// Versions, not times: a checkout and a copy change times, and then nothing has to be installed.
const installed = packagesOf('node_modules/.package-lock.json');
const isMissing = ([path, { version, dev, optional }]) =>
  path !== '' && installed[path]?.version !== version && !(optional && !installed[path]) && !(dev && isForService);
const hasNode = () => existsSync(root + 'node_modules/.bin/node');

const wanted = Object.entries(packagesOf('package-lock.json'));
if (wanted.length === 0 || wanted.some(isMissing)) {
  console.error('Installing the packages named in package-lock.json …');
  // Who installed the service without npm's Node runs a Node of their own, and goes on doing so.
  const hasOwnNode = isForService && Object.keys(installed).length > 0 && !hasNode();
  const omitted = [...(isForService ? ['--omit=dev'] : []), ...(hasOwnNode ? ['--omit=optional'] : [])];
  const npm = process.env.npm_execpath;
  const [command, ...first] = npm ? [process.execPath, npm] : ['npm'];
  // The engines field speaks of the Node that runs Staplegate, not of the one that runs npm now.
  const args = [...first, 'ci', ...omitted, '--no-audit', '--no-fund', '--loglevel=error'];
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: ['ignore', 2, 2] });
  if (status !== 0) {
    const isThere = error?.code !== 'ENOENT';
    console.error(isThere ? 'npm ci failed; see above. Is the npm registry reachable?' : 'npm is not installed; on Debian: apt install npm');
    process.exit(1);
  }
}

const [major, minor] = process.versions.node.split('.').map(Number);
if (!hasNode() && (major < 24 || (major === 24 && minor < 21))) {
  console.error(`Staplegate needs Node 24.21 or newer; this is ${process.version}, and npm has installed none for ${process.platform}-${process.arch}.`);
  process.exit(1);
}
