import { STATUS_CODES } from 'node:http';
import type { AnswerHead } from '../proxy/engine.ts';
import { TOKEN, tokensOf, valuesOf, type Field } from '../proxy/headers.ts';
import { ProxyError } from '../proxy/proxy-error.ts';

const UNSENDABLE = /[^\t\x20-\x7e\x80-\xff]/;

/** Whether a field is well-formed. */
export function isSendable({ name, value }: Field): boolean {
  return TOKEN.test(name) && !UNSENDABLE.test(value);
}

function bad(cause: string): ProxyError {
  return new ProxyError('backend_bad_response', "the backend's answer is malformed", { cause });
}

/** An answer's head, and how its body and its connection go on. */
export interface ResponseHead extends AnswerHead {
  /** How the bytes of the body are delimited; `end` is by the end of the connection. */
  delimiter: AnswerHead['framing'] | 'end';
  persistent: boolean;
}

/**
 * Checks a backend's head as strictly as a client's (RFC 9112, 6.1–6.3): an answer whose end is uncertain is no answer.
 * @param method of the request
 * @param switching whether a 101 is welcome
 * @throws ProxyError backend_bad_response; the connection must be closed.
 */
export function parseResponseHead(
  { version, status, reason, fields }: { version: string; status: number; reason: string; fields: Field[] },
  method: string,
  switching: boolean,
): ResponseHead {
  if (version !== '1.0' && version !== '1.1') throw bad(`version HTTP/${version}`);
  if (status > 599 || (status < 200 && !(switching && status === 101))) throw bad(`status ${status}`);
  const lengths = valuesOf(fields, 'content-length');
  const codings = valuesOf(fields, 'transfer-encoding');
  const [length] = lengths;
  if (lengths.length > 1 || (length !== undefined && !(/^\d{1,16}$/.test(length) && Number.isSafeInteger(Number(length))))) throw bad('Content-Length');
  if (codings.length > 0) {
    if (length !== undefined) throw bad('Content-Length beside Transfer-Encoding');
    if (codings.length > 1 || codings[0]?.toLowerCase() !== 'chunked') throw bad('Transfer-Encoding is not exactly chunked');
    if (version === '1.0') throw bad('Transfer-Encoding on HTTP/1.0');
  }
  const bodyless = method === 'HEAD' || status === 101 || status === 204 || status === 304;
  const delimiter = bodyless ? 'none' : codings.length > 0 ? 'chunked' : length === undefined ? 'end' : Number(length);
  return {
    status,
    reason: UNSENDABLE.test(reason) ? (STATUS_CODES[status] ?? '') : reason,
    fields,
    delimiter,
    framing: delimiter === 'end' ? 'chunked' : delimiter,
    persistent: delimiter !== 'end' && isPersistent(version, fields),
  };
}

/** RFC 9112, 9.3. */
function isPersistent(version: '1.0' | '1.1', fields: readonly Field[]): boolean {
  const options = tokensOf(fields, 'connection');
  return !options.includes('close') && (version === '1.1' || options.includes('keep-alive'));
}
