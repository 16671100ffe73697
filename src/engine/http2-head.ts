import { createHash, randomBytes } from 'node:crypto';
import { ErrorCode, StreamError } from '../http2/frames.ts';
import { Role, type HeaderField } from '../http2/header-field.ts';
import { field, type Field } from '../proxy/headers.ts';
import { ProxyError } from '../proxy/proxy-error.ts';
import { MAX_FIELDS, MAX_TARGET, parseRequestHead, readFields, type FieldFacts, type RequestHead } from '../proxy/request-head.ts';
import { MAX_HEAD } from './head.ts';

/** What is worth keeping of a head, in bytes: it stays in memory as long as the connection. */
const MAX_KNOWN = 4_096;
const CHUNKED = field('Transfer-Encoding', 'chunked');

/** The fields of a request by their roles; the pseudo-header fields come first, and each once (RFC 9113, 8.3). */
export interface Http2Fields {
  method: string;
  path: string;
  protocol: string | undefined;
  authority: string | undefined;
  host: string | undefined;
  /** -1 where there is no Content-Length. */
  length: number;
  /** All but pseudo-header fields and Host. */
  regular: HeaderField[];
  /** Of all, as HTTP/1 would count them. */
  size: number;
}

function malformed(message: string): StreamError {
  return new StreamError(ErrorCode.PROTOCOL_ERROR, message);
}

/**
 * Sorts the fields of a request.
 * @param isComplete no body follows
 * @param webSocket CONNECT with a protocol is welcome (RFC 8441)
 * @throws StreamError when the request is malformed (RFC 9113, 8.1.1): it has no answer
 */
export function sortFields(fields: readonly HeaderField[], isComplete: boolean, webSocket: boolean): Http2Fields {
  const said: (string | undefined)[] = [];
  const regular: HeaderField[] = [];
  let size = 0;
  let isRegular = false;
  for (const one of fields) {
    const { role, name, value } = one;
    size += name.length + value.length + 4;
    if (role === Role.REGULAR || role === Role.COOKIE) {
      isRegular = true;
      regular.push(one);
      continue;
    }
    if (role >= Role.MALFORMED) throw malformed(`field ${JSON.stringify(name.slice(0, 60))}`);
    const isPseudo = role <= Role.PROTOCOL;
    if (said[role] !== undefined || (isPseudo && isRegular)) throw malformed(`${name} repeated or late`);
    said[role] = value;
    if (isPseudo) continue;
    isRegular = true;
    if (role === Role.CONTENT_LENGTH) regular.push(one);
  }
  const { [Role.METHOD]: method, [Role.PATH]: path, [Role.PROTOCOL]: protocol, [Role.AUTHORITY]: authority, [Role.HOST]: host } = said;
  const length = said[Role.CONTENT_LENGTH] === undefined ? -1 : Number(said[Role.CONTENT_LENGTH]);
  if (method === undefined) throw malformed('no :method');
  if (method === 'CONNECT' && protocol === undefined) {
    if (authority === undefined || path !== undefined || said[Role.SCHEME] !== undefined) throw malformed('CONNECT with a path');
  } else if (path === undefined || said[Role.SCHEME] === undefined || (authority ?? host) === undefined) {
    throw malformed('no :path, :scheme or :authority');
  }
  if (protocol !== undefined && (method !== 'CONNECT' || !webSocket || authority === undefined)) throw malformed(':protocol');
  if (path === '*' && method !== 'OPTIONS') throw malformed(':path');
  if (isComplete && length > 0) throw malformed('a Content-Length without a body');
  return { method, path: path ?? '', protocol, authority, host, length, regular, size };
}

/**
 * Makes request heads of the fields of one connection. Clients repeat their fields from one request to the next, most of them by
 * index: what has been read once is recognised.
 */
export class Http2HeadReader {
  #known: { fields: Http2Fields; facts: FieldFacts } | undefined;

  /**
   * @param isComplete no body follows
   * @throws ProxyError with the status to answer
   */
  read(fields: Http2Fields, isComplete: boolean): RequestHead {
    const { method, path, protocol, size } = fields;
    if (path.length > MAX_TARGET) throw new ProxyError('target_too_long', `path of more than ${MAX_TARGET} bytes`);
    if (size > MAX_HEAD) throw new ProxyError('head_too_large', `head of more than ${MAX_HEAD} bytes`);
    if (method === 'CONNECT' && protocol === 'websocket') return webSocketHead(fields, path);
    if (this.#known && isComplete === (this.#known.facts.framing === 'none') && areSame(this.#known.fields, fields)) {
      return parseRequestHead(method, path, this.#known.facts);
    }
    const facts = readFields('2', fieldsOf(fields, isComplete));
    if (size <= MAX_KNOWN && facts.framing === (isComplete ? 'none' : 'chunked')) this.#known = { fields, facts };
    return parseRequestHead(method, path, facts);
  }
}

function areSame(a: Http2Fields, b: Http2Fields): boolean {
  if (a.authority !== b.authority || a.host !== b.host || a.regular.length !== b.regular.length) return false;
  for (let i = 0; i < a.regular.length; i += 1) {
    const one = a.regular[i]!;
    const other = b.regular[i]!;
    if (one !== other && (one.name !== other.name || one.value !== other.value || one.isSensitive !== other.isSensitive)) return false;
  }
  return true;
}

/** What HTTP/1.1 has for it: a GET with an Upgrade, and with a key that the client of HTTP/2 does not make (RFC 8441, 5). */
function webSocketHead(fields: Http2Fields, target: string): RequestHead {
  const key = randomBytes(16).toString('base64');
  const kept = fieldsOf(fields, true).filter((one) => one.key !== 'sec-websocket-key');
  const facts = readFields('2', [...kept, field('Sec-WebSocket-Key', key)]);
  if (facts.framing !== 'none') throw new ProxyError('bad_framing', 'a WebSocket with a Content-Length');
  const head = parseRequestHead('GET', target, { ...facts, wantsWebSocket: true });
  return { ...head, webSocketAccept: acceptFor(key) };
}

/** RFC 6455, 4.2.2. */
function acceptFor(key: string): string {
  return createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64');
}

/**
 * The fields of an HTTP/2 request (RFC 9113, 8.3) as they would stand in HTTP/1.1: `:authority` is Host, the crumbs of a
 * cookie are one field (8.2.3), and a body without a length is chunked. Names stay in lower case, order and repetition
 * as they came. Nothing is made of `:scheme`: it is the listener that knows whether TLS was spoken.
 */
function fieldsOf({ regular, authority, host, length }: Http2Fields, isComplete: boolean): Field[] {
  if (regular.length > MAX_FIELDS) throw new ProxyError('head_too_large', `more than ${MAX_FIELDS} fields`);
  // RFC 9113, 8.3.1: they must not differ; whoever looked at the other one would see another site.
  if (authority !== undefined && host !== undefined && authority.toLowerCase() !== host.toLowerCase()) {
    throw new ProxyError('bad_host', `:authority names ${authority}, Host names ${host}`);
  }
  const fields: Field[] = [field('Host', authority ?? host ?? '')];
  let cookieAt = -1;
  for (const one of regular) {
    if (one.role === Role.COOKIE && cookieAt !== -1) fields[cookieAt] = field('cookie', `${fields[cookieAt]?.value}; ${one.value}`);
    else {
      if (one.role === Role.COOKIE) cookieAt = fields.length;
      fields.push(one);
    }
  }
  if (length === -1 && !isComplete) fields.push(CHUNKED);
  return fields;
}
