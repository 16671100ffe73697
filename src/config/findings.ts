import type { z } from 'zod';
import { mostShown, quoted } from './config-error.ts';
import { sectionsOf } from './keys.ts';
import { nearest } from './nearest.ts';
import { schema } from './schema.ts';

export type Path = readonly (string | number)[];

/** A fault of one setting. `key` is an unknown key in the map at `path`. */
export interface Finding {
  path: Path;
  key?: string;
  message: string;
}

/** `['virtual_hosts', 0, 'tls']` → `virtual_hosts[0].tls` */
export function pathText(path: Path): string {
  return path.reduce<string>((text, step) => (typeof step === 'number' ? `${text}[${step}]` : text === '' ? step : `${text}.${step}`), '');
}

/** What the schema says against `raw`, in an administrator's words. */
export function explain(issues: readonly z.core.$ZodIssue[], raw: unknown): Finding[] {
  return issues.flatMap((issue) => {
    const path = issue.path as (string | number)[];
    if (issue.code === 'unrecognized_keys')
      return issue.keys.slice(0, mostShown).map((key) => ({ path, key, message: `unknown key ${quoted(key)}${hint(key, path)}` }));
    const meant = issue.code === 'invalid_union' ? issue.errors.find((option) => option.every(isInside)) : undefined;
    if (meant)
      return explain(
        meant.map((inner) => ({ ...inner, path: [...path, ...inner.path] })),
        raw,
      );
    return [{ path, message: wording(mustBe(issue), valueAt(raw, path)) }];
  });
}

/** A fault of something in a section: the value is a section, and not the word that could stand in its place. */
function isInside(issue: z.core.$ZodIssue): boolean {
  return issue.path.length > 0 || issue.code === 'unrecognized_keys';
}

function valueAt(raw: unknown, path: Path): unknown {
  return path.reduce<unknown>((value, step) => (value as Record<string | number, unknown> | undefined)?.[step], raw);
}

const kinds: Record<string, string> = { object: 'a map of keys', record: 'a map of names', array: 'a list', boolean: 'true or false' };

function mustBe(issue: z.core.$ZodIssue): string {
  if (issue.code === 'custom' || issue.code === 'invalid_union') return issue.message;
  if (issue.code === 'invalid_type') return `must be ${kinds[issue.expected] ?? 'text'}`;
  if (issue.code === 'invalid_value') return `must be ${issue.values.length > 1 ? 'one of ' : ''}${issue.values.join(', ')}`;
  if (issue.code === 'too_small') return 'must have at least one item';
  return 'is not valid';
}

function wording(must: string, value: unknown): string {
  if (value === undefined) return 'is required';
  if (value === null) return `has no value; ${must}`;
  if (value === '') return `${must}; it is empty`;
  if (Array.isArray(value)) return value.length === 0 ? must : `${must}, not a list`;
  if (typeof value === 'object') return `${must}, not a map of keys`;
  const scalar = value as string | number | boolean;
  const text = String(scalar);
  // A long value may be a private key pasted where its file name belongs; a URL may hold a password.
  return text.length > 40 || /:(?!\/\/).*@/.test(text) ? must : `${must}, not ${quoted(text)}`;
}

const sections = sectionsOf(schema);

/** What an unknown key may have been meant as: a known key here with almost the same name, or the same key elsewhere. */
function hint(key: string, path: Path): string {
  const here = pathText(path).replaceAll(/\[\d+\]/g, '[]');
  const similar = nearest(key, sections.get(here) ?? []);
  if (similar !== undefined) return `; did you mean \`${similar}\`?`;
  const places = [...sections].filter(([, keys]) => keys.includes(key)).map(([place]) => place);
  const place = places.find((candidate) => candidate.startsWith(here)) ?? places[0];
  if (place === undefined) return '';
  return place === '' ? '; it belongs at the top level' : `; it belongs in \`${place}\``;
}
