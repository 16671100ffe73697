import { type Command, InvalidArgumentError, Option } from 'commander';
import { ageLimit, deadline, duration } from '../../config/quantities.ts';
import { responder } from '../../config/values.ts';
import type { CertIdHash } from '../../ocsp/cert-id.ts';
import type { FetchOptions } from './fetch.ts';
import { type Host, parseHost } from './host.ts';
import { parseMoment } from './moment.ts';
import { isCoded, jsonText, type Outcome, printable } from './outcome.ts';
import type { ProbeOptions } from './probe.ts';
import type { RequestOptions } from './request.ts';
import type { VerifyOptions } from './verify.ts';

interface Json {
  json?: boolean;
}

/** Adds `ocsp` and its commands. Each loads its own file only, and prints what that found. */
export function addOcspCommands(program: Command, defaultConfig: string): void {
  const ocsp = program.command('ocsp').description('look at, ask for and put in OCSP responses');
  const command = (words: string, description: string): Command =>
    ocsp.command(words).description(description).option('--json', 'everything, as JSON').showHelpAfterError(`(see staplegate ocsp ${words} --help)`);
  const withConfig = (words: string, description: string): Command =>
    command(words, description).option('-c, --config <file>', 'configuration file', fileName, defaultConfig);

  command('verify', 'judge a response as the server would: exits 0 when it would be stapled')
    .requiredOption('--issuer <file>', 'certificate that issued the one in question, PEM or DER', fileName)
    .option('--cert <file>', 'the certificate in question, PEM or DER; without it the response must be about exactly one', fileName)
    .requiredOption('--response <file>', 'the response, DER or PEM; - for standard input', fileName)
    .option('--at <time>', 'judge at this time instead of now: ISO 8601 with Z or an offset, a date, seconds since the epoch, or YYYYMMDDHHMMSSZ', moment)
    .option('--max-age <duration>', 'as ocsp.max_age: refuse what is older than this; -1 for no limit', notation(ageLimit))
    .addOption(
      new Option('--no-next-update <duration>', 'as ocsp.no_next_update: how long a response without nextUpdate is usable; 0 refuses it')
        .argParser(notation(duration))
        .default(undefined),
    )
    .option('--clock-skew <duration>', 'as ocsp.clock_skew: how far in the future a response may come from', notation(duration))
    .option('--refuse-sha1', 'refuse signatures that use SHA-1')
    .action(async ({ json, nextUpdate, ...options }: Omit<VerifyOptions, 'noNextUpdate'> & { nextUpdate?: number | boolean } & Json) => {
      const { verify } = await import('./verify.ts');
      // Commander takes --no-… for the opposite of an option `nextUpdate`, and without it says true.
      await print(verify({ ...options, noNextUpdate: typeof nextUpdate === 'number' ? nextUpdate : undefined }), json);
    });

  command('inspect', 'show everything that a response or a request says')
    .argument('<file>', 'DER, PEM or base64; - for standard input', fileName)
    .action(async (file: string, { json }: Json) => {
      const { inspect } = await import('./inspect.ts');
      await print(inspect(file), json);
    });

  command('request', 'make the question to ask about a certificate')
    .requiredOption('--issuer <file>', 'certificate that issued the one in question, PEM or DER', fileName)
    .requiredOption('--cert <file>', 'the certificate in question, PEM or DER', fileName)
    .addOption(new Option('--hash <name>', 'hash that names the certificate').choices(['sha1', 'sha256'] satisfies CertIdHash[]).default('sha1'))
    .option('--nonce', 'with a random nonce')
    .option('--out <file>', 'write the DER there', fileName)
    .action(async ({ json, ...options }: RequestOptions & Json) => {
      const { request } = await import('./request.ts');
      await print(request(options), json);
    });

  command('fetch', 'ask the responder now, verify, and say what came')
    .requiredOption('--cert <file>', 'the certificate, PEM or DER, alone or with its chain', fileName)
    .option('--issuer <file>', 'certificate that issued it, where it is not found in the file or beside it', fileName)
    .option('--url <url>', 'responder to ask instead of the one that the certificate names', url)
    .option('--out <file>', 'write the response there (DER) if it passes', fileName)
    .option('--timeout <duration>', 'as ocsp.timeout', notation(deadline))
    .action(async ({ json, ...options }: FetchOptions & Json) => {
      const { fetch } = await import('./fetch.ts');
      await print(fetch(options), json);
    });

  command('uris', 'list the OCSP responders that the certificates of a server or of a file name')
    .argument('<target>', 'HOST[:PORT], or a file with certificates')
    .option('--servername <name>', 'name to ask for, if it is not that of the host')
    .action(async (target: string, { json, servername }: { servername?: string } & Json, self: Command) => {
      const { isFile, uris } = await import('./uris.ts');
      if (!isFile(target) && parseHost(target) === undefined) self.error(`error: ${target} is neither a file nor HOST[:PORT]`);
      await print(uris(target, { servername }), json);
    });

  command('probe', 'show what a client sees of a server: exits 0 when it staples a valid response that says good')
    .argument('<host>', 'HOST[:PORT] or [IPv6][:PORT]; the port is 443 unless it says otherwise', host)
    .option('--servername <name>', 'name to ask for, if it is not that of the host')
    .option('--cafile <file>', 'certificates to trust instead of the usual ones, PEM or DER', fileName)
    .action(async (target: Host, { json, ...options }: ProbeOptions & Json) => {
      const { probe } = await import('./probe.ts');
      await print(probe(target, options), json);
    });

  withConfig('status', 'show all staples, live or else as they are on disk: exits 1 when one needs attention').action(
    async ({ config, json }: { config: string } & Json) => {
      const { status } = await import('./status.ts');
      await print(status(config), json);
    },
  );

  withConfig('refresh', 'have the running Staplegate ask for newer responses now')
    .argument('<name>', 'a virtual host, a name in a certificate, a fingerprint, or all')
    .action(async (name: string, { config, json }: { config: string } & Json) => {
      const { refresh } = await import('./refresh.ts');
      await print(refresh(config, name), json);
    });

  withConfig('import', 'put in a response got by hand, for hosts with no way out')
    .argument('<file>', 'DER, PEM or base64; - for standard input', fileName)
    .action(async (file: string, { config, json }: { config: string } & Json) => {
      const { importFile } = await import('./import.ts');
      await print(importFile(file, config), json);
    });
}

async function print(running: Promise<Outcome>, asJson = false): Promise<void> {
  process.stdout.on('error', ({ code, message }: NodeJS.ErrnoException) => {
    // Whoever reads may stop early, as `head` does.
    if (code === 'EPIPE') process.exit();
    console.error(printable(`staplegate: standard output cannot be written: ${message}`));
    process.exit(1);
  });
  try {
    const { ok, lines, json } = await running;
    process.exitCode = ok ? 0 : 1;
    console.log(asJson ? jsonText(json) : lines.map(printable).join('\n'));
  } catch (error) {
    // What nobody foresaw is for main.ts, and so are faults of the configuration, whose lines editors jump to.
    if (!isCoded(error) || (error.name === 'ConfigError' && !asJson)) throw error;
    const { code, message } = error;
    process.exitCode = 1;
    if (asJson) console.log(jsonText({ result: 'failed', code, message }));
    else console.error(printable(`staplegate: ${code}: ${message}`));
  }
}

/** A value as the configuration spells it. */
function notation<T>(type: { safeParse(text: string): { success: true; data: T } | { success: false; error: { issues: { message: string }[] } } }) {
  return (text: string): T => {
    const parsed = type.safeParse(text);
    if (parsed.success) return parsed.data;
    throw new InvalidArgumentError(`It ${parsed.error.issues[0]?.message ?? 'is not valid'}.`);
  };
}

/** A shell variable that is not set, in quotation marks, is an empty name. */
function fileName(text: string): string {
  if (text !== '') return text;
  throw new InvalidArgumentError('It must be the name of a file.');
}

function url(text: string): string {
  const parsed = notation(responder)(text);
  if (parsed !== 'none') return parsed;
  throw new InvalidArgumentError('It must be a URL.');
}

function moment(text: string): number {
  const time = parseMoment(text);
  if (time !== undefined) return time;
  throw new InvalidArgumentError('It must be a time such as 2026-11-22T12:00:00Z, 2026-11-22, 1795348800 or 20261122120000Z.');
}

function host(text: string): Host {
  const parsed = parseHost(text);
  if (parsed !== undefined) return parsed;
  throw new InvalidArgumentError('It must be HOST, HOST:PORT or [IPv6]:PORT.');
}
