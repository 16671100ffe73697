import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import test from 'node:test';
import { stringify } from 'yaml';
import packageJson from '../package.json' with { type: 'json' };
import { type Finished, staplegate, temporaryFolder } from './support/program.ts';

/** Exit codes are an interface: 0 yes, 1 no, 2 wrong usage. */

/** Asserts exit code 2, a hint and nothing on standard output; returns the first line. */
function misused({ code, stdout, stderr }: Finished): string {
  assert.deepEqual([code, stdout], [2, ''], stderr);
  assert.doesNotMatch(stderr, /^ {4}at /m);
  assert.match(stderr, /\(see staplegate (?:ocsp \w+ )?--help\)|^Usage: /m);
  return stderr.split('\n')[0] ?? '';
}

test('wrong usage exits 2 and says what is wrong, with a hint', async () => {
  const cases: [args: string[], says: RegExp][] = [
    [[], /^Usage: staplegate /],
    [['help', 'serve'], /^Usage: staplegate /],
    [['serve'], /^error: unknown command 'serve'/],
    [['rum'], /^error: unknown command 'rum'/],
    [['--verbose'], /^error: unknown option '--verbose'/],
    [['run', '--confg', 'x'], /^error: unknown option '--confg'/],
    [['check', '--config'], /^error: option '-c, --config <file>' argument missing/],
    [['check', 'config.yaml'], /^error: too many arguments for 'check'/],
    [['demo', '--https-port', '0'], /^error: option '--https-port <port>' argument '0' is invalid\. It must be a port from 1 to 65535/],
    [['demo', '--http-port', '80a'], /^error: option '--http-port <port>' argument '80a' is invalid/],
  ];
  const answers = await Promise.all(cases.map(([args]) => staplegate(...args)));
  for (const [i, [args, says]] of cases.entries()) assert.match(misused(answers[i]!), says, args.join(' '));
});

/** What `--help` says of a command and of all below it. */
async function helpOf(...command: string[]): Promise<string[]> {
  const { code, stdout, stderr } = await staplegate(...command, '--help');
  assert.deepEqual([code, stderr], [0, ''], command.join(' '));
  assert.ok(stdout.startsWith(`Usage: ${['staplegate', ...command].join(' ')} `), stdout);
  const listed = /^Commands:\n((?: .*\n)+)/m.exec(stdout)?.[1] ?? '';
  const names = Array.from(listed.matchAll(/^ {2}([a-z][a-z-]*)/gm), ([, name = '']) => name).filter((name) => name !== 'help');
  return [stdout, ...(await Promise.all(names.map((name) => helpOf(...command, name)))).flat()];
}

test('--help of every command exits 0, and together they list every option', async () => {
  const texts = await helpOf();
  assert.ok(['run', 'check', 'status', 'demo'].every((name) => texts.some((text) => text.startsWith(`Usage: staplegate ${name} `))));
  const source = await readFile(new URL('../src/main.ts', import.meta.url), 'utf8');
  const flags = Array.from(source.matchAll(/ption\(\s*'((?:-\w, )?--[^']+)'/g), ([, flag = '']) => flag);
  assert.ok(flags.length >= 9, flags.join('\n'));
  for (const flag of flags)
    assert.ok(
      texts.some((text) => text.includes(`\n  ${flag} `)),
      flag,
    );
});

test('--version is that of the package', async () => {
  for (const flag of ['--version', '-V']) {
    const { code, stdout, stderr } = await staplegate(flag);
    assert.deepEqual([code, stdout, stderr], [0, `${packageJson.version}\n`, '']);
  }
});

test('without a running program, status says so and exits 1', async () => {
  await using folder = await temporaryFolder();
  const file = folder.file('config.yaml');
  const host = { server_name: 'a.test', backends: ['http://127.0.0.1:9'] };
  await writeFile(file, stringify({ listen: [{ address: '127.0.0.1:0', protocol: 'http' }], state_dir: 'state', virtual_hosts: [host] }));
  const { code, stdout, stderr } = await staplegate('status', '--config', file);
  assert.deepEqual([code, stdout], [1, '']);
  assert.equal(stderr, `staplegate: no running Staplegate with state_dir ${folder.path}/state: nothing answers there\n`);
});
