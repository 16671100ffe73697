import { z } from 'zod';
import { isOptional, unwrap, wordFor } from './keys.ts';
import type { Spelling } from './notation.ts';
import { schema } from './schema.ts';

/** The part of JSON Schema 2020-12 that the configuration needs. */
export interface JsonSchema {
  $ref?: string;
  description?: string;
  default?: unknown;
  type?: string | string[];
  enum?: string[];
  pattern?: string;
  items?: JsonSchema;
  minItems?: number;
  properties?: Record<string, JsonSchema>;
  required?: string[];
  /** `false`, or the type of every member of a map whose names are the administrator's. */
  additionalProperties?: false | JsonSchema;
}

export interface EditorSchema extends JsonSchema {
  $schema: string;
  title: string;
  $defs: Record<string, JsonSchema>;
}

/** The schema as editors read it, to complete and check keys while one types. */
export function editorSchema(): EditorSchema {
  const $defs: Record<string, JsonSchema> = {};
  const root = jsonSchema(schema, $defs);
  return { $schema: 'https://json-schema.org/draft/2020-12/schema', title: 'Staplegate configuration', ...root, $defs };
}

function jsonSchema(type: z.core.$ZodType, $defs: Record<string, JsonSchema>): JsonSchema {
  const description = z.globalRegistry.get(type)?.description;
  const inner = unwrap(type);
  const result: JsonSchema = { ...(description !== undefined && { description }), ...bare(inner, $defs), ...orWord(type) };
  const standard = type instanceof z.ZodDefault || type instanceof z.ZodPrefault ? type.def.defaultValue : undefined;
  return standard === undefined || inner instanceof z.ZodObject ? result : { ...result, default: standard };
}

/** `pattern` is about strings, `properties` about objects: they stand side by side (JSON Schema 2020-12, Validation, 6). */
function orWord(type: z.core.$ZodType): Pick<JsonSchema, 'type' | 'pattern'> {
  const word = wordFor(type);
  return word === undefined ? {} : { type: ['object', 'null', 'string'], pattern: `^${word}$` };
}

function bare(type: z.core.$ZodType, $defs: Record<string, JsonSchema>): JsonSchema {
  const spelling = z.globalRegistry.get(type)?.spelling;
  if (spelling !== undefined) return notation(spelling, $defs);
  if (type instanceof z.ZodBoolean) return { type: 'boolean' };
  if (type instanceof z.ZodEnum) return { enum: type.options.map(String) };
  if (type instanceof z.ZodArray) {
    const atLeastOne = !type.safeParse([]).success;
    return { type: 'array', ...(atLeastOne && { minItems: 1 }), items: jsonSchema(type.element, $defs) };
  }
  if (type instanceof z.ZodRecord) return { type: 'object', additionalProperties: jsonSchema(type.valueType, $defs) };
  if (!(type instanceof z.ZodObject)) throw new TypeError(`no JSON Schema for a ${type._zod.def.type}`);
  const entries = Object.entries<z.core.$ZodType>(type.shape);
  return {
    // `tls:` with nothing after it is an empty section.
    type: entries.every(([, value]) => isOptional(value)) ? ['object', 'null'] : 'object',
    properties: Object.fromEntries(entries.map(([key, value]) => [key, jsonSchema(value, $defs)])),
    required: entries.filter(([, value]) => !isOptional(value)).map(([key]) => key),
    additionalProperties: false,
  };
}

function notation({ name, expected, pattern, numeric }: Spelling, $defs: Record<string, JsonSchema>): JsonSchema {
  $defs[name] = { description: expected, type: numeric ? ['string', 'integer', ...(numeric === 'decimal' ? ['number'] : [])] : 'string', pattern };
  return { $ref: `#/$defs/${name}` };
}

/** The reference in Markdown: `introduction`, then every key with its full path, type, default and meaning. */
export function referencePage(introduction: string): string {
  const { $defs, ...root } = editorSchema();
  const notations = Object.entries($defs).map(([name, { description }]) => `- **${noun(name)}**: ${description}`);
  return `${[introduction.trim(), ...tables('', 'The keys of the whole server.', root, root), '## Notations', notations.join('\n')].join('\n\n')}\n`;
}

interface Key {
  path: string;
  value: JsonSchema;
  required: boolean;
}

/** One table for each map, then those of the maps below it. */
function tables(path: string, description: string, section: JsonSchema, root: JsonSchema): string[] {
  const keys = Object.entries(section.properties ?? {}).map(([key, value]): Key => ({
    path: path === '' ? key : `${path}.${key}`,
    value,
    required: section.required?.includes(key) ?? false,
  }));
  const rows = keys.map((key) => `| \`${key.path}\` | ${typeText(key.path, key.value)} | ${defaultText(key, root)} | ${key.value.description ?? ''} |`);
  const below = keys.flatMap(({ path, value }) => {
    const map = value.items ?? value;
    return map.properties === undefined ? [] : tables(value.items === undefined ? path : `${path}[]`, value.description ?? '', map, root);
  });
  return [
    `## ${path === '' ? 'Top level' : path}`,
    description,
    ['| Key | Type | Default | Meaning |', '| --- | --- | --- | --- |', ...rows].join('\n'),
    ...below,
  ];
}

function typeText(path: string, value: JsonSchema): string {
  if (value.items !== undefined) return `list: ${typeText(`${path}[]`, value.items)}`;
  if (value.additionalProperties) return `map of names: ${typeText(path, value.additionalProperties)}`;
  if (value.properties !== undefined) {
    const map = `[map](#${path.replaceAll(/[^a-z_]/g, '')})`;
    return value.pattern === undefined ? map : `\`${value.pattern.slice(1, -1)}\`, ${map}`;
  }
  if (value.enum !== undefined) return value.enum.map((option) => `\`${option}\``).join(', ');
  return value.$ref === undefined ? '`true`, `false`' : `[${noun(value.$ref.slice('#/$defs/'.length))}](#notations)`;
}

function defaultText({ path, value, required }: Key, root: JsonSchema): string {
  if (required) return 'required';
  if (value.default !== undefined) return `\`${typeof value.default === 'string' ? value.default : JSON.stringify(value.default)}\``;
  if (value.properties !== undefined) return '';
  // A virtual host inherits the sections that it has in common with the top level.
  const inherited = path.replace(/^virtual_hosts\[\]\./, '');
  const above = inherited.split('.').reduce<JsonSchema | undefined>((section, key) => section?.properties?.[key], root);
  return inherited !== path && above !== undefined ? `as \`${inherited}\`` : 'not set';
}

function noun(name: string): string {
  return name.replaceAll('_', ' ');
}
