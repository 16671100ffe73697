#!/usr/bin/env node
import { Command, InvalidArgumentError } from 'commander';
import type { DemoOptions } from './commands/demo.ts';
import { addOcspCommands } from './commands/ocsp/command.ts';
import { description, version } from './version.ts';

/** Command line: each command loads its own file only. Exit codes: 0 yes, 1 no, 2 wrong usage. */

const program = new Command('staplegate')
  .description(description)
  .version(version)
  .showHelpAfterError('(see staplegate --help)')
  .exitOverride(({ exitCode }) => process.exit(exitCode === 0 ? 0 : 2));

function port(text: string): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || value < 1 || value > 65_535) throw new InvalidArgumentError('It must be a port from 1 to 65535.');
  return value;
}

const defaultConfig = '/etc/staplegate/config.yaml';

program
  .command('run')
  .description('serve until SIGTERM; SIGHUP reloads')
  .option('-c, --config <file>', 'configuration file', defaultConfig)
  .action(async ({ config }: { config: string }) => {
    const { run } = await import('./commands/run.ts');
    await run(config);
    process.exit(0);
  });

program
  .command('check')
  .description('load everything that a start loads, bind nothing, and say what is wrong')
  .option('-c, --config <file>', 'configuration file', defaultConfig)
  .action(async ({ config }: { config: string }) => {
    const { check } = await import('./commands/check.ts');
    const { lines, ok } = await check(config);
    console.log(lines.join('\n'));
    process.exitCode = ok ? 0 : 1;
  });

program
  .command('status')
  .description('ask the running Staplegate how its certificates and staples are; exits 1 when something needs attention')
  .option('-c, --config <file>', 'configuration file', defaultConfig)
  .option('--json', 'everything, as JSON')
  .action(async ({ config, json = false }: { config: string; json?: boolean }) => {
    const { status } = await import('./commands/status.ts');
    const { text, ok } = await status(config, json);
    console.log(text);
    process.exitCode = ok ? 0 : 1;
  });

addOcspCommands(program, defaultConfig);

program
  .command('demo')
  .description('try it: a small authority, responder and backend on loopback, and the real program in front of them')
  .option('--https-port <port>', 'port of https://localhost', port, 8443)
  .option('--http-port <port>', 'port of http://localhost, which redirects', port, 8080)
  .option('--responder-port <port>', 'port of the OCSP responder', port, 8444)
  .option('--backend-port <port>', 'port of the backend', port, 8081)
  .option('--state <folder>', 'where certificates and staples are kept', '.demo')
  .action(async (options: DemoOptions) => {
    const { demo } = await import('./commands/demo.ts');
    await demo(options);
    process.exit(0);
  });

try {
  await program.parseAsync();
} catch (error) {
  // A configuration error already begins with file:line:column, which editors jump to.
  const name = error instanceof Error ? error.name : '';
  console.error(`${name === 'ConfigError' ? '' : 'staplegate: '}${error instanceof Error ? error.message : String(error)}`);
  process.exit(1);
}
