import { createHash, randomBytes } from 'node:crypto';
import { field, type Field } from '../proxy/headers.ts';
import { ProxyError } from '../proxy/proxy-error.ts';
import { MAX_FIELDS, MAX_TARGET, parseRequestHead, readFields, type FieldFacts, type RequestHead } from '../proxy/request-head.ts';
import { MAX_HEAD } from './head.ts';

/** What is worth keeping of a head, in bytes: it stays in memory as long as the connection. */
const MAX_KNOWN = 4_096;
const CHUNKED = field('Transfer-Encoding', 'chunked');

/**
 * Reads the request heads of one connection. Clients repeat their fields from one request to the next, often word for
 * word: what has been read once is recognised.
 */
export class Http2HeadReader {
  #knownHead: readonly string[] = [];
  #known: FieldFacts | undefined;

  /**
   * @param raw names and values in turn, as node:http2 gives them. nghttp2 has refused pseudo-header fields that are unknown,
   *   repeated, missing or late, names in upper case, connection-specific fields and repeated lengths, and has dropped
   *   fields with bytes that HTTP/1 could not carry
   * @param isComplete no body follows
   * @throws ProxyError with the status to answer
   */
  read(raw: readonly string[], isComplete: boolean): RequestHead {
    let method = '';
    let target = '';
    let protocol: string | undefined;
    let size = 0;
    let isKnown = this.#known !== undefined && isComplete === (this.#known.framing === 'none') && raw.length === this.#knownHead.length;
    for (let i = 0; i + 1 < raw.length; i += 2) {
      const name = raw[i] ?? '';
      const value = raw[i + 1] ?? '';
      size += name.length + value.length + 4;
      if (name === ':method') method = value;
      else if (name === ':path') target = value;
      else isKnown &&= value === this.#knownHead[i + 1];
      isKnown &&= name === this.#knownHead[i];
      if (name === ':protocol') protocol = value;
    }
    if (target.length > MAX_TARGET) throw new ProxyError('target_too_long', `path of more than ${MAX_TARGET} bytes`);
    if (size > MAX_HEAD) throw new ProxyError('head_too_large', `head of more than ${MAX_HEAD} bytes`);
    if (method === 'CONNECT' && protocol === 'websocket') return webSocketHead(raw, target);
    if (isKnown) return parseRequestHead(method, target, this.#known!);
    const facts = readFields('2', fieldsOf(raw, isComplete));
    if (size <= MAX_KNOWN && facts.framing === (isComplete ? 'none' : 'chunked')) {
      this.#knownHead = raw;
      this.#known = facts;
    }
    return parseRequestHead(method, target, facts);
  }
}

/** What HTTP/1.1 has for it: a GET with an Upgrade, and with a key that the client of HTTP/2 does not make (RFC 8441, 5). */
function webSocketHead(raw: readonly string[], target: string): RequestHead {
  const key = randomBytes(16).toString('base64');
  const fields = fieldsOf(raw, true).filter((one) => one.key !== 'sec-websocket-key');
  const facts = readFields('2', [...fields, field('Sec-WebSocket-Key', key)]);
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
 * as they came.
 */
function fieldsOf(raw: readonly string[], isComplete: boolean): Field[] {
  const fields: Field[] = [];
  let authority: string | undefined;
  let host: string | undefined;
  let cookieAt = -1;
  let isCounted = false;
  for (let i = 0; i + 1 < raw.length; i += 2) {
    const key = raw[i] ?? '';
    const value = raw[i + 1] ?? '';
    if (key === ':authority') authority = value;
    // Nothing is made of `:scheme`: it is the listener that knows whether TLS was spoken.
    else if (key.startsWith(':')) continue;
    else if (key === 'host') host = value;
    else if (key === 'cookie' && cookieAt !== -1) fields[cookieAt] = { name: key, key, value: `${fields[cookieAt]?.value}; ${value}` };
    else {
      if (key === 'cookie') cookieAt = fields.length;
      isCounted ||= key === 'content-length';
      fields.push({ name: key, key, value });
    }
  }
  if (fields.length > MAX_FIELDS) throw new ProxyError('head_too_large', `more than ${MAX_FIELDS} fields`);
  // RFC 9113, 8.3.1: they must not differ; whoever looked at the other one would see another site.
  if (authority !== undefined && host !== undefined && authority.toLowerCase() !== host.toLowerCase()) {
    throw new ProxyError('bad_host', `:authority names ${authority}, Host names ${host}`);
  }
  authority ??= host;
  if (authority !== undefined) fields.unshift(field('Host', authority));
  if (!isCounted && !isComplete) fields.push(CHUNKED);
  return fields;
}
