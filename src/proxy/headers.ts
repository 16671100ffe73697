/** One field line as it stood on the wire: order, case and repetition are the sender's. */
export type Field = readonly [name: string, value: string];

/** What names of fields and methods are made of (RFC 9110, 5.6.2). */
export const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;

/** RFC 9110, 7.6.1, and the two fields that older clients and HTTP/2 upgrades use hop by hop. */
const HOP_BY_HOP = new Set(['connection', 'keep-alive', 'proxy-connection', 'te', 'trailer', 'transfer-encoding', 'upgrade', 'http2-settings']);

/**
 * What `Connection` may never take away: a client that lists Content-Length there makes a forwarder send an unframed
 * body, which the backend reads as the next request.
 */
const NEVER_LISTED = new Set(['host', 'content-length', 'transfer-encoding']);

/** RFC 9110, 6.5.1: framing, routing, authentication and the like mean nothing, or harm, behind the content. */
const NEVER_TRAILERS = new Set([
  ...HOP_BY_HOP,
  ...NEVER_LISTED,
  ...'age authorization cache-control content-encoding content-range content-type cookie date expect expires location'.split(' '),
  ...'max-forwards proxy-authenticate range retry-after set-cookie vary'.split(' '),
]);

/** Node's flat list → fields. */
export function fieldsFromRaw(raw: readonly string[]): Field[] {
  const fields: Field[] = [];
  for (let i = 0; i + 1 < raw.length; i += 2) fields.push([raw[i] ?? '', raw[i + 1] ?? '']);
  return fields;
}

/** The values of one field, in order; `name` in lower case. */
export function valuesOf(fields: readonly Field[], name: string): string[] {
  return fields.filter(([key]) => key.toLowerCase() === name).map(([, value]) => value);
}

/** The members of a comma-separated list field, in lower case; `name` in lower case. */
export function tokensOf(fields: readonly Field[], name: string): string[] {
  const values = valuesOf(fields, name);
  return values.length === 0
    ? []
    : values
        .join(',')
        .split(',')
        .map((token) => token.trim().toLowerCase())
        .filter((token) => token !== '');
}

function acceptsTrailers(fields: readonly Field[]): boolean {
  return tokensOf(fields, 'te').some((token) => token === 'trailers');
}

/** Without the fields that belong to one connection; framing fields are `framing`'s decision. */
function endToEnd(fields: readonly Field[], keepTransferEncoding: boolean): Field[] {
  const listed = new Set(tokensOf(fields, 'connection'));
  return fields.filter(([name]) => {
    const key = name.toLowerCase();
    if (key === 'transfer-encoding') return keepTransferEncoding;
    return !HOP_BY_HOP.has(key) && (NEVER_LISTED.has(key) || !listed.has(key));
  });
}

/**
 * The client's fields as the backend gets them, before X-Forwarded-*. Content-Length and Transfer-Encoding stay: the
 * head they come from has been checked, and the body is framed by them. `Expect` is left to the engine.
 */
export function requestFields(fields: readonly Field[], upgrade: boolean): Field[] {
  // CGI programs turn a `Proxy` field into HTTP_PROXY (httpoxy, CVE-2016-5385).
  const kept = endToEnd(fields, true).filter(([name]) => !['expect', 'proxy'].includes(name.toLowerCase()));
  if (upgrade) return [...kept, ['Connection', 'Upgrade'], ['Upgrade', 'websocket']];
  // RFC 9110, 10.1.4: whoever sends TE lists it in Connection.
  return acceptsTrailers(fields) ? [...kept, ['Connection', 'keep-alive, TE'], ['TE', 'trailers']] : kept;
}

/** The backend's fields as the client gets them; the front frames the body itself, so Transfer-Encoding goes. */
export function responseFields(status: number, fields: readonly Field[]): Field[] {
  const kept = endToEnd(fields, false);
  // RFC 9110, 8.6: no Content-Length in a 204.
  return status === 204 ? kept.filter(([name]) => name.toLowerCase() !== 'content-length') : kept;
}

/** The fields behind a chunked body that may be passed on to a client with these request fields. */
export function trailerFields(request: readonly Field[], trailers: readonly Field[]): Field[] {
  return acceptsTrailers(request) ? trailers.filter(([name]) => !NEVER_TRAILERS.has(name.toLowerCase())) : [];
}
