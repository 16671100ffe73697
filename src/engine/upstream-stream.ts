import { STATUS_CODES } from 'node:http';
import { constants, type ClientHttp2Session, type ClientHttp2Stream, type OutgoingHttpHeaders } from 'node:http2';
import type { BackendAddress } from '../config/values.ts';
import { contained, tellLast } from '../proxy/contained.ts';
import type { AnswerHead, BackendRequest, BackendStream, Recipient } from '../proxy/engine.ts';
import { field, FieldList, fieldsFromRaw, trailerFields, valuesOf, type Field } from '../proxy/headers.ts';
import { ProxyError, type ProxyErrorCode } from '../proxy/proxy-error.ts';
import { isSendable, parseResponseHead } from './response-head.ts';

/** RFC 9113, 8.2.2: what belongs to a connection of HTTP/1; `:authority` says what Host said. */
const NOT_IN_HTTP2 = new Set(['connection', 'host', 'transfer-encoding']);

/** By their number (RFC 9113, 7). */
const ERROR_CODES = (
  'NO_ERROR PROTOCOL_ERROR INTERNAL_ERROR FLOW_CONTROL_ERROR SETTINGS_TIMEOUT STREAM_CLOSED FRAME_SIZE_ERROR REFUSED_STREAM CANCEL ' +
  'COMPRESSION_ERROR CONNECT_ERROR ENHANCE_YOUR_CALM INADEQUATE_SECURITY HTTP_1_1_REQUIRED'
).split(' ');

/** The session that a stream belongs to. */
export interface UpstreamStreamOwner {
  /** The backend has begun an answer. */
  answered(): void;
  /**
   * The stream takes no more place.
   * @param isUnheard the backend had time to answer, and has not
   */
  left(stream: UpstreamStream, isUnheard: boolean): void;
}

/** One request to a backend that speaks HTTP/2, and its answer (RFC 9113, 8.1). */
export class UpstreamStream implements BackendStream {
  isConnected = false;
  readonly #backend: BackendAddress;
  readonly #request: BackendRequest;
  readonly #owner: UpstreamStreamOwner;
  /** By performance.now(). */
  readonly beganAt = performance.now();
  /** Undefined when nothing more is to be told. */
  #recipient: Recipient | undefined;
  #stream: ClientHttp2Stream | undefined;
  #requestTrailers: readonly Field[] = [];
  #isAnswered = false;
  /** A flush is to come. */
  #isFlushing = false;
  /** The end of the answer has come. */
  #isWhole = false;
  /** `close` would end the stream before it resets it, and the backend could take what it has for the whole request. */
  readonly #reset = new AbortController();
  #cause: NodeJS.ErrnoException | undefined;

  constructor(backend: BackendAddress, request: BackendRequest, recipient: Recipient, owner: UpstreamStreamOwner) {
    this.#backend = backend;
    this.#request = request;
    this.#recipient = recipient;
    this.#owner = owner;
  }

  /**
   * Sends the head.
   * @param isReused the session was there before: it may be dead without anybody knowing
   */
  begin(session: ClientHttp2Session, isReused: boolean): void {
    const { framing } = this.#request;
    // Only what has no length can have trailers; else the last DATA ends the stream.
    const options = { endStream: framing === 'none' || framing === 0, waitForTrailers: framing === 'chunked', signal: this.#reset.signal };
    const stream = session.request(headOf(this.#request, session.encrypted === true), options);
    this.#stream = stream;
    this.isConnected = true;
    // Node ends what was reset with NO_ERROR as if it were whole. Before the stream is closed, the end is the backend's.
    const push = stream.push.bind(stream);
    stream.push = (piece: Buffer | null) => {
      if (piece === null && !stream.closed) this.#isWhole = true;
      return push(piece);
    };
    const on = contained(stream, (error) => this.fault(error));
    on('headers', (_headers: unknown, _flags: number, raw: string[]) => this.#recipient?.informed(statusOf(raw), fieldsOf(raw).filter(isSendable)));
    on('response', (_headers: unknown, flags: number, raw: string[]) => this.#answer(stream, raw, (flags & constants.NGHTTP2_FLAG_END_STREAM) !== 0));
    on('drain', () => this.#recipient?.drained());
    on('wantTrailers', () => stream.sendTrailers(trailersOf(this.#requestTrailers)));
    on('error', (error: NodeJS.ErrnoException) => (this.#cause = error));
    on('close', () => this.#closed(stream, isReused && session.destroyed));
  }

  /** The connection stands now. */
  connected(session: ClientHttp2Session): void {
    this.begin(session, false);
    this.#recipient?.connected();
  }

  /** Ends with an error that is not of this stream alone. */
  fail(error: ProxyError): void {
    const recipient = this.#recipient;
    this.abort();
    if (recipient) tellLast(recipient, () => recipient.failed(error));
  }

  fault(error: Error): void {
    const recipient = this.#recipient;
    this.abort();
    recipient?.fault(error);
  }

  // The request.

  write(piece: Buffer, release?: () => void): boolean {
    return this.#stream?.writable !== true || this.#stream.write(piece, release);
  }

  /** Frames are collected and sent once a turn of the event loop. */
  flush(): void {}

  end(trailers: readonly Field[]): void {
    this.#requestTrailers = trailerFields(trailers);
    if (this.#stream?.writable === true) this.#stream.end();
  }

  pause(): void {
    this.#stream?.pause();
  }

  resume(): void {
    this.#stream?.resume();
  }

  abort(): void {
    if (!this.#recipient) return;
    this.#recipient = undefined;
    // After the answer, what is left of the request is of no use to anyone.
    if (!this.#isWhole || this.#stream?.writableFinished !== true) this.#reset.abort();
    this.#owner.left(this, !this.#isAnswered && performance.now() - this.beganAt > this.#request.timeouts.connect);
  }

  // The answer.

  #answer(stream: ClientHttp2Stream, raw: string[], isComplete: boolean): void {
    const recipient = this.#recipient;
    if (!recipient) return;
    this.#isAnswered = true;
    this.#owner.answered();
    let trailers: readonly Field[] = [];
    try {
      recipient.answered(this.#head(raw, isComplete));
    } catch (error) {
      if (error instanceof ProxyError) return this.fail(this.#error(error.code, error.message, error.facts));
      throw error;
    }
    const on = contained(stream, (error) => this.fault(error));
    on('trailers', (_headers: unknown, _flags: number, raw: string[]) => (trailers = fieldsOf(raw).filter(isSendable)));
    on('data', (piece: Buffer) => {
      this.#recipient?.received(piece);
      this.#flushSoon();
    });
    on('end', () => {
      if (!this.#isWhole) return;
      const ending = this.#recipient;
      this.abort();
      if (ending) tellLast(ending, () => ending.ended(trailers));
    });
    this.#flushSoon();
  }

  /** Node tells of the frames of one read one by one: what they say goes on together, at the end of this turn. */
  #flushSoon(): void {
    if (this.#isFlushing) return;
    this.#isFlushing = true;
    setImmediate(() => {
      this.#isFlushing = false;
      tellLast(this, () => this.#recipient?.flush());
    });
  }

  /** @throws ProxyError backend_bad_response */
  #head(raw: string[], isComplete: boolean): AnswerHead {
    const fields = fieldsOf(raw);
    const malformed = fields.find((field) => !isSendable(field));
    if (malformed) throw new ProxyError('backend_bad_response', "the backend's answer is malformed", { cause: `field ${JSON.stringify(malformed.name)}` });
    const status = statusOf(raw);
    const head = parseResponseHead({ version: '1.1', status, reason: STATUS_CODES[status] ?? '', fields }, this.#request.method, false);
    if (!isComplete || head.framing !== 'chunked') return head;
    // gRPC's errors are such: nothing follows, and this is to be known at once.
    return { ...head, framing: 0, fields: new FieldList([...head.fields.list, field('Content-Length', '0')]) };
  }

  #closed(stream: ClientHttp2Stream, isStale: boolean): void {
    const code = stream.rstCode ?? 0;
    const facts = { cause: this.#cause?.code ?? 'closed', ...(code !== 0 && { reset: ERROR_CODES[code] ?? code }) };
    if (this.#isAnswered) this.fail(this.#error('backend_closed', 'the backend broke off its answer; the client was cut', facts));
    // RFC 9113, 8.7: nothing has been done with it.
    else if (isStale || code === constants.NGHTTP2_REFUSED_STREAM)
      this.fail(this.#error('backend_stale', 'the backend took no more requests on a kept connection', facts));
    else if (code === constants.NGHTTP2_PROTOCOL_ERROR) this.fail(this.#error('backend_bad_response', "the backend's answer is malformed", facts));
    else this.fail(this.#error('backend_closed', 'the backend closed the stream without an answer', facts));
  }

  #error(code: ProxyErrorCode, message: string, facts: ProxyError['facts']): ProxyError {
    return new ProxyError(code, message, { backend: this.#backend.name, ...facts });
  }
}

/** The head as HTTP/2 has it (RFC 9113, 8.3.1): names and values in turn. */
function headOf({ method, target, fields, expectContinue }: BackendRequest, isEncrypted: boolean): string[] {
  const [authority = ''] = valuesOf(fields.list, 'host');
  const raw = [':method', method, ':scheme', isEncrypted ? 'https' : 'http', ':authority', authority, ':path', target];
  for (const { key, value } of fields.list) if (!NOT_IN_HTTP2.has(key)) raw.push(key, value);
  if (expectContinue) raw.push('expect', '100-continue');
  return raw;
}

function statusOf(raw: readonly string[]): number {
  return Number(raw[raw.indexOf(':status') + 1]);
}

function fieldsOf(raw: readonly string[]): Field[] {
  return fieldsFromRaw(raw).filter(({ name }) => !name.startsWith(':'));
}

/** The values of a repeated field stay together: Node takes no list here. */
function trailersOf(fields: readonly Field[]): OutgoingHttpHeaders {
  const headers: OutgoingHttpHeaders = {};
  for (const [key, group] of Map.groupBy(fields, ({ key }) => key)) headers[key] = group.map(({ value }) => value);
  return headers;
}
