import type { BackendAddress } from '../config/values.ts';
import type { AnswerHandler } from '../http2/client-streams.ts';
import type { ClientSession } from '../http2/client-session.ts';
import { ConnectionError, ErrorCode, errorName } from '../http2/frames.ts';
import type { HeaderField } from '../http2/header-field.ts';
import type { Stream } from '../http2/stream.ts';
import { tellLast } from '../proxy/contained.ts';
import type { BackendRequest, BackendStream, Recipient } from '../proxy/engine.ts';
import { field, trailerFields, valuesOf, type Field } from '../proxy/headers.ts';
import { ProxyError, type ProxyErrorCode } from '../proxy/proxy-error.ts';
import { lossFacts } from './backend-socket.ts';
import type { BackendTls } from './backend-tls.ts';
import type { Http2AnswerHeads } from './http2-answer-head.ts';
import { type BodyTaker, Http2Body } from './http2-body.ts';

/** RFC 9113, 8.2.2: what belongs to a connection of HTTP/1; `:authority` says what Host said. */
const NOT_IN_HTTP2 = new Set(['connection', 'host', 'transfer-encoding', 'upgrade']);
const HTTP = field(':scheme', 'http');
const HTTPS = field(':scheme', 'https');
const CONTINUE = field('expect', '100-continue');

/** The session that a stream belongs to. */
export interface UpstreamStreamOwner {
  readonly heads: Http2AnswerHeads;
  /** Why the connection has ended, or does. */
  readonly loss: Error;
  /** The backend has begun an answer. */
  answered(): void;
  /** Something has come of an answer: `readEnded` is to be called when all that was read has been looked at. */
  collecting(stream: UpstreamStream): void;
  /**
   * The stream takes no more place.
   * @param isUnheard the backend had time to answer, and has not
   */
  left(stream: UpstreamStream, isUnheard: boolean): void;
}

/** One request to a backend that speaks HTTP/2, and its answer (RFC 9113, 8.1). */
export class UpstreamStream implements BackendStream, AnswerHandler, BodyTaker {
  isConnected = false;
  /** By performance.now(). */
  readonly beganAt = performance.now();
  /** What connections it wants. */
  readonly tls: BackendTls | undefined;
  readonly #request: BackendRequest;
  readonly #backend: BackendAddress;
  /** Undefined when nothing more is to be told. */
  #recipient: Recipient | undefined;
  #owner: UpstreamStreamOwner | undefined;
  #stream: Stream | undefined;
  /** It had to wait for a session; one that was there before may have been dead without anybody knowing. */
  #hasWaited = false;
  /** Bytes of the request body that are to come, and nothing behind them; -1 where only its end will tell. */
  #left: number;
  /** Something has come from the backend. */
  #isHeard = false;
  #isAnswered = false;
  /** Of the answer. */
  #body: Http2Body | undefined;
  #isPaused = false;
  #isCollecting = false;

  constructor(backend: BackendAddress, tls: BackendTls | undefined, request: BackendRequest, recipient: Recipient) {
    this.tls = tls;
    this.#backend = backend;
    this.#request = request;
    this.#recipient = recipient;
    this.#left = typeof request.framing !== 'number' || request.mayHaveTrailers ? -1 : request.framing;
  }

  /** Until when it is to have a connection. */
  get connectBy(): number {
    return this.beganAt + this.#request.timeouts.connect;
  }

  /** Waits for a place. */
  wait(owner: UpstreamStreamOwner): void {
    this.#owner = owner;
    this.#hasWaited = true;
  }

  /** Sends the head. */
  begin(session: ClientSession, owner: UpstreamStreamOwner): void {
    const { framing } = this.#request;
    this.#owner = owner;
    this.isConnected = true;
    this.#stream = session.request(headOf(this.#request, this.tls !== undefined), framing === 'none' || framing === 0, this);
    if (this.#hasWaited) this.#contained(() => this.#recipient?.connected());
  }

  /** Ends with an error. */
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
    if (this.#left !== -1) this.#left -= piece.length;
    return this.#stream?.write(piece, this.#left === 0, release) !== false;
  }

  /** Frames are collected and sent once a turn of the event loop. */
  flush(): void {}

  end(trailers: readonly Field[]): void {
    this.#stream?.end(trailerFields(trailers));
  }

  drained(): void {
    this.#contained(() => this.#recipient?.drained());
  }

  pause(): void {
    this.#isPaused = true;
  }

  resume(): void {
    if (!this.#isPaused) return;
    this.#isPaused = false;
    this.#body?.release();
    this.#recipient?.flush();
  }

  abort(): void {
    if (!this.#recipient) return;
    this.#recipient = undefined;
    this.#body?.close();
    if (this.#stream) this.#stream.reset(ErrorCode.CANCEL);
    else this.#owner?.left(this, false);
  }

  // The answer.

  informed(status: number, fields: readonly HeaderField[]): void {
    this.#isHeard = true;
    this.#contained(() => this.#recipient?.informed(status, fields));
  }

  answered(status: number, fields: readonly HeaderField[], isComplete: boolean): void {
    this.#isHeard = true;
    this.#isAnswered = true;
    this.#owner?.answered();
    try {
      const head = this.#owner!.heads.read({ status, fields, method: this.#request.method, isComplete });
      this.#stream!.contentLeft = head.framing === 'chunked' ? -1 : head.framing === 'none' ? 0 : head.framing;
      if (!isComplete) this.#body = new Http2Body(this, false, () => this.#collecting());
      this.#recipient?.answered(head);
      this.#collecting();
    } catch (error) {
      if (error instanceof ProxyError) this.fail(this.#error(error.code, error.message, error.facts));
      else this.fault(error as Error);
    }
  }

  data(piece: Buffer): void {
    if (this.#recipient) this.#contained(() => this.#body?.add(piece));
    else this.#stream?.consumed(piece.length);
  }

  ended(trailers: readonly HeaderField[]): void {
    this.#contained(() => (this.#body ? this.#body.end(trailers) : this.bodyEnded(trailers)));
  }

  take(piece: Buffer, release?: () => void): boolean {
    this.#stream?.consumed(piece.length);
    this.#recipient?.received(piece, release);
    return !this.#isPaused;
  }

  bodyEnded(trailers: readonly Field[]): void {
    const recipient = this.#recipient;
    this.#recipient = undefined;
    if (recipient) tellLast(recipient, () => recipient.ended(trailers));
    // What is left of the request is of no use to anyone.
    this.#stream?.reset(ErrorCode.CANCEL);
  }

  /** All that was read has been looked at. */
  readEnded(): void {
    this.#isCollecting = false;
    this.#contained(() => {
      this.#body?.flush();
      this.#recipient?.flush();
    });
  }

  closed(): void {
    const stream = this.#stream!;
    this.#owner?.left(this, !this.#isHeard && performance.now() - this.beganAt > this.#request.timeouts.connect);
    // The backend has said everything; the client may still be taking it.
    if (!stream.isReceived && this.#recipient) this.fail(this.#ending(stream));
  }

  /** A fault of ours ends this stream and no other. */
  #contained(act: () => void): void {
    try {
      act();
    } catch (error) {
      this.fault(error as Error);
    }
  }

  #collecting(): void {
    if (this.#isCollecting) return;
    this.#isCollecting = true;
    this.#owner?.collecting(this);
  }

  /** Why the answer does not come, or not to its end. */
  #ending({ resetCode, misuse }: Stream): ProxyError {
    const { loss } = this.#owner!;
    if (misuse !== undefined || (resetCode === undefined && loss instanceof ConnectionError)) {
      return this.#error('backend_bad_response', "the backend's answer is malformed", { cause: misuse ?? loss.message });
    }
    const facts = resetCode === undefined ? lossFacts(loss) : { cause: 'reset', reset: errorName(resetCode) };
    if (this.#isAnswered) return this.#error('backend_closed', 'the backend broke off its answer; the client was cut', facts);
    // RFC 9113, 8.7: it has not been looked at.
    if (resetCode === ErrorCode.REFUSED_STREAM && !this.#isHeard) return this.#error('backend_refused', 'the backend refused the request unseen', facts);
    if (resetCode === undefined && !this.#hasWaited && !this.#isHeard) {
      return this.#error('backend_stale', 'a kept connection to the backend was dead', facts);
    }
    return this.#error('backend_closed', `the backend closed the ${resetCode === undefined ? 'connection' : 'stream'} without an answer`, facts);
  }

  #error(code: ProxyErrorCode, message: string, facts: ProxyError['facts'] = {}): ProxyError {
    return new ProxyError(code, message, { backend: this.#backend.name, ...facts });
  }
}

/** The head as HTTP/2 has it (RFC 9113, 8.3.1). */
function headOf({ method, target, fields, expectContinue }: BackendRequest, isEncrypted: boolean): Field[] {
  const [authority = ''] = valuesOf(fields.list, 'host');
  const head = [field(':method', method), isEncrypted ? HTTPS : HTTP, field(':authority', authority), field(':path', target)];
  for (const one of fields.list) if (!NOT_IN_HTTP2.has(one.key)) head.push(one);
  if (expectContinue) head.push(CONTINUE);
  return head;
}
