import { field, trimmed, type Field } from '../proxy/headers.ts';
import { MAX_FIELDS } from '../proxy/request-head.ts';
import { lineForLog, refuseDisguised, type Refuse } from './field-lines.ts';

const FIELD_LINE = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*$/;
const FOLD = /^[\t ][\t\x20-\x7e\x80-\xff]*$/;

/**
 * As `scanFields`, for the answers of old applications: a line may end with a bare LF, a folded value is joined with blanks
 * (RFC 9112, 5.2), and a malformed line is dropped, together with what is folded behind it.
 * @throws what `refuse` makes: bad_field for a malformed or folded line that another reader could take for framing
 */
export function scanLenientFields(text: string, at: number, refuse: Refuse): Field[] {
  const lines: { name: string; parts: string[] }[] = [];
  // What a folded line continues.
  let open: (typeof lines)[number] | undefined;
  for (const rawLine of text.slice(at).split('\n')) {
    const line = rawLine.replace(/\r$/, '');
    if (line === '') break;
    if (FIELD_LINE.test(line)) {
      const colon = line.indexOf(':');
      open = { name: line.slice(0, colon), parts: [trimmed(line, colon + 1)] };
      if (lines.push(open) > MAX_FIELDS) throw refuse('head_too_large', `more than ${MAX_FIELDS} fields`);
      continue;
    }
    const isFold = line.startsWith(' ') || line.startsWith('\t');
    if (mayFrame(line) || (isFold && open && mayFrame(open.name))) throw refuse('bad_field', `malformed line about framing ${lineForLog(line)}`);
    if (isFold && FOLD.test(line)) open?.parts.push(trimmed(line));
    else {
      if (isFold && open) lines.pop();
      open = undefined;
    }
  }
  refuseDisguised(text, at, refuse);
  return lines.map(({ name, parts }) => field(name, parts.filter((part) => part !== '').join(' ')));
}

/** Whether some reader could take a line for Content-Length or Transfer-Encoding, whatever stands between the letters. */
export function mayFrame(line: string): boolean {
  return /contentlength|transferencoding/.test(line.toLowerCase().replaceAll(/[^a-z]/g, ''));
}
