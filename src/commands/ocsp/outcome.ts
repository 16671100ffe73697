import type { commandCodes } from '../../codes.ts';

/** What a command found, once for people and once for programs. */
export interface Outcome {
  /** The exit code: 0 when true, 1 when false. */
  ok: boolean;
  /** For people; the first line is the verdict. */
  lines: string[];
  /** For programs: the same, as plain data. */
  json: object;
}

/** Why a command could not do what was asked: the words are for people, the code is from docs/errors.md. */
export interface CodedError extends Error {
  code: string;
}

/** Whether an error is one that was foreseen, whose message can stand alone. */
export function isCoded(error: unknown): error is CodedError {
  return error instanceof Error && 'code' in error && typeof error.code === 'string';
}

/** A failure that belongs to the commands alone. */
export class CommandError extends Error {
  override readonly name = 'CommandError';
  readonly code: string;

  constructor(code: keyof typeof commandCodes | 'handshake_failed' | 'no_responder' | 'cache_not_writable', message: string) {
    super(message);
    this.code = code;
  }
}

type Scalar = string | number | boolean | null | undefined;
export type Labelled = { [label: string]: Outline };
export type Outline = Scalar | Outline[] | Labelled;

/** Longer runs of hexadecimal digits tell a person nothing; `--json` has them. */
const longestHex = 80;

/** Plain data as indented lines for people, labels in front; what is undefined or null is left out. */
export function outline(value: Labelled, indent = '  '): string[] {
  const entries = Object.entries(value).filter(([, item]) => item !== undefined && item !== null && !(Array.isArray(item) && item.length === 0));
  const width = Math.max(0, ...entries.map(([label, item]) => (isNested(item) ? 0 : label.length)));
  return entries.flatMap(([label, item]) => {
    if (isNested(item)) return (Array.isArray(item) ? item : [item]).flatMap((one) => [`${indent}${label}:`, ...outline(one as Labelled, `${indent}  `)]);
    return [`${indent}${label.padEnd(width)}  ${([item].flat() as Scalar[]).map(short).join(', ')}`];
  });
}

function isNested(item: Outline): boolean {
  return Array.isArray(item) ? item.some(isNested) : typeof item === 'object' && item !== null;
}

function short(item: Scalar): string {
  const text = String(item);
  return /^[0-9a-f]+$/.test(text) && text.length > longestHex ? `${text.slice(0, 32)}… (${text.length / 2} bytes)` : text;
}

const control = /[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g;

/** One line for a terminal: names in certificates are written by strangers, and control characters drive terminals. */
export function printable(line: string): string {
  return line.replace(control, (c) => `\\x${c.charCodeAt(0).toString(16).padStart(2, '0')}`);
}

/** JSON without any control character but the line feeds between its parts. */
export function jsonText(value: object): string {
  return JSON.stringify(value, undefined, 2).replace(/[\x7f-\x9f\u2028-\u202e\u2066-\u2069]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

export function isoTime(time: number): string {
  return new Date(time).toISOString().replace('.000Z', 'Z');
}
