import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import test from 'node:test';
import { fileURLToPath } from 'node:url';
import { errorTables } from '../scripts/reference.ts';
import { sectionsOf } from '../src/config/keys.ts';
import { editorSchema } from '../src/config/reference.ts';
import { schema } from '../src/config/schema.ts';
import { Alert } from '../src/tls/alert.ts';
import { fileLinks } from './support/markdown.ts';

/** docs/tls.md against the code; what it says of suites, groups and client certificates is measured in e2e-tls-policy and e2e-client-certificates. */

const docs = fileURLToPath(new URL('../docs/', import.meta.url));
const text = readFileSync(`${docs}tls.md`, 'utf8');
const words = [...text.matchAll(/`([^`\n]+)`/g)].map(([, word]) => word!);

/** `tls.profile`, `tls.client_auth.mode`, … */
const settings = [...sectionsOf(schema)].flatMap(([section, keys]) => (/^tls\b/.test(section) ? keys.map((key) => `${section}.${key}`) : []));

test('docs/tls.md explains every setting of tls, and names no other', () => {
  const named = new Set(words.flatMap((word) => /^tls\.[a-z_.]+/.exec(word)?.[0] ?? []));
  assert.deepEqual(
    [...named].filter((name) => !settings.includes(name)),
    [],
  );
  assert.deepEqual(
    settings.filter((name) => name !== 'tls.client_auth' && !named.has(name)),
    [],
  );
});

test('docs/tls.md has every value of client_auth.forward', () => {
  const forward = editorSchema().properties?.['tls']?.properties?.['client_auth']?.properties?.['forward']?.additionalProperties;
  const values = (forward || {}).enum ?? [];
  assert.ok(values.length > 10);
  const rows = new Set([...text.matchAll(/^\| (`[a-z0-9_`, ]+`) \|/gm)].flatMap(([, cell]) => cell!.replaceAll('`', '').split(', ')));
  assert.deepEqual(
    values.filter((value) => !rows.has(value)),
    [],
  );
});

test('the alerts and codes of its table of refusals exist', () => {
  const [, table = ''] = /^## What is refused\n([^]*?)^## /m.exec(text) ?? [];
  const codes = new Set(errorTables.flatMap(([, rows]) => rows.map(([code]) => code)));
  const ours = new Set(Object.keys(Alert).map((name) => name.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)));
  // Sent by the TLS library.
  for (const alert of ['no_application_protocol', 'certificate_required', 'no_renegotiation']) ours.add(alert);
  const rows = [...table.matchAll(/^\|(?!---)(.*?)\|(.*?)\|(.*?)\|$/gm)].slice(1);
  assert.ok(rows.length > 10);
  for (const [, , client, code] of rows) {
    for (const [, alert] of client!.matchAll(/`([a-z_]+)`/g)) assert.ok(ours.has(alert!), alert);
    for (const [, name] of code!.matchAll(/`([a-z_]+)`/g)) assert.ok(codes.has(name!), name);
  }
  for (const file of fileLinks(text)) assert.ok(existsSync(path.join(docs, file)), file);
});
