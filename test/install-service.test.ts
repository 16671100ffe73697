import assert from 'node:assert/strict';
import { appendFile, chmod, mkdir, readdir, readFile, readlink, realpath, rm, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import test from 'node:test';
import packageJson from '../package.json' with { type: 'json' };
import { copyCheckout, npmCi, standIns } from './support/installation.ts';
import { execute, type Finished, type TemporaryFolder, temporaryFolder } from './support/program.ts';
import { needs } from './support/tools.ts';

/**
 * The script installs into a folder (DESTDIR), with systemd's own offline tools. Only `npm ci` is a stand-in, which links
 * the packages that are installed here and writes down how it was called.
 */
class Target implements AsyncDisposable {
  readonly #folder: TemporaryFolder;
  readonly destdir: string;
  readonly checkout: string;
  readonly #bin: string;

  private constructor(folder: TemporaryFolder) {
    this.#folder = folder;
    this.destdir = folder.file('root');
    this.checkout = this.file('/opt/staplegate');
    this.#bin = folder.file('bin');
  }

  static async prepared(): Promise<Target> {
    const target = new Target(await temporaryFolder());
    await copyCheckout(target.checkout);
    await standIns(target.#bin, { npm: `echo "$*" >>'${target.#calls}'\n${npmCi}` });
    return target;
  }

  get #calls(): string {
    return path.join(this.#folder.path, 'npm-calls');
  }

  /** Where a path of the installed system is. */
  file(installed: string): string {
    return path.join(this.destdir, installed);
  }

  async mode(installed: string): Promise<string> {
    return ((await stat(this.file(installed))).mode & 0o7777).toString(8);
  }

  install(...args: string[]): Promise<Finished> {
    // Under `npm test` that would be the real one.
    const env = { ...process.env, npm_execpath: '', DESTDIR: this.destdir, PATH: `${this.#bin}:${process.env['PATH']}:/usr/sbin` };
    return execute(this.file('/opt/staplegate/scripts/install-service.sh'), args, { env });
  }

  async npmCalls(): Promise<string[]> {
    return (await readFile(this.#calls, 'utf8')).trim().split('\n');
  }

  /** As if another release wanted another version of a package. */
  async upgradeYaml(): Promise<void> {
    const file = this.file('/opt/staplegate/package-lock.json');
    const lock = JSON.parse(await readFile(file, 'utf8')) as { packages: Record<string, { version: string }> };
    lock.packages['node_modules/yaml']!.version += '-next';
    await writeFile(file, JSON.stringify(lock));
  }

  [Symbol.asyncDispose](): PromiseLike<void> {
    return this.#folder[Symbol.asyncDispose]();
  }
}

test('everything that the unit needs is there, and only its user reads the configuration', needs('systemd-sysusers'), async () => {
  await using target = await Target.prepared();
  await chmod(target.checkout, 0o700);
  await chmod(target.file('/opt/staplegate/src/main.ts'), 0o600);
  const { code, stdout, stderr } = await target.install();
  assert.equal(code, 0, stderr);
  assert.match(stdout, new RegExp(`program: /opt/staplegate, version ${packageJson.version}\n`));
  assert.match(stdout, /annotated sample/);
  assert.match(stdout, /Next:\n/);

  assert.match((await target.npmCalls()).join(), /^ci --omit=dev\b/);
  assert.equal(await target.mode('/opt/staplegate'), '755', 'the service user can read the program, whatever the umask of the clone was');
  assert.equal(await target.mode('/opt/staplegate/src/main.ts'), '644');
  assert.equal(await readlink(target.file('/usr/local/bin/staplegate')), '/opt/staplegate/scripts/staplegate');
  assert.equal(await target.mode('/etc/staplegate/config.yaml'), '640');
  assert.equal(await target.mode('/etc/staplegate/certs'), '750');

  const gid = /^staplegate:[^:]*:(\d+):/m.exec(await readFile(target.file('/etc/group'), 'utf8'))?.[1];
  assert.match(await readFile(target.file('/etc/passwd'), 'utf8'), new RegExp(`^staplegate:[^:]*:\\d+:${gid}:[^:]*:/var/lib/staplegate:\\S*nologin$`, 'm'));
  if (process.getuid?.() === 0) {
    for (const file of ['/etc/staplegate/config.yaml', '/etc/staplegate/certs']) {
      const { uid, gid: owner } = await stat(target.file(file));
      assert.deepEqual([uid, String(owner)], [0, gid], file);
    }
  }
});

test('installing again keeps what the administrator changed, and fetches packages only when others are wanted', needs('systemd-sysusers'), async () => {
  await using target = await Target.prepared();
  assert.equal((await target.install()).code, 0);
  await appendFile(target.file('/etc/staplegate/config.yaml'), '# mine\n');
  const edited = await readFile(target.file('/etc/staplegate/config.yaml'), 'utf8');
  await chmod(target.file('/etc/staplegate/certs'), 0o700);
  await writeFile(target.file('/usr/lib/systemd/system/staplegate.service'), 'of an older release');

  const again = await target.install();
  assert.equal(again.code, 0, again.stderr);
  assert.match(again.stdout, /config\.yaml, which was there, is kept/);
  assert.equal(await readFile(target.file('/etc/staplegate/config.yaml'), 'utf8'), edited);
  assert.equal(await target.mode('/etc/staplegate/certs'), '700');
  assert.match(await readFile(target.file('/usr/lib/systemd/system/staplegate.service'), 'utf8'), /^ExecStart=/m);
  assert.equal((await target.npmCalls()).length, 1);

  await target.upgradeYaml();
  assert.equal((await target.install()).code, 0);
  assert.equal((await target.npmCalls()).length, 2);
  assert.doesNotMatch((await target.npmCalls()).at(-1) ?? '', /--omit=optional/);

  await rm(target.file('/opt/staplegate/node_modules/.bin/node'));
  await target.upgradeYaml();
  const ownNode = await target.install();
  assert.equal(ownNode.code, 0, ownNode.stderr);
  assert.match((await target.npmCalls()).at(-1) ?? '', /--omit=optional/, 'packages without a Node are replaced by packages without a Node');
});

test('the installed unit is well-formed, can be enabled, and its program runs', needs('systemd-sysusers', 'systemd-analyze', 'systemctl'), async () => {
  await using target = await Target.prepared();
  assert.equal((await target.install()).code, 0);
  const unit = target.file('/usr/lib/systemd/system/staplegate.service');

  const enabled = await execute('systemctl', [`--root=${target.destdir}`, 'enable', 'staplegate']);
  assert.equal(enabled.code, 0, enabled.stderr);
  assert.equal(await readlink(target.file('/etc/systemd/system/multi-user.target.wants/staplegate.service')), '/usr/lib/systemd/system/staplegate.service');

  const text = await readFile(unit, 'utf8');
  const mapped = path.join(target.destdir, 'staplegate.service');
  await writeFile(mapped, text.replaceAll('/opt/staplegate', target.checkout));
  const verified = await execute('systemd-analyze', ['verify', '--man=no', mapped]);
  assert.equal(verified.stdout + verified.stderr, '');
  assert.equal(verified.code, 0);

  const [, program = '', config = ''] = /^ExecStart=(\S+) run --config (\S+)$/m.exec(text) ?? [];
  const version = await execute(target.file(program), ['--version']);
  assert.equal(version.stdout.trim(), packageJson.version, version.stderr);
  const checked = await execute(target.file(program), ['check', '--config', target.file(config)]);
  assert.equal(checked.code, 1);
  // Of a pair that is not there, either file may be the one that is named.
  for (const pair of ['shop/(fullchain|privkey).pem', 'shop/rsa.(pem|key)', 'intranet/(fullchain|privkey).pem']) {
    assert.match(checked.stdout, new RegExp(`${target.file('/etc/staplegate/certs')}/${pair} does not exist`));
  }
  assert.doesNotMatch(checked.stdout + checked.stderr, /^\s+at /m);
});

test('without root, or from another folder, nothing is touched', async () => {
  await using folder = await temporaryFolder();
  const checkout = path.join(await realpath(folder.path), 'staplegate');
  await mkdir(path.join(checkout, 'scripts'), { recursive: true });
  await copyCheckout(checkout);
  // Whatever could change the machine fails the test instead.
  const forbidden = Object.fromEntries(
    ['npm', 'install', 'ln', 'chmod', 'chgrp', 'systemctl', 'systemd-sysusers'].map((name) => [name, 'echo "touched: $0 $*"; exit 99']),
  );
  const run = async (uid: number, DESTDIR: string, ...args: string[]) => {
    const bin = await standIns(folder.file(`bin-${uid}`), { ...forbidden, id: `echo ${uid}` });
    return execute(path.join(checkout, 'scripts/install-service.sh'), args, { env: { DESTDIR, PATH: `${bin}:/usr/bin:/bin` } });
  };

  const user = await run(1000, '');
  assert.deepEqual([user.code, user.stdout], [1, '']);
  assert.match(user.stderr, /run it as root/);

  for (const destdir of ['', folder.file('empty')]) {
    const elsewhere = await run(0, destdir);
    assert.deepEqual([elsewhere.code, elsewhere.stdout], [1, '']);
    assert.ok(elsewhere.stderr.includes(`git clone ${checkout} ${destdir}/opt/staplegate\n`), elsewhere.stderr);
  }

  const wrong = await run(0, '', '--prefix=/usr');
  assert.deepEqual([wrong.code, wrong.stdout], [1, '']);
  assert.match(wrong.stderr, /unknown argument --prefix=\/usr; see --help/);
  const help = await run(1000, '', '--help');
  assert.equal(help.code, 0);
  assert.match(help.stdout, /^Usage: sudo \/opt\/staplegate\/scripts\/install-service\.sh\n/);
  assert.ok(!(await readdir(checkout)).includes('node_modules'));
});
