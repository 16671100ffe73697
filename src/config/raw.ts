/** Values as they stand in the file, of any type. */
export type Raw = Record<string, unknown>;

/** A map; empty when the value is something else. */
export function map(value: unknown): Raw {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Raw) : {};
}

/** A list; empty when the value is something else. */
export function list(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}
