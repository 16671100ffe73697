import { STATUS_CODES } from 'node:http';
import type { AnswerHead } from '../proxy/engine.ts';
import { ProxyError } from '../proxy/proxy-error.ts';
import type { HeaderField } from '../http2/header-field.ts';
import { MAX_FIELDS } from '../proxy/request-head.ts';
import { MAX_HEAD } from './head.ts';
import { parseResponseHead } from './response-head.ts';

/** What makes one answer's head differ from another's. */
interface Known {
  status: number;
  fields: readonly HeaderField[];
  method: string;
  isComplete: boolean;
}

/**
 * Makes heads of the answers on one connection to a backend (RFC 9113, 8.3.2). Applications repeat most of their heads, and a field that
 * is sent by its index is the same object again: what has been read once is recognised.
 */
export class Http2AnswerHeads {
  #known: (Known & { head: AnswerHead }) | undefined;

  /** @throws ProxyError backend_bad_response */
  read(said: Known): AnswerHead {
    if (this.#known && areSame(this.#known, said)) return this.#known.head;
    const head = headOf(said);
    this.#known = { ...said, head };
    return head;
  }
}

function headOf({ status, fields, method, isComplete }: Known): AnswerHead {
  if (fields.length > MAX_FIELDS) throw bad(`more than ${MAX_FIELDS} fields`);
  if (fields.reduce((size, { name, value }) => size + name.length + value.length + 4, 0) > MAX_HEAD) throw bad(`a head of more than ${MAX_HEAD} bytes`);
  const head = parseResponseHead({ version: '1.1', status, reason: STATUS_CODES[status] ?? '', fields }, method, false);
  if (!isComplete) return { ...head, mayHaveTrailers: true };
  if (head.framing === 'chunked') return { ...head, framing: 0 };
  if (head.framing !== 'none' && head.framing > 0) throw bad('a Content-Length without a body');
  return head;
}

function areSame(a: Known, b: Known): boolean {
  if (a.status !== b.status || a.isComplete !== b.isComplete || a.method !== b.method || a.fields.length !== b.fields.length) return false;
  for (let i = 0; i < a.fields.length; i += 1) {
    const one = a.fields[i]!;
    const other = b.fields[i]!;
    if (one !== other && (one.name !== other.name || one.value !== other.value || one.isSensitive !== other.isSensitive)) return false;
  }
  return true;
}

function bad(cause: string): ProxyError {
  return new ProxyError('backend_bad_response', "the backend's answer is malformed", { cause });
}
