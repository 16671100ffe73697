import { STATUS_CODES } from 'node:http';
import { fieldsFromRaw, valuesOf, type Field, TOKEN } from '../proxy/headers.ts';
import { ProxyError } from '../proxy/proxy-error.ts';

const UNSENDABLE = /[^\t\x20-\x7e\x80-\xff]/;

/** Whether node:http would write a field instead of throwing. */
export function isSendable({ name, value }: Field): boolean {
  return TOKEN.test(name) && !UNSENDABLE.test(value);
}

function bad(cause: string): ProxyError {
  return new ProxyError('backend_bad_response', "the backend's answer is malformed", { cause });
}

/**
 * Checks a backend's head as strictly as a client's (RFC 9112, 6.1–6.3): an answer whose end is uncertain is no answer.
 * `switching` is for the answer behind which the connection is no longer HTTP.
 * @throws ProxyError backend_bad_response; the connection must be closed.
 */
export function parseResponseHead(
  version: string,
  status: number,
  reason: string,
  raw: readonly string[],
  switching: boolean,
): { reason: string; fields: Field[] } {
  if (version !== '1.0' && version !== '1.1') throw bad(`version HTTP/${version}`);
  if (switching ? status !== 101 : status < 200 || status > 599) throw bad(`status ${status}`);
  const fields = fieldsFromRaw(raw);
  for (const field of fields) {
    if (!isSendable(field)) throw bad(`field ${JSON.stringify(field.name.slice(0, 100))}`);
  }
  const lengths = valuesOf(fields, 'content-length');
  const codings = valuesOf(fields, 'transfer-encoding');
  if (lengths.length > 1 || lengths.some((length) => !/^\d{1,16}$/.test(length))) throw bad('Content-Length');
  if (codings.length > 0 && lengths.length > 0) throw bad('Content-Length beside Transfer-Encoding');
  if (codings.length > 1 || codings.some((coding) => coding.toLowerCase() !== 'chunked')) throw bad('Transfer-Encoding is not exactly chunked');
  if (codings.length > 0 && version === '1.0') throw bad('Transfer-Encoding on HTTP/1.0');
  return { reason: UNSENDABLE.test(reason) ? (STATUS_CODES[status] ?? '') : reason, fields };
}
