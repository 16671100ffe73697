import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import test from 'node:test';
import { parse } from 'yaml';
import { sectionsOf } from '../src/config/keys.ts';
import { supervisorCodes } from '../src/codes.ts';
import { proxyErrors } from '../src/proxy/proxy-error.ts';
import { schema } from '../src/config/schema.ts';
import { blocks } from './support/markdown.ts';
import { configOf } from './support/config.ts';

/** docs/forwarding.md against the code. What it says of messages is measured by the tests of the engines. */

const text = readFileSync(new URL('../docs/forwarding.md', import.meta.url), 'utf8');
const words = [...text.matchAll(/`([^`\n]+)`/g)].map(([, word]) => word!);
const sections = sectionsOf(schema);
const { timeouts, virtualHosts } = configOf({ backends: ['http://127.0.0.1'] });
const [route] = virtualHosts[0]!.routes;

/** `10 s`, `1 m` → milliseconds. */
function milliseconds(written: string): number {
  const [, number, unit = ''] = /^(\d+) ([smh])$/.exec(written) ?? [];
  return Number(number) * { s: 1_000, m: 60_000, h: 3_600_000 }[unit]!;
}

test('every code that a client or the log can get is on the page, with its status', () => {
  const rows = new Map([...text.matchAll(/^\| `([a-z_]+)` \| (\d{3}) \|/gm)].map(([, code, status]) => [code!, Number(status)]));
  const inTimes = new Map([...text.matchAll(/\| (\d{3}) `([a-z_]+)` \|/g)].map(([, status, code]) => [code!, Number(status)]));
  for (const [code, [status]] of Object.entries(proxyErrors)) {
    if (code === 'response_stalled') assert.ok(words.includes(code), 'log only: its answer has begun');
    else assert.equal(rows.get(code) ?? inTimes.get(code), status, code);
  }
  for (const code of [...rows.keys(), ...inTimes.keys()]) assert.ok(code in proxyErrors, code);
});

test('the table of times has every timeout, with its default', () => {
  const rows = new Map([...text.matchAll(/^\| `timeouts\.([a-z_]+)` \| ([^|]+) \|/gm)].map(([, key, value]) => [key!, milliseconds(value!)]));
  const defaults = Object.entries(timeouts).map(([key, value]): [string, number] => [key.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`), value]);
  assert.deepEqual(new Map([...rows].toSorted()), new Map(defaults.toSorted()));
});

test('settings of routes are on the page, with their defaults', () => {
  const keys = [...(sections.get('virtual_hosts[].routes[]') ?? []), ...(sections.get('virtual_hosts[].routes[].backend_tls') ?? [])];
  assert.ok(keys.length > 15);
  const named = new Set(words.map((word) => word.replace(/:.*$/, '')));
  assert.deepEqual(
    keys.filter((key) => !named.has(key)),
    [],
  );
  assert.ok(text.includes(`| \`max_queue\` | ${route?.maxQueue} |`));
  assert.ok(text.includes('| `max_connections` | no limit |') && route?.maxConnections === undefined);
  assert.ok(text.includes(`| \`verify\` | \`${route?.backendTls.verify}\` |`));
  assert.ok(text.includes(`| \`min_version\` | \`${route?.backendTls.minVersion}\` |`));
  assert.ok(text.includes('`max_buffered_body`, 1 MB unless set') && route?.maxBufferedBody === 1024 ** 2);
});

test('the settings and codes that the page names exist', () => {
  const settings = new Set([...sections].flatMap(([section, keys]) => keys.map((key) => `${section}.${key}`)));
  for (const word of words.filter((word) => /^(?:timeouts|tls|log|limits)\.[a-z_.]+$/.test(word))) assert.ok(settings.has(word), word);
  assert.ok(words.includes('backend_tls_file') && 'backend_tls_file' in supervisorCodes);
});

test('its example is a configuration', () => {
  const [example] = blocks(text).filter(({ language }) => language === 'yaml');
  const { routes } = parse(example!.lines.join('\n')) as { routes: object[] };
  assert.equal(configOf({ routes }).virtualHosts[0]?.routes[0]?.backendTls.serverName, 'app.internal');
});
