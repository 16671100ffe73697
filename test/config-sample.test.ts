import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import test from 'node:test';
import { parse } from 'yaml';
import { sectionsOf } from '../src/config/keys.ts';
import { loadConfig, parseConfig } from '../src/config/load.ts';
import { editorSchema } from '../src/config/reference.ts';
import type { JsonSchema } from '../src/config/reference.ts';
import { schema } from '../src/config/schema.ts';
import { generated } from '../scripts/reference.ts';

const root = new URL('../', import.meta.url);
const file = new URL('config.yaml', root).pathname;
const sample = readFileSync(file, 'utf8');

/** The sample with its inactive settings (`#key: value`, without a space) switched on. */
const complete = sample.replaceAll(/^( *)#(?=\S)/gm, '$1');

/** `virtual_hosts[].tls`, … of every key that is written in a value. */
function writtenKeys(value: unknown, path = ''): string[] {
  if (Array.isArray(value)) return value.flatMap((item) => writtenKeys(item, `${path}[]`));
  if (typeof value !== 'object' || value === null) return [];
  return Object.entries(value).flatMap(([key, item]) => {
    const here = path === '' ? key : `${path}.${key}`;
    return [here, ...writtenKeys(item, here)];
  });
}

test('the sample is a configuration as it stands', async () => {
  const config = await loadConfig(file);
  assert.deepEqual(
    config.virtualHosts.map((host) => host.serverName),
    ['shop.example.org', 'intranet.example.org'],
  );
  assert.equal(config.virtualHosts[0]?.certificates[0]?.certificate, new URL('certs/shop/fullchain.pem', root).pathname);
});

test('the sample with every inactive setting switched on is a configuration', () => {
  const config = parseConfig(complete, file);
  assert.partialDeepStrictEqual(config.virtualHosts[1]?.tls.clientAuth, { mode: 'require', ca: new URL('certs/clients.pem', root).pathname });
});

test('the sample names every key of the schema', () => {
  const written = new Set(writtenKeys(parse(complete)));
  const known = [...sectionsOf(schema)].flatMap(([section, keys]) => keys.map((key) => (section === '' ? key : `${section}.${key}`)));
  // Virtual hosts have the same keys in tls and ocsp as the top level, where they are written.
  const missing = known.filter((key) => !written.has(key) && !written.has(key.replace('virtual_hosts[].', '')));
  assert.ok(known.length > 60);
  assert.deepEqual(missing, []);
});

test('an inactive setting shows its default, unless it has none', () => {
  // Examples, because there is no default or the default is empty.
  const examples =
    /^(certificatesDir|acmeChallengeDir|trustedProxies|virtualHosts|limits\.connectionsPerAddress|tls\.(minVersion|maxVersion|ciphers|groups|clientAuth\.(ca|depth|forward))|ocsp\.(responder|httpProxy))/;
  const leaves = (value: unknown, path = ''): [string, unknown][] =>
    typeof value === 'object' && value !== null
      ? Object.entries(value).flatMap(([key, item]) => leaves(item, path === '' ? key : `${path}.${key}`))
      : [[path, value]];
  const active = new Map(leaves(parseConfig(sample, file)));
  const different = leaves(parseConfig(complete, file)).filter(([path, value]) => !examples.test(path) && active.get(path) !== value);
  assert.deepEqual(different, []);
});

test('the reference page and the editor schema are what `npm run reference` writes', () => {
  for (const [path, text] of Object.entries(generated))
    assert.equal(readFileSync(new URL(path, root), 'utf8'), text, `${path} is stale: run npm run reference`);
});

test('the reference page has every key, with its default as it is written', () => {
  const page = generated['docs/configuration.md'] ?? '';
  for (const [section, keys] of sectionsOf(schema))
    for (const key of keys) assert.ok(page.includes(`| \`${section === '' ? key : `${section}.${key}`}\` |`), key);
  assert.match(page, /\| `ocsp\.timeout` \| \[deadline\]\(#notations\) \| `10s` \|/);
  assert.match(page, /\| `virtual_hosts\[\]\.ocsp\.timeout` \| .* \| as `ocsp\.timeout` \|/);
  assert.match(page, /\| `listen` \| .* \| required \|/);
});

/** The part of JSON Schema validation that the editor schema uses. */
function violations(value: unknown, schema: JsonSchema, path = ''): string[] {
  const { $defs } = editorSchema();
  const { $ref, ...own } = schema;
  const { type, enum: options, pattern, items, properties, required = [] } = { ...($ref === undefined ? {} : $defs[$ref.slice('#/$defs/'.length)]), ...own };
  const actual = value === null ? 'null' : Array.isArray(value) ? 'array' : Number.isInteger(value) ? 'integer' : typeof value;
  if (type !== undefined && ![type].flat().includes(actual)) return [`${path}: ${actual} instead of ${String(type)}`];
  if (options !== undefined && !options.includes(value as string)) return [`${path}: ${String(value)} is not an option`];
  if (pattern !== undefined && typeof value === 'string' && !new RegExp(pattern, 'u').test(value)) return [`${path}: ${value} does not match ${pattern}`];
  if (Array.isArray(value)) return value.flatMap((item, index) => violations(item, items ?? {}, `${path}[${index}]`));
  if (properties === undefined || typeof value !== 'object' || value === null) return [];
  const missing = required.filter((key) => !(key in value)).map((key) => `${path}.${key} is missing`);
  return [
    ...missing,
    ...Object.entries(value).flatMap(([key, item]) =>
      properties[key] === undefined ? [`${path}.${key} is unknown`] : violations(item, properties[key], `${path}.${key}`),
    ),
  ];
}

test('the editor schema accepts the sample and every default, and refuses a typo', () => {
  const editor = editorSchema();
  assert.deepEqual(violations(parse(sample), editor), []);
  assert.deepEqual(violations(parse(complete), editor), []);
  assert.deepEqual(violations({ ...parse(sample), tls: null, lisen: 1, workers: 'many' }, editor), [
    '.workers: many does not match ^(auto|[0-9]{1,3})$',
    '.lisen is unknown',
  ]);
  const defaults = (schema: JsonSchema): string[] => [
    ...(schema.default === undefined ? [] : violations(schema.default, schema, schema.description)),
    ...Object.values(schema.properties ?? {}).flatMap(defaults),
    ...(schema.items === undefined ? [] : defaults(schema.items)),
  ];
  assert.deepEqual(defaults(editor), []);
});
