import type { Field } from '../proxy/headers.ts';
import { ProxyError } from '../proxy/proxy-error.ts';
import { MAX_TARGET } from '../proxy/request-head.ts';
import { FieldScanner, scanFields, type Refuse } from './field-lines.ts';
import { mayFrame, scanLenientFields } from './lenient-fields.ts';

/**
 * The syntax of HTTP/1 heads (RFC 9112, 2–5), read from bytes in two steps: where a head ends, and what it says. What it
 * means (Host, target, framing) is checked by proxy/request-head and engine/response-head.
 */

/** The largest head, in bytes. */
export const MAX_HEAD = 32_768;
/** The longest request line, in bytes: a target, and room for method and version. */
export const MAX_REQUEST_LINE = MAX_TARGET + 64;

const TAB = 0x09;
const CR = 0x0d;
const LF = 0x0a;
const EMPTY_LINE = Buffer.from('\r\n\r\n');

// In these, and in those of field-lines, no two neighbouring repetitions match the same byte: failing takes linear time, too.
const REQUEST_LINE = /[!#$%&'*+.^_`|~0-9A-Za-z-]+ [\x21-\x7e]+ HTTP\/\d\.\d\r\n/y;
/** The blank before an empty reason is often missing; no two readers disagree about that. */
const STATUS_LINE = /HTTP\/1\.[01] \d{3}(?: [\t\x20-\x7e\x80-\xff]*)?\r\n/y;
const LENIENT_STATUS_LINE = /HTTP\/1\.[01] \d{3}(?: [^\n]*|\r)?\n/y;

export interface RequestLine {
  method: string;
  /** Byte for byte; visible ASCII. */
  target: string;
  version: '1.0' | '1.1';
  /** Where the fields begin. */
  next: number;
}

export interface ScannedResponse {
  version: '1.0' | '1.1';
  /** Three digits; not necessarily a status that exists. */
  status: number;
  /** May be empty. */
  reason: string;
  fields: readonly Field[];
}

const refuseRequest: Refuse = (code, cause) => new ProxyError(code, cause);
const refuseResponse: Refuse = (_code, cause) => new ProxyError('backend_bad_response', "the backend's answer is malformed", { cause });

/**
 * The offset behind the empty lines before a request, of which there may be two: old clients send one after a body (RFC 9112, 2.2).
 * @throws ProxyError bad_request at the third
 */
function skipEmptyLines(bytes: Buffer): number {
  let at = 0;
  while (bytes[at] === CR && bytes[at + 1] === LF) at += 2;
  if (at > 4) throw refuseRequest('bad_request', 'empty lines instead of a request');
  return at;
}

/**
 * Where the request head ends: the offset behind its CRLFCRLF, or -1 when more bytes are needed. Empty
 * lines before it belong to it.
 * @param from how far an earlier call has searched in vain: a head in many tiny segments costs no more than one in a single segment
 * @throws ProxyError head_too_large, target_too_long; bad_request as soon as an unfinished head holds a byte that no head may hold: its
 *   sender may believe that it is finished, and wait
 */
export function findHeadEnd(bytes: Buffer, from: number): number {
  const begin = skipEmptyLines(bytes);
  const end = findEmptyLine(bytes, Math.max(begin, from - 3));
  if ((end === -1 ? bytes.length : end) - begin > MAX_REQUEST_LINE && !bytes.subarray(begin, begin + MAX_REQUEST_LINE + 1).includes(CR)) {
    throw new ProxyError('target_too_long', `request line of more than ${MAX_REQUEST_LINE} bytes`);
  }
  refuseTooLarge(bytes, begin, end, refuseRequest);
  if (end === -1) refuseHopeless(bytes, begin, Math.max(begin, from), refuseRequest);
  return end;
}

/**
 * As `findHeadEnd`, for a backend's answer. No empty lines may come before it.
 * @param lenient lines may end with a bare LF
 * @throws ProxyError backend_bad_response
 */
export function findResponseHeadEnd(bytes: Buffer, from: number, lenient: boolean): number {
  const end = lenient ? findLenientEmptyLine(bytes, Math.max(0, from - 2)) : findEmptyLine(bytes, Math.max(0, from - 3));
  refuseTooLarge(bytes, 0, end, refuseResponse);
  if (end === -1 && !lenient) refuseHopeless(bytes, 0, from, refuseResponse);
  return end;
}

function findEmptyLine(bytes: Buffer, from: number): number {
  const at = bytes.indexOf(EMPTY_LINE, from);
  return at === -1 ? -1 : at + EMPTY_LINE.length;
}

function findLenientEmptyLine(bytes: Buffer, from: number): number {
  for (let at = bytes.indexOf(LF, from); at !== -1; at = bytes.indexOf(LF, at + 1)) {
    if (bytes[at + 1] === LF) return at + 2;
    if (bytes[at + 1] === CR && bytes[at + 2] === LF) return at + 3;
  }
  return -1;
}

function refuseTooLarge(bytes: Buffer, begin: number, end: number, refuse: Refuse): void {
  if ((end === -1 ? bytes.length : end) - begin > MAX_HEAD) throw refuse('head_too_large', `head of more than ${MAX_HEAD} bytes`);
}

/** Looks, from `from` on, for bytes that no head or trailer section may hold, while it is unfinished. */
export function refuseHopeless(bytes: Buffer, begin: number, from: number, refuse: Refuse): void {
  let before = from > begin ? bytes[from - 1] : undefined;
  for (let at = from; at < bytes.length; at += 1) {
    const byte = bytes[at] ?? 0;
    const isAllowed = before === CR ? byte === LF : byte >= 0x20 ? byte !== 0x7f : byte === CR || byte === TAB;
    if (!isAllowed) throw refuse('bad_request', 'a bare CR, a bare LF or a control byte where fields should be');
    before = byte;
  }
}

/**
 * Reads the request line of a head that `findHeadEnd` has found.
 * @param head latin1, each character a byte
 * @throws ProxyError bad_request, bad_version
 */
export function scanRequestLine(head: string): RequestLine {
  let begin = 0;
  while (head.startsWith('\r\n', begin)) begin += 2;
  REQUEST_LINE.lastIndex = begin;
  if (!REQUEST_LINE.test(head)) throw refuseRequest('bad_request', 'the request line is not METHOD TARGET VERSION');
  const next = REQUEST_LINE.lastIndex;
  const version = head.startsWith('1.1', next - 5) ? '1.1' : head.startsWith('1.0', next - 5) ? '1.0' : undefined;
  if (!version) throw new ProxyError('bad_version', `version HTTP/${head.slice(next - 5, next - 2)} is not served`);
  const space = head.indexOf(' ', begin);
  return { method: head.slice(begin, space), target: head.slice(space + 1, next - ' HTTP/1.1\r\n'.length), version, next };
}

/**
 * Reads the fields from `start` on, where a request line says that they begin.
 * @throws ProxyError bad_field; head_too_large beyond 100 fields
 */
export function scanFieldLines(head: string, start: number): readonly Field[] {
  return scanFields(head, start, refuseRequest);
}

/**
 * Reads the response head that `findResponseHeadEnd` has found between `start` and `end`, with the same `lenient`.
 * @param scanner where heads come one after the other
 * @throws ProxyError backend_bad_response
 */
export function scanResponseHead(bytes: Buffer, start: number, end: number, lenient: boolean, scanner = new FieldScanner()): ScannedResponse {
  const text = bytes.toString('latin1', start, end);
  const statusLine = lenient ? LENIENT_STATUS_LINE : STATUS_LINE;
  statusLine.lastIndex = 0;
  if (!statusLine.test(text)) throw refuseResponse('bad_request', 'the status line is not HTTP/1.x, a status and a reason');
  const next = statusLine.lastIndex;
  return {
    version: text.startsWith('1.0', 5) ? '1.0' : '1.1',
    status: Number(text.slice(9, 12)),
    reason: lenient ? lenientReason(text.slice(13, next)) : text.slice(13, next - 2),
    fields: lenient ? scanLenientFields(text, next, refuseResponse) : scanner.scan(text, next, refuseResponse),
  };
}

/** An odd reason is dropped as an odd field is. */
function lenientReason(rawLine: string): string {
  const reason = rawLine.replace(/\r?\n$/, '');
  if (/^[\t\x20-\x7e\x80-\xff]*$/.test(reason)) return reason;
  if (mayFrame(reason)) throw refuseResponse('bad_request', 'a malformed status line about framing');
  return '';
}
