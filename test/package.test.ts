import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdir, readdir, readFile, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import test from 'node:test';
import { fileURLToPath } from 'node:url';
import { Authority } from '../src/demo/authority.ts';
import { startOcspResponder } from '../src/demo/ocsp-responder.ts';
import { blocks } from './support/markdown.ts';
import { execute, temporaryFolder } from './support/program.ts';
import { needs } from './support/tools.ts';

const root = fileURLToPath(new URL('..', import.meta.url));
const bin = path.join(root, 'node_modules', '.bin');

/** Everything that packing reads, apart from the working tree, so that no dist/ is left in it. */
const packed = ['package.json', 'tsconfig.json', 'tsconfig.build.json', 'src', 'docs', 'LICENSE', 'scripts/staplegate'];

async function run(command: string, args: string[], cwd: string, env: NodeJS.ProcessEnv = {}): Promise<string> {
  const child = spawn(command, args, { cwd, env: { ...process.env, PATH: `${bin}:${process.env['PATH']}`, ...env } });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text: string) => (output += text));
  const [code] = (await once(child, 'close')) as [number];
  assert.equal(code, 0, `${command} ${args.join(' ')}: ${output}`);
  return output;
}

/** Packs the package and puts it into the node_modules of a new project, beside the packages it depends on. */
async function install(folder: string): Promise<string> {
  const tree = path.join(folder, 'tree');
  for (const name of packed) await cp(path.join(root, name), path.join(tree, name), { recursive: true });
  await symlink(path.join(root, 'node_modules'), path.join(tree, 'node_modules'));
  const quiet = { npm_config_cache: path.join(folder, 'npm'), npm_config_update_notifier: 'false', npm_config_offline: 'true' };
  await run('npm', ['pack', '--silent', '--pack-destination', folder], tree, quiet);
  const tarball = (await readdir(folder)).find((name) => name.endsWith('.tgz'));
  assert.ok(tarball);
  const modules = path.join(folder, 'project', 'node_modules');
  await mkdir(path.join(modules, 'staplegate'), { recursive: true });
  await run('tar', ['-xzf', path.join(folder, tarball), '-C', path.join(modules, 'staplegate'), '--strip-components=1'], folder);
  for (const name of await readdir(path.join(root, 'node_modules'))) {
    if (!name.startsWith('.')) await symlink(path.join(root, 'node_modules', name), path.join(modules, name));
  }
  return path.dirname(modules);
}

const example = async (): Promise<string> => {
  const page = await readFile(path.join(root, 'docs', 'library.md'), 'utf8');
  const block = blocks(page).find(({ language }) => language === 'js');
  assert.ok(block);
  return block.lines.join('\n');
};

test('the package as npm packs it runs the documented example, and its declarations compile', needs('openssl', 'npm', 'tar'), async (t) => {
  await using folder = await temporaryFolder();
  const project = await install(folder.path);
  const authority = await Authority.root('Package test CA');
  const responder = await startOcspResponder({ authority });
  t.after(() => responder.close());
  const { pem, keyPem } = await authority.issue({ names: ['localhost'], ocsp: responder.url });
  const files = { 'package.json': '{"type":"module"}', 'fullchain.pem': pem + authority.pem, 'privkey.pem': keyPem, 'ca.pem': authority.pem };
  for (const [name, text] of Object.entries(files)) await writeFile(path.join(project, name), text);

  await t.test('the example staples', async () => {
    const text = await example();
    assert.ok(text.split('\n').length <= 20, 'twenty lines');
    await writeFile(path.join(project, 'server.js'), text);
    const server = spawn(process.execPath, ['server.js'], { cwd: project, env: { ...process.env, PORT: '0' } });
    t.after(() => server.kill('SIGKILL'));
    let errors = '';
    server.stderr.setEncoding('utf8').on('data', (line: string) => (errors += line));
    const [line] = (await Promise.race([once(server.stdout.setEncoding('utf8'), 'data'), once(server, 'exit').then(() => [`ended: ${errors}`])])) as [string];
    const port = /listening on port (\d+)/.exec(line)?.[1];
    assert.ok(port, line);
    const args = ['s_client', '-connect', `127.0.0.1:${port}`, '-servername', 'localhost', '-CAfile', path.join(project, 'ca.pem'), '-status'];
    const { stdout } = await execute('openssl', args);
    assert.match(stdout, /OCSP Response Status: successful/);
    assert.match(stdout, /Cert Status: good/);
    assert.match(stdout, /Verify return code: 0/);
    server.kill('SIGTERM');
    const [code] = (await once(server, 'exit')) as [number];
    assert.deepEqual([code, errors], [0, '']);
    // Clients have a staple before the disk has it; at the end it is there.
    assert.equal((await readdir(path.join(project, 'staples', 'ocsp'))).filter((name) => name.endsWith('.der')).length, 1);
  });

  await t.test('a TypeScript project sees the types', async () => {
    const source = `import { openStapler, type StapleStatus } from 'staplegate';
const stapler = await openStapler({ directory: 'x', log: console, ocsp: { timeout: 5000, certIdHash: 'auto' } });
const status: StapleStatus = await stapler.add({ certificate: 'pem' });
export const end: number | undefined = status.validUntil;
// @ts-expect-error no such setting
await openStapler({ directory: 'x', ocsp: { timeuot: 1 } });
`;
    await writeFile(path.join(project, 'consumer.ts'), source);
    const compilerOptions = { module: 'nodenext', target: 'es2024', strict: true, noEmit: true, types: ['node'] };
    await writeFile(path.join(project, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: ['consumer.ts'] }));
    await run('tsc', ['-p', '.'], project);
  });

  await t.test('it holds JavaScript and declarations, and nothing that Node would not run there', async () => {
    const names = await readdir(path.join(project, 'node_modules', 'staplegate'), { recursive: true });
    const sources = names.filter((name) => name.endsWith('.ts') && !name.endsWith('.d.ts'));
    assert.deepEqual(sources, []);
    assert.ok(names.includes(path.join('docs', 'library.md')));
  });
});
