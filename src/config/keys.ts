import { z } from 'zod';

/** The type of a key that is present: without its default, without being optional, and without the word that may stand in a section's place. */
export function unwrap(type: z.core.$ZodType): z.core.$ZodType {
  const known = unwrapped.get(type) ?? inner(type);
  unwrapped.set(type, known);
  return known;
}

/** It is asked for every value of a file. */
const unwrapped = new WeakMap<z.core.$ZodType, z.core.$ZodType>();

function inner(type: z.core.$ZodType): z.core.$ZodType {
  if (type instanceof z.ZodOptional || type instanceof z.ZodDefault || type instanceof z.ZodPrefault) return inner(type.unwrap());
  if (type instanceof z.ZodUnion) return type.options.find((option) => option instanceof z.ZodObject) ?? type;
  return type;
}

type Overrides<T> = { [K in keyof T]?: T[K] extends Record<string, unknown> ? Overridden<T[K]> : T[K] };
/** A map with names of the administrator's own choice is overridden as a whole. */
type Overridden<T> = string extends keyof T ? T : Overrides<T>;

/** A section without its defaults: what one virtual host says differently. (`partial()` would keep them, and they would mask the top level.) */
export function overrides<Shape extends z.ZodRawShape>(section: z.ZodObject<Shape, z.core.$strict>) {
  const shape: Record<string, z.ZodType> = {};
  for (const [key, wrapped] of Object.entries<z.core.$ZodType>(section.shape)) {
    const type = unwrap(wrapped);
    const bare: z.ZodType = type instanceof z.ZodObject ? overrides(type) : z.optional(type);
    shape[key] = bare.meta({ ...z.globalRegistry.get(wrapped) });
  }
  return z.strictObject(shape).prefault({}) as unknown as z.ZodPrefault<z.ZodType<Overrides<z.output<typeof section>>>>;
}

/** A section in whose place one word may stand. */
export function orWord<Word extends string, Section extends z.ZodType>(word: Word, section: z.ZodPrefault<Section>) {
  return z.union([z.literal(word), section.unwrap()], { error: `must be ${word}, or a map of keys` }).prefault({} as never);
}

/** The word that may stand in the place of a section, if any. */
export function wordFor(type: z.core.$ZodType): string | undefined {
  if (type instanceof z.ZodPrefault) return wordFor(type.unwrap());
  const word = type instanceof z.ZodUnion ? type.options.find((option) => option instanceof z.ZodLiteral) : undefined;
  return word && String(word.value);
}

/** Whether a key of this type may be left out. */
export function isOptional(type: z.core.$ZodType): boolean {
  return z.safeParse(type, undefined).success;
}

/** Every map of the configuration, by its path (`''`, `tls`, `virtual_hosts[].routes[]`), with the names of its keys. */
export type Sections = Map<string, string[]>;

export function sectionsOf(type: z.core.$ZodType, path = '', sections: Sections = new Map()): Sections {
  const inner = unwrap(type);
  if (inner instanceof z.ZodArray) sectionsOf(inner.element, `${path}[]`, sections);
  if (inner instanceof z.ZodObject) {
    sections.set(path, Object.keys(inner.shape));
    for (const [key, value] of Object.entries<z.core.$ZodType>(inner.shape)) sectionsOf(value, path === '' ? key : `${path}.${key}`, sections);
  }
  return sections;
}
