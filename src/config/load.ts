import { isUtf8 } from 'node:buffer';
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { z } from 'zod';
import { camel } from './camel-case.ts';
import { check } from './checks.ts';
import { ConfigError } from './config-error.ts';
import { explain, pathText } from './findings.ts';
import type { Finding } from './findings.ts';
import { unwrap } from './keys.ts';
import { route, schema } from './schema.ts';
import type { Config, Parsed, Route } from './schema.ts';
import { readYaml } from './yaml-document.ts';
import type { Located } from './yaml-document.ts';

/** Bytes: ten thousand virtual hosts, read in about a second. */
const largest = 8 * 1024 ** 2;

const reasons: Record<string, string> = {
  ENOENT: 'there is no such file',
  EACCES: 'permission denied',
  ENOTDIR: 'a part of its path is not a folder',
  ELOOP: 'its symbolic links go in a circle',
};

/** Reads and parses a configuration file. Throws ConfigError, with `file` as it is given here. */
export async function loadConfig(file: string): Promise<Config> {
  const bytes = await read(file);
  const text = bytes.toString('utf8');
  if (!isUtf8(bytes)) throw notText(file, text, text.indexOf('\ufffd'));
  return parseConfig(text, file);
}

async function read(file: string): Promise<Buffer> {
  let bytes: Buffer;
  try {
    // Opening a FIFO would wait for a writer.
    await using handle = await open(file, constants.O_RDONLY | constants.O_NONBLOCK);
    if (!(await handle.stat()).isFile()) throw new ConfigError(file, 'cannot be read: it is not a regular file');
    bytes = await buffer(handle.createReadStream({ end: largest, autoClose: false }));
  } catch (error) {
    if (error instanceof ConfigError) throw error;
    const code = (error as NodeJS.ErrnoException).code ?? 'unknown error';
    throw new ConfigError(file, `cannot be read: ${reasons[code] ?? code}`);
  }
  if (bytes.length > largest) throw new ConfigError(file, `is larger than ${largest / 1024 ** 2} MiB, the most that is read`);
  return bytes;
}

/**
 * Parses the text of a configuration file; relative paths become absolute against the folder of `file`.
 * Throws ConfigError (`config_invalid`) with everything that is wrong.
 */
export function parseConfig(text: string, file: string): Config {
  const plain = text.replace(/^\ufeff/, '');
  if (plain.includes('\0')) throw notText(file, plain, plain.indexOf('\0'));
  const document = readYaml(plain);
  const { root, position } = document;
  const problems = document.problems.map(({ offset, message }) => ({ ...position(offset), path: '', message }));
  if (root === undefined) throw new ConfigError(file, problems);

  const raw = withEmptySections(schema, root.value);
  const { data, error } = schema.safeParse(raw);
  const reported = new Set<string>();
  for (const finding of [...explain(error?.issues ?? [], raw), ...check(raw)]) {
    const { offset, broken } = place(root, finding);
    const path = pathText(finding.path);
    // A setting is reported once: by the schema, or for the first virtual host that inherits it.
    const setting = `${offset} ${path}`;
    if (!broken && !reported.has(setting)) problems.push({ ...position(offset), path, message: finding.message });
    reported.add(setting);
  }
  if (problems.length > 0 || data === undefined) throw new ConfigError(file, problems);
  const absolute = resolve(file);
  return inForce(camelized(schema, data, dirname(absolute)) as Parsed, absolute);
}

function notText(file: string, text: string, offset: number): ConfigError {
  const before = text.slice(0, offset).split('\n');
  return new ConfigError(file, [{ line: before.length, column: (before.at(-1) ?? '').length + 1, path: '', message: 'not a text file in UTF-8' }]);
}

/** `tls:` with nothing after it is an empty section where every key has a default. */
function withEmptySections(type: z.core.$ZodType, value: unknown): unknown {
  const inner = unwrap(type);
  if (inner instanceof z.ZodArray && Array.isArray(value)) return value.map((item) => withEmptySections(inner.element, item));
  if (!(inner instanceof z.ZodObject)) return value;
  if (value === null && inner !== type) return {};
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, item]) => [key, Object.hasOwn(inner.shape, key) ? withEmptySections(inner.shape[key], item) : item]),
  );
}

/** Where a finding stands: its value; for a missing key the map that lacks it; for an unknown key the key itself. */
function place(root: Located, { path, key }: Finding): Located {
  let node = root;
  for (const step of path) {
    const member = node.members.get(step);
    if (member === undefined) return node;
    node = member;
  }
  const unknown = key === undefined ? undefined : node.members.get(key);
  return unknown === undefined ? node : { ...unknown, offset: unknown.keyOffset };
}

/** Keys in camelCase and file names absolute. The schema tells keys from values, which are left as they are. */
function camelized(type: z.core.$ZodType, value: unknown, folder: string): unknown {
  const inner = unwrap(type);
  if (inner instanceof z.ZodObject && typeof value === 'string') return value; // a word in the place of a section
  if (inner instanceof z.ZodArray) return (value as unknown[]).map((item) => camelized(inner.element, item, folder));
  if (inner instanceof z.ZodObject)
    return Object.fromEntries(Object.entries(value as object).map(([key, item]) => [camel(key), camelized(inner.shape[key], item, folder)]));
  return z.globalRegistry.get(inner)?.spelling?.path ? resolve(folder, value as string) : value;
}

const routeDefaults = camelized(route.omit({ backends: true }), route.omit({ backends: true }).parse({}), '/') as Omit<Route, 'backends'>;

/** Fills each virtual host with what it inherits from the top level. */
function inForce({ virtualHosts, ...top }: Parsed, file: string): Config {
  const { startupWait: _startupWait, keep: _keep, ...ocsp } = top.ocsp;
  const { ticketRotation: _ticketRotation, ...tls } = top.tls;
  return {
    ...top,
    file,
    virtualHosts: virtualHosts.map(({ backends, tls: said, ...host }) => {
      const passthrough = said === 'passthrough';
      const { clientAuth, ...own } = passthrough ? {} : said;
      return {
        ...host,
        passthrough,
        tls: overridden(tls, { ...own, ...(isEmpty(clientAuth) ? {} : { clientAuth: { ...tls.clientAuth, ...clientAuth } }) }),
        ocsp: overridden(ocsp, host.ocsp),
        routes: backends === undefined ? host.routes : [{ ...routeDefaults, backends }, ...host.routes],
      };
    }),
  };
}

/** A virtual host that says nothing of its own has the very object that it inherits: there may be ten thousand. */
function overridden<T extends object>(inherited: T, own: object): T {
  return isEmpty(own) ? inherited : { ...inherited, ...own };
}

function isEmpty(section: object = {}): boolean {
  return Object.keys(section).length === 0;
}
