/** One field line as it stood on the wire: order, case and repetition are the sender's. */
export interface Field {
  readonly name: string;
  readonly value: string;
  /** `name` in lower case: what rules compare. */
  readonly key: string;
  /** As HTTP/1 writes it, with its end, where that is known. */
  readonly line?: string | undefined;
  /** No compression may remember it: its sender has said so (RFC 7541, 7.1.3). */
  readonly isSensitive?: boolean;
}

/** What names of fields and methods are made of (RFC 9110, 5.6.2). */
export const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;

/** What browsers, command-line clients and applications send: looking these up is cheaper than lower-casing them again and again. */
const COMMON =
  'Accept Accept-Charset Accept-Encoding Accept-Language Accept-Ranges Access-Control-Allow-Origin Age Allow Alt-Svc Authorization Cache-Control Connection ' +
  'Content-Disposition Content-Encoding Content-Language Content-Length Content-Location Content-Range Content-Security-Policy Content-Type Cookie DNT Date ' +
  'ETag Expect Expires Forwarded From Host If-Match If-Modified-Since If-None-Match If-Range If-Unmodified-Since Keep-Alive Last-Modified Link Location ' +
  'Max-Forwards Origin Permissions-Policy Pragma Priority Proxy-Connection Range Referer Referrer-Policy Retry-After Sec-Fetch-Dest Sec-Fetch-Mode ' +
  'Sec-Fetch-Site Sec-Fetch-User Server Set-Cookie Strict-Transport-Security TE Trailer Transfer-Encoding Upgrade Upgrade-Insecure-Requests User-Agent Vary ' +
  'Via WWW-Authenticate X-Content-Type-Options X-Forwarded-For X-Forwarded-Host X-Forwarded-Port X-Forwarded-Proto X-Frame-Options X-Powered-By X-Real-IP ' +
  'X-Request-ID X-Requested-With';
const KEYS = new Map(COMMON.split(' ').flatMap((name): [string, string][] => [name, name.toLowerCase()].map((spelling) => [spelling, name.toLowerCase()])));

export function keyOf(name: string): string {
  return KEYS.get(name) ?? name.toLowerCase();
}

export function field(name: string, value: string, line?: string): Field {
  return { name, value, key: keyOf(name), line };
}

/** Fields that do not change any more, and what has been made of them. */
export class FieldList {
  readonly list: readonly Field[];
  #lines: string | undefined;
  #isDated: boolean | undefined;

  constructor(list: readonly Field[]) {
    this.list = list;
  }

  /** As HTTP/1 writes them, each line with its end. */
  get lines(): string {
    this.#lines ??= fieldLines(this.list);
    return this.#lines;
  }

  /** Date is among them. */
  get isDated(): boolean {
    this.#isDated ??= this.list.some(({ key }) => key === 'date');
    return this.#isDated;
  }
}

export function fieldLines(fields: readonly Field[]): string {
  return fields.map(({ name, value, line }) => line ?? `${name}: ${value}\r\n`).join('');
}

/** RFC 9110, 7.6.1, and the two fields that older clients and HTTP/2 upgrades use hop by hop. */
const HOP_BY_HOP = new Set(['connection', 'keep-alive', 'proxy-connection', 'te', 'trailer', 'transfer-encoding', 'upgrade', 'http2-settings']);

/**
 * What `Connection` may never take away: a client that lists Content-Length there makes a forwarder send an unframed
 * body, which the backend reads as the next request; one that lists X-Forwarded-For hides from the backend what trusted
 * proxies have said of it (CVE-2022-31813), where these, as HAProxy does, pass its `Connection` on.
 */
const NEVER_LISTED = new Set(
  'host content-length transfer-encoding forwarded x-forwarded-for x-forwarded-proto x-forwarded-host x-forwarded-port x-real-ip'.split(' '),
);

/** RFC 9110, 6.5.1: framing, routing, authentication and the like mean nothing, or harm, behind the content. */
const NEVER_TRAILERS = new Set([
  ...HOP_BY_HOP,
  ...NEVER_LISTED,
  ...'age authorization cache-control content-encoding content-range content-type cookie date expect expires location'.split(' '),
  ...'max-forwards proxy-authenticate range retry-after set-cookie vary'.split(' '),
]);

/** OWS is blanks and tabs (RFC 9110, 5.6.3); `String.prototype.trim` also takes 0xA0, which is a part of many UTF-8 characters. */
export function trimmed(text: string, start = 0, end = text.length): string {
  let first = start;
  let behind = end;
  while (first < behind && isBlank(text.charCodeAt(first))) first += 1;
  while (first < behind && isBlank(text.charCodeAt(behind - 1))) behind -= 1;
  return text.slice(first, behind);
}

function isBlank(code: number): boolean {
  return code === 0x20 || code === 0x09;
}

/** Node's flat list → fields. */
export function fieldsFromRaw(raw: readonly string[]): Field[] {
  const fields: Field[] = [];
  for (let i = 0; i + 1 < raw.length; i += 2) fields.push(field(raw[i] ?? '', raw[i + 1] ?? ''));
  return fields;
}

const NONE: readonly string[] = [];
const ONE_TOKEN = /^[\w-]+$/;
const DIGITS = /^\d{1,16}$/;

/** The values of one field, in order; `key` in lower case. */
export function valuesOf(fields: readonly Field[], key: string): readonly string[] {
  let values: string[] | undefined;
  for (const field of fields) if (field.key === key) (values ??= []).push(field.value);
  return values ?? NONE;
}

/** The members of a comma-separated list field, in lower case; `key` in lower case. */
export function tokensOf(fields: readonly Field[], key: string): readonly string[] {
  const values = valuesOf(fields, key);
  const [only] = values;
  if (only === undefined) return NONE;
  // The usual `Connection: keep-alive`.
  if (values.length === 1 && ONE_TOKEN.test(only)) return [only.toLowerCase()];
  return values
    .join(',')
    .split(',')
    .map((token) => trimmed(token).toLowerCase())
    .filter((token) => token !== '');
}

/** Whether the sender of a message would go on with its connection (RFC 9112, 9.3); `options` are the tokens of Connection. */
export function isPersistent(version: '1.0' | '1.1' | '2', options: readonly string[]): boolean {
  return !options.includes('close') && (version !== '1.0' || options.includes('keep-alive'));
}

/** The value of a Content-Length, in bytes; undefined when it is none (RFC 9110, 8.6) or too large to count. */
export function contentLength(value: string): number | undefined {
  const length = DIGITS.test(value) ? Number(value) : NaN;
  return Number.isSafeInteger(length) ? length : undefined;
}

export function acceptsTrailers(fields: readonly Field[]): boolean {
  return tokensOf(fields, 'te').includes('trailers');
}

/** Without the fields that belong to one connection; framing fields are `framing`'s decision. */
function endToEnd(fields: readonly Field[], keepTransferEncoding: boolean): Field[] {
  const listed = tokensOf(fields, 'connection');
  return fields.filter(({ key }) => {
    if (HOP_BY_HOP.has(key)) return keepTransferEncoding && key === 'transfer-encoding';
    return listed.length === 0 || NEVER_LISTED.has(key) || !listed.includes(key);
  });
}

const UPGRADE = [field('Connection', 'Upgrade'), field('Upgrade', 'websocket')];
const TRAILERS = [field('Connection', 'keep-alive, TE'), field('TE', 'trailers')];

/** What frames the body, as everybody writes it: to some readers `Chunked` is no `chunked`, and `010` is eight. */
function plainlyFramed(one: Field): Field {
  if (one.key === 'transfer-encoding' && one.value !== 'chunked') return field(one.name, 'chunked');
  if (one.key === 'content-length' && /^0\d/.test(one.value)) return field(one.name, String(Number(one.value)));
  return one;
}

/** `Transfer_Encoding` and the like: to applications that make `_` of `-` these frame the body, and to everybody else they do not. */
const DISGUISED_FRAMING = /^(?:content[^a-z-]length|transfer[^a-z-]encoding)$/;

/**
 * The client's fields as the backend gets them, before X-Forwarded-*. Content-Length and Transfer-Encoding stay: the
 * head they come from has been checked, and the body is framed by them. `Expect` is left to the engine.
 */
export function requestFields(fields: readonly Field[], upgrade: boolean): Field[] {
  // CGI programs turn a `Proxy` field into HTTP_PROXY (httpoxy, CVE-2016-5385).
  const kept = endToEnd(fields, true)
    .filter(({ key }) => key !== 'expect' && key !== 'proxy' && !DISGUISED_FRAMING.test(key))
    .map(plainlyFramed);
  if (upgrade) kept.push(...UPGRADE);
  // RFC 9110, 10.1.4: whoever sends TE lists it in Connection.
  else if (acceptsTrailers(fields)) kept.push(...TRAILERS);
  return kept;
}

/** Fields for a connection that is not kept; `knowsTe` is not to be said of a backend that speaks HTTP/1.0. */
export function closingFields({ list }: FieldList, knowsTe: boolean): FieldList {
  const kept = list.filter(({ key }) => key !== 'connection' && (knowsTe || key !== 'te'));
  return new FieldList([...kept, field('Connection', kept.some(({ key }) => key === 'te') ? 'close, TE' : 'close')]);
}

/** Fields of a request whose body was to be sent in chunks, now that its length is known. */
export function countedFields({ list }: FieldList, length: number): FieldList {
  return new FieldList(list.map((one) => (one.key === 'transfer-encoding' ? field('Content-Length', String(length)) : one)));
}

/** The backend's fields as the client gets them; the front frames the body itself, so Transfer-Encoding goes. */
export function responseFields(status: number, fields: readonly Field[]): Field[] {
  const kept = endToEnd(fields, false);
  // RFC 9110, 8.6: no Content-Length in a 204 or an interim answer.
  return status === 204 || status < 200 ? kept.filter(({ key }) => key !== 'content-length') : kept;
}

/** The fields behind a body that may be passed on, to whoever takes trailers at all. */
export function trailerFields(trailers: readonly Field[]): Field[] {
  return trailers.filter(({ key }) => !NEVER_TRAILERS.has(key));
}
