import { field, trimmed, type Field } from '../proxy/headers.ts';
import type { ProxyError } from '../proxy/proxy-error.ts';
import { MAX_FIELDS } from '../proxy/request-head.ts';

/** Makes the error that belongs to the sender: a client's fault has other codes than a backend's. */
export type Refuse = (code: 'bad_request' | 'bad_field' | 'head_too_large', cause: string) => ProxyError;

/** RFC 9112, 5: a token, the colon directly behind it, a value (RFC 9110, 5.5), CRLF. */
const FIELD_LINE = /[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*\r\n/y;

/** What is worth keeping of a head, in bytes: it stays in memory as long as the connection. */
export const MAX_KNOWN = 4_096;

interface KnownLine {
  text: string;
  field: Field;
}

/**
 * Reads the field lines of one head after the other: senders repeat most of them word for word, and what has stood at the same
 * place before is recognised by comparing strings.
 */
export class FieldScanner {
  /** Of the head before. */
  readonly #lines: KnownLine[] = [];
  #fields: readonly Field[] | undefined;

  /**
   * Field lines and the empty line behind them → fields, values without the blanks around them.
   * @param text latin1, each character a byte; read from `at` to its end, which must be an empty line
   * @returns the same list as the last time if all lines are the same
   * @throws what `refuse` makes: bad_field for a malformed line (a folded one is), head_too_large beyond 100 fields
   */
  scan(text: string, at: number, refuse: Refuse): readonly Field[] {
    const isKept = text.length <= MAX_KNOWN;
    const lines = isKept ? this.#lines : [];
    const emptyLine = text.length - 2;
    let count = 0;
    for (let begin = at; begin < emptyLine; count += 1) {
      const known = lines[count];
      if (known !== undefined && text.slice(begin, begin + known.text.length) === known.text) {
        begin += known.text.length;
        continue;
      }
      const line = scanLine(text, begin, refuse);
      if (count === MAX_FIELDS) throw refuse('head_too_large', `more than ${MAX_FIELDS} fields`);
      lines[count] = line;
      if (isKept) this.#fields = undefined;
      begin += line.text.length;
    }
    if (count < lines.length) {
      lines.length = count;
      this.#fields = undefined;
    }
    if (!isKept) return lines.map(({ field }) => field);
    this.#fields ??= lines.map(({ field }) => field);
    return this.#fields;
  }
}

function scanLine(text: string, begin: number, refuse: Refuse): KnownLine {
  FIELD_LINE.lastIndex = begin;
  if (!FIELD_LINE.test(text)) throw refuse('bad_field', `malformed field line ${lineForLog(text.slice(begin))}`);
  const line = text.slice(begin, FIELD_LINE.lastIndex);
  refuseDisguised(line, 0, refuse);
  const colon = line.indexOf(':');
  const name = line.slice(0, colon);
  const value = trimmed(line, colon + 1, line.length - 2);
  const isPlain = line.length === name.length + value.length + 4 && line.startsWith(': ', colon);
  return { text: line, field: field(name, value, isPlain ? line : undefined) };
}

/** As `FieldScanner.scan`, for what comes once. */
export function scanFields(text: string, at: number, refuse: Refuse): readonly Field[] {
  return new FieldScanner().scan(text, at, refuse);
}

/** A tab beside a length or a coding is allowed (RFC 9110, 5.6.3), sent by nobody, and read differently: it hides `chunked` from some readers. */
export function refuseDisguised(text: string, at: number, refuse: Refuse): void {
  if (text.includes('\t', at) && /^(?:content-length|transfer-encoding):.*\t/im.test(text)) throw refuse('bad_field', 'a tab in a framing field');
}

/** How a line begins, without its value, which may be a secret. */
export function lineForLog(line: string): string {
  return JSON.stringify(/^[^:\r\n]{0,60}/.exec(line)?.[0]);
}
