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
