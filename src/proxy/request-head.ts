import { ProxyError } from './proxy-error.ts';
import { contentLength, isPersistent, tokensOf, valuesOf, type Field, type FieldList } from './headers.ts';

/** How the body is delimited: not at all, in chunks, or by its length in bytes. */
export type Framing = 'none' | 'chunked' | number;

export type Version = '1.0' | '1.1' | '2';

/** What the fields of a request say, whatever its method and target. */
export interface FieldFacts {
  version: Version;
  fields: readonly Field[];
  /** Host as the client wrote it. */
  hostField: string | undefined;
  /** The same for routing. */
  host: string | undefined;
  framing: Framing;
  /** The client waits for a 100 (Continue) before it sends the body. */
  expectContinue: boolean;
  /** The client would like to ask more on this connection. */
  persistent: boolean;
  /** The fields ask for a switch to WebSocket, and for nothing else. */
  wantsWebSocket: boolean;
  /** The fields as a backend gets them, and in whose judgement: clients repeat their fields from request to request. */
  forwarded?: { by: object; fields: FieldList };
}

/** A request head that is safe to route and to forward. */
export interface RequestHead {
  method: string;
  /** Origin-form (or `*`), byte for byte as it was sent. */
  target: string;
  /** `target` without the query. */
  path: string;
  version: Version;
  /** Host and port as the client wrote them; undefined only on HTTP/1.0. */
  authority: string | undefined;
  /** `authority` for routing: lower case, without port and trailing dot. */
  host: string | undefined;
  facts: FieldFacts;
  fields: readonly Field[];
  framing: Framing;
  /** A well-formed request to switch to WebSocket (RFC 6455, 4.1; RFC 8441, 4). */
  webSocket: boolean;
  /** What the backend must accept it with, where the key is ours: an HTTP/2 client checks nothing. */
  webSocketAccept?: string;
}

export const MAX_FIELDS = 100;
export const MAX_TARGET = 8192;

/** RFC 3986, 3.2.2 without userinfo; RFC 9110 forbids an empty host for http. A comma would be two Host fields joined. */
const AUTHORITY = /^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+;=%-]+)(?::\d{0,5})?$/;
const NEVER_IN_TARGET = /[^!"$-~]/;

/**
 * Checks the fields of a request, and reads from them what framing needs.
 * @param fields checked for their syntax already
 * @throws ProxyError with the status to answer; the connection must then be closed.
 */
export function readFields(version: Version, fields: readonly Field[]): FieldFacts {
  const framing = parseFraming(version, fields);
  const options = tokensOf(fields, 'connection');
  const host = hostField(version, fields);
  return {
    version,
    fields,
    hostField: host,
    host: host === undefined ? undefined : hostOf(host),
    framing,
    expectContinue: parseExpect(version, fields) && framing !== 'none',
    persistent: isPersistent(version, options),
    wantsWebSocket: version === '1.1' && framing === 'none' && options.includes('upgrade') && tokensOf(fields, 'upgrade').join() === 'websocket',
  };
}

/**
 * Checks a request line, together with what its fields say.
 * @throws ProxyError with the status to answer; the connection must then be closed.
 */
export function parseRequestHead(method: string, rawTarget: string, facts: FieldFacts): RequestHead {
  if (method === 'CONNECT' || method === 'TRACE') throw new ProxyError('method_not_allowed', `method ${method}`);
  const { target, authority } = parseTarget(method, rawTarget, facts.hostField);
  const query = target.indexOf('?');
  return {
    method,
    target,
    path: query === -1 ? target : target.slice(0, query),
    version: facts.version,
    authority,
    host: authority === undefined || authority === facts.hostField ? facts.host : hostOf(authority),
    facts,
    fields: facts.fields,
    framing: facts.framing,
    webSocket: facts.wantsWebSocket && method === 'GET',
  };
}

/** `authority` for routing: lower case, without port and trailing dot. */
function hostOf(authority: string): string {
  const colon = authority.lastIndexOf(':');
  const host = colon === -1 || authority.endsWith(']') ? authority : authority.slice(0, colon);
  return (host.endsWith('.') ? host.slice(0, -1) : host).toLowerCase();
}

/** RFC 9112, 3.2: exactly one on HTTP/1.1, and on HTTP/2, where `:authority` is it. */
function hostField(version: Version, fields: readonly Field[]): string | undefined {
  const hosts = valuesOf(fields, 'host');
  const [host] = hosts;
  if (hosts.length > 1) throw new ProxyError('bad_host', `${hosts.length} Host fields`);
  if (host === undefined && version !== '1.0') throw new ProxyError('bad_host', 'no Host field');
  if (host !== undefined && !AUTHORITY.test(host)) throw new ProxyError('bad_host', `Host ${JSON.stringify(host)} is not host[:port]`);
  return host;
}

/** RFC 9112, 3.2.1–3.2.4. */
function parseTarget(method: string, raw: string, host: string | undefined): { target: string; authority: string | undefined } {
  // Backends cut at `#` or do not: routing on one reading and serving the other is how checks are passed by.
  if (NEVER_IN_TARGET.test(raw)) throw new ProxyError('bad_target', 'request target with a fragment, or with bytes that are not visible ASCII');
  if (raw.startsWith('/') || (raw === '*' && method === 'OPTIONS')) return { target: raw, authority: host };
  const [, authority, rest] = /^https?:\/\/([^/?]*)(.*)$/i.exec(raw) ?? [];
  if (authority === undefined || rest === undefined || !AUTHORITY.test(authority))
    throw new ProxyError('bad_target', 'request target is neither a path nor a URL');
  if (host !== undefined && host.toLowerCase() !== authority.toLowerCase()) {
    throw new ProxyError('bad_host', `the request target names ${authority}, Host names ${host}`);
  }
  if (rest === '' && method === 'OPTIONS') return { target: '*', authority };
  return { target: rest.startsWith('/') ? rest : `/${rest}`, authority };
}

/** RFC 9112, 6.1–6.3; anything that two readers could understand differently is refused. */
function parseFraming(version: Version, fields: readonly Field[]): Framing {
  const lengths = valuesOf(fields, 'content-length');
  const codings = valuesOf(fields, 'transfer-encoding');
  const [length] = lengths;
  const [coding] = codings;
  if (coding !== undefined) {
    if (version === '1.0' || lengths.length > 0) throw new ProxyError('bad_framing', 'Transfer-Encoding on HTTP/1.0 or beside Content-Length');
    if (codings.length > 1 || coding.toLowerCase() !== 'chunked') {
      throw new ProxyError('unsupported_transfer_coding', `Transfer-Encoding ${JSON.stringify(codings.join(', '))} is not exactly chunked`);
    }
    return 'chunked';
  }
  if (length === undefined) return 'none';
  const bytes = contentLength(length);
  if (lengths.length > 1 || bytes === undefined) throw new ProxyError('bad_framing', `Content-Length ${JSON.stringify(lengths.join(', '))}`);
  return bytes;
}

/** RFC 9110, 10.1.1: ignored on HTTP/1.0; whatever is not 100-continue cannot be promised. */
function parseExpect(version: Version, fields: readonly Field[]): boolean {
  const expectations = version === '1.0' ? [] : valuesOf(fields, 'expect');
  if (expectations.some((value) => value.toLowerCase() !== '100-continue')) {
    throw new ProxyError('expectation_failed', `Expect ${JSON.stringify(expectations.join(', '))}`);
  }
  return expectations.length > 0;
}
