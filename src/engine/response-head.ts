import { STATUS_CODES } from 'node:http';
import type { AnswerHead } from '../proxy/engine.ts';
import { contentLength, FieldList, isPersistent, responseFields, TOKEN, tokensOf, valuesOf, type Field } from '../proxy/headers.ts';
import { ProxyError } from '../proxy/proxy-error.ts';

const TIMEOUT = /(?:^|[,\s])timeout=(\d{1,6})/i;
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
  /** For how many ms the backend keeps the connection when it is idle, if it says so. */
  idle: number | undefined;
  /** What the backend switches to, in lower case. */
  upgrade: string | undefined;
}

/**
 * Checks a backend's head as strictly as a client's (RFC 9112, 6.1–6.3): an answer whose end is uncertain is no answer.
 * @param method of the request
 * @param switching whether a 101 is welcome
 * @throws ProxyError backend_bad_response; the connection must be closed.
 */
export function parseResponseHead(
  { version, status, reason, fields }: { version: string; status: number; reason: string; fields: readonly Field[] },
  method: string,
  switching: boolean,
): ResponseHead {
  if (version !== '1.0' && version !== '1.1') throw bad(`version HTTP/${version}`);
  if (status > 599 || (status < 200 && !(switching && status === 101))) throw bad(`status ${status}`);
  const bodyless = method === 'HEAD' || status === 101 || status === 204 || status === 304;
  const delimiter = delimiterOf(version, fields);
  // RFC 9110, 8.6 and RFC 9112, 6.1 forbid it: who announces content with a 204 may send it.
  const isContradiction = status === 204 && delimiter !== 'end' && delimiter !== 0;
  return {
    status,
    reason: UNSENDABLE.test(reason) ? (STATUS_CODES[status] ?? '') : reason,
    fields: new FieldList(responseFields(status, fields)),
    delimiter: bodyless ? 'none' : delimiter,
    framing: bodyless ? 'none' : delimiter === 'end' ? 'chunked' : delimiter,
    persistent: isPersistent(version, tokensOf(fields, 'connection')) && (bodyless ? !isContradiction : delimiter !== 'end'),
    idle: keepAlive(fields),
    upgrade: valuesOf(fields, 'upgrade')[0]?.toLowerCase(),
  };
}

function delimiterOf(version: '1.0' | '1.1', fields: readonly Field[]): 'chunked' | 'end' | number {
  const lengths = valuesOf(fields, 'content-length');
  const codings = valuesOf(fields, 'transfer-encoding');
  const [value] = lengths;
  const length = value === undefined ? 'end' : contentLength(value);
  if (lengths.length > 1 || length === undefined) throw bad('Content-Length');
  if (codings.length === 0) return length;
  if (length !== 'end') throw bad('Content-Length beside Transfer-Encoding');
  if (codings.length > 1 || codings[0]?.toLowerCase() !== 'chunked') throw bad('Transfer-Encoding is not exactly chunked');
  if (version === '1.0') throw bad('Transfer-Encoding on HTTP/1.0');
  return 'chunked';
}

/** `Keep-Alive: timeout=5` → 4000: a second before the backend closes; undefined where it says nothing. */
function keepAlive(fields: readonly Field[]): number | undefined {
  const [value] = valuesOf(fields, 'keep-alive');
  const seconds = value === undefined ? undefined : TIMEOUT.exec(value)?.[1];
  return seconds === undefined ? undefined : Math.max(0, Number(seconds) * 1000 - 1000);
}
