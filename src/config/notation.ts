import { z } from 'zod';

declare module 'zod' {
  interface GlobalMeta {
    spelling?: Spelling;
  }
}

/** How a value is written. */
export interface Spelling {
  /** Name of the notation in docs/configuration.md and docs/config.schema.json. */
  name: string;
  /** Completes `must be …`. */
  expected: string;
  /** For editors: lets through a little more than the parser, never less. */
  pattern: string;
  /** YAML may read the text as a whole number, or as one with a point in it. */
  numeric?: boolean | 'decimal';
  /** A file name, which the loader resolves against the configuration file's folder. */
  path?: boolean;
}

/** A text value with its own notation: `parse` returns undefined when the text is not in it. */
export function notation<T extends {}>(spelling: Spelling, parse: (text: string) => T | undefined) {
  return z
    .union([z.string(), z.number()], { error: `must be ${spelling.expected}` })
    .transform((value, context): T => {
      const parsed = typeof value === 'number' && !spelling.numeric ? undefined : parse(String(value));
      if (parsed !== undefined) return parsed;
      context.addIssue({ code: 'custom', message: `must be ${spelling.expected}`, input: value });
      return z.NEVER;
    })
    .meta({ spelling });
}
