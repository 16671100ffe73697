import { field, trimmed, type Field } from '../proxy/headers.ts';
import type { ProxyError } from '../proxy/proxy-error.ts';
import { MAX_FIELDS } from '../proxy/request-head.ts';

/** Makes the error that belongs to the sender: a client's fault has other codes than a backend's. */
export type Refuse = (code: 'bad_request' | 'bad_field' | 'head_too_large', cause: string) => ProxyError;

/** RFC 9112, 5: a token, the colon directly behind it, a value (RFC 9110, 5.5), CRLF. */
const FIELD_LINE = /[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*\r\n/y;

/**
 * Field lines and the empty line behind them → fields, values without the blanks around them.
 * @param text latin1, each character a byte; read from `at` to its end, which must be an empty line
 * @throws what `refuse` makes: bad_field for a malformed line (a folded one is), head_too_large beyond 100 fields
 */
export function scanFields(text: string, at: number, refuse: Refuse): Field[] {
  const fields: Field[] = [];
  const emptyLine = text.length - 2;
  let begin = at;
  while (begin < emptyLine) {
    FIELD_LINE.lastIndex = begin;
    if (!FIELD_LINE.test(text)) throw refuse('bad_field', `malformed field line ${lineForLog(text.slice(begin))}`);
    if (fields.length === MAX_FIELDS) throw refuse('head_too_large', `more than ${MAX_FIELDS} fields`);
    const next = FIELD_LINE.lastIndex;
    const colon = text.indexOf(':', begin);
    fields.push(field(text.slice(begin, colon), trimmed(text, colon + 1, next - 2)));
    begin = next;
  }
  refuseDisguised(text, at, refuse);
  return fields;
}

/** A tab beside a length or a coding is allowed (RFC 9110, 5.6.3), sent by nobody, and read differently: it hides `chunked` from some readers. */
export function refuseDisguised(text: string, at: number, refuse: Refuse): void {
  if (text.includes('\t', at) && /^(?:content-length|transfer-encoding):.*\t/im.test(text)) throw refuse('bad_field', 'a tab in a framing field');
}

/** How a line begins, without its value, which may be a secret. */
export function lineForLog(line: string): string {
  return JSON.stringify(/^[^:\r\n]{0,60}/.exec(line)?.[0]);
}
