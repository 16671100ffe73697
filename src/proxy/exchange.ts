import type { Duplex } from 'node:stream';
import type { ClientStream } from './client-stream.ts';
import type { Deadlines, Timed } from './deadlines.ts';
import { Dispatch } from './dispatch.ts';
import type { AnswerHead, BackendRequest, Engine, Recipient, TunnelTraffic } from './engine.ts';
import { acceptsTrailers, countedFields, field, FieldList, responseFields, trailerFields, valuesOf, type Field } from './headers.ts';
import { ProxyError } from './proxy-error.ts';
import type { RequestHead } from './request-head.ts';
import { page } from './page.ts';
import { RequestBody } from './request-body.ts';
import type { RequestLog } from './request-log.ts';
import { type UpstreamPool, waitedInVain } from './upstream.ts';

/** Interim answers to one request. */
const MAX_INTERIM = 100;

/**
 * One request and its answer, between a client's stream and a backend's. Ends exactly once: with the answer complete,
 * with a page, or with the client cut; whatever comes after that is ignored.
 */
export class Exchange implements Recipient, Timed {
  deadline = Infinity;
  readonly #client: ClientStream;
  readonly #head: RequestHead | undefined;
  readonly #log: RequestLog;
  readonly #deadlines: Deadlines;
  /** Undefined while nothing is forwarded. */
  #dispatch: Dispatch | undefined;
  /** Undefined where the request has none. */
  #body: RequestBody | undefined;
  /** Something of the answer has come since the limit was set. */
  #hasMoved = false;
  #interim = 0;
  #status = 0;
  #bytes = 0;
  #over = false;

  constructor(client: ClientStream, head: RequestHead | undefined, log: RequestLog, deadlines: Deadlines) {
    this.#client = client;
    this.#head = head;
    this.#log = log;
    this.#deadlines = deadlines;
  }

  /** The answer is complete, or the client cut. */
  get isOver(): boolean {
    return this.#over;
  }

  /** A fault of ours: it ends this exchange and no other. */
  fault(error: Error): void {
    this.#log.fault(error);
    if (this.#over) return;
    this.#status ||= 500;
    this.#dispatch?.abort();
    this.#finish();
    this.#client.cut();
  }

  /**
   * Sends the request to a backend of its route.
   * @param bodyRate bytes per second that the client must send of a body; 0 for any
   * @throws ProxyError backend_busy
   */
  forward(engine: Engine, pool: UpstreamPool, request: BackendRequest, bodyRate: number): void {
    const { framing, expectContinue, route, timeouts } = request;
    this.#dispatch = new Dispatch(this, engine, pool, request, this.#log.log);
    if (framing !== 'none' && framing !== 0)
      this.#body = new RequestBody({ pause: timeouts.requestBody, rate: bodyRate }, expectContinue, route.httpVersion === '2');
    this.#deadlines.watch(this);
    if (framing === 'chunked' && route.httpVersion === '1.0') {
      this.#body?.buffer(route.maxBufferedBody);
      this.#arm();
    } else {
      this.#dispatch.begin();
    }
  }

  /** Answers with what is complete already. */
  respond(status: number, reason: string, fields: readonly Field[], body: Buffer, last = false): void {
    if (this.#over) return;
    this.#status = status;
    this.#client.respond({ status, reason, fields: new FieldList(fields), framing: body.length }, last);
    if (body.length > 0) this.#client.write(body);
    this.#bytes = body.length;
    this.#finish();
    this.#client.end([]);
  }

  /** Answers with the page of an error, or cuts the client when an answer has begun. */
  refuse(error: ProxyError): void {
    if (this.#over) return;
    this.#dispatch?.abort();
    this.#log.refused(error, this.#dispatch?.backend);
    if (this.#status > 0 || error.code === 'client_gone') {
      this.#status ||= error.status;
      this.#finish();
      this.#client.cut(error);
      return;
    }
    const { reason, fields, body } = page(error.status, this.#head && valuesOf(this.#head.fields, 'accept')[0]);
    if (error.code === 'method_not_allowed') fields.push(field('Allow', 'GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS'));
    this.respond(error.status, reason, fields, body, error.code === 'client_body_timeout');
  }

  // From the client.

  /** A piece of the request body. @returns false when the client should wait for `resumeBody` */
  body(piece: Buffer, release?: () => void): boolean {
    if (this.#over || !this.#body) return true;
    const now = performance.now();
    const backend = this.#dispatch?.connected;
    try {
      const mayGoOn = this.#body.add(piece, release, backend, now);
      if (backend || mayGoOn) this.#arm(now);
      return mayGoOn;
    } catch (error) {
      if (!(error instanceof ProxyError)) throw error;
      this.refuse(error);
      return true;
    }
  }

  bodyEnded(trailers: readonly Field[]): void {
    if (this.#over) return;
    const length = this.#body?.end(trailers);
    if (length !== undefined) return this.#sendBuffered(length);
    const backend = this.#dispatch?.connected;
    if (!backend) return;
    backend.end(trailers);
    this.#arm();
  }

  /** What was given of the body so far may be sent. */
  flushBody(): void {
    if (!this.#over) this.#dispatch?.connected?.flush();
  }

  clientDrained(): void {
    if (this.#over) return;
    this.#dispatch?.connected?.resume();
    this.#arm();
  }

  clientGone(): void {
    if (this.#over) return;
    this.refuse(new ProxyError('client_gone', this.#status > 0 ? 'the client went away during the answer' : 'the client went away'));
  }

  // From the backend.

  connected(): void {
    const backend = this.#over ? undefined : this.#dispatch?.accepted();
    if (!backend) return;
    if (this.#body) this.#body.send(backend);
    else backend.end([]);
    backend.flush();
    if (this.#body?.awaitsClient) this.#client.resumeBody();
    this.#arm();
  }

  drained(): void {
    if (this.#over || !this.#body) return;
    this.#body.isBlocked = false;
    this.#arm();
    this.#client.resumeBody();
  }

  informed(status: number, fields: readonly Field[]): void {
    if (this.#over || this.#status > 0) return;
    this.#interim += 1;
    if (this.#interim > MAX_INTERIM) {
      const facts = { backend: this.#dispatch?.backend };
      return this.failed(new ProxyError('backend_bad_response', 'the backend sends interim answers without end', facts));
    }
    if (status === 100 && !this.#dispatch?.request.expectContinue) return;
    if (status === 100 && this.#body) this.#body.isBlocked = false;
    if (status === 100 || status === 103) this.#client.inform(status, responseFields(status, fields));
    this.#arm();
  }

  answered(answer: AnswerHead): void {
    if (this.#over) return;
    // To who asked with CONNECT it would mean that the WebSocket is open (RFC 8441, 5).
    if (this.#head?.webSocketAccept !== undefined && answer.status < 300) {
      return this.refuse(new ProxyError('backend_bad_response', 'the backend answered the request for a WebSocket with something else'));
    }
    this.#status = answer.status;
    this.#client.respond(answer, false);
    this.#hasMoved = true;
  }

  received(piece: Buffer, release?: () => void): void {
    if (this.#over) return;
    this.#bytes += piece.length;
    if (!this.#client.write(piece, release)) this.#dispatch?.connected?.pause();
    this.#hasMoved = true;
  }

  flush(): void {
    if (this.#over) return;
    this.#client.flush();
    if (this.#hasMoved) this.#arm();
  }

  ended(trailers: readonly Field[]): void {
    if (this.#over) return;
    this.#finish();
    this.#client.end(trailers.length > 0 && this.#takesTrailers ? trailerFields(trailers) : []);
  }

  switched({ fields }: AnswerHead, join: (client: Duplex, idle: number) => Promise<TunnelTraffic>): void {
    if (this.#over) return;
    const accept = this.#head?.webSocketAccept;
    if (accept !== undefined && valuesOf(fields.list, 'sec-websocket-accept').join() !== accept) {
      return this.refuse(new ProxyError('backend_bad_response', 'the backend accepted another WebSocket than the one that was asked for'));
    }
    this.#status = 101;
    this.deadline = Infinity;
    const client = this.#client.switchProtocols(fields.list);
    if (!client) return this.clientGone();
    void join(client, this.#dispatch!.request.timeouts.tunnel).then(({ sent }) => {
      this.#bytes = sent;
      this.#finish();
      this.#client.end([]);
    });
  }

  failed(error: ProxyError): void {
    if (!this.#over && !this.#dispatch?.repeat(error, this.#body)) this.refuse(error);
  }

  expire(): void {
    const { request, backend, isQueued } = this.#dispatch!;
    if (isQueued) {
      this.refuse(waitedInVain());
    } else if (this.#status > 0) {
      this.refuse(new ProxyError('response_stalled', 'the answer stood still; the client was cut', { setting: 'timeouts.response_body' }));
    } else if (this.#body?.awaitsClient) {
      this.refuse(this.#body.late());
    } else {
      const what = request.framing === 'none' ? 'the backend did not answer in time' : 'the backend did not answer or read on in time';
      this.refuse(new ProxyError('backend_timeout', what, { backend, setting: 'timeouts.response_header' }));
    }
  }

  /** In HTTP/2 there is no harm in trailers that nobody asked for (RFC 9110, 6.5.1). */
  get #takesTrailers(): boolean {
    return this.#head !== undefined && (this.#head.version === '2' || acceptsTrailers(this.#head.fields));
  }

  /** Sets the limit of the phase that the exchange is in now. */
  #arm(now = performance.now()): void {
    const { timeouts } = this.#dispatch!.request;
    if (this.#status > 0) this.deadline = now + timeouts.responseBody;
    else if (this.#body?.awaitsClient) this.deadline = this.#body.deadline(now);
    else this.deadline = now + timeouts.responseHeader;
    this.#hasMoved = false;
  }

  #sendBuffered(length: number): void {
    const dispatch = this.#dispatch!;
    const { request } = dispatch;
    dispatch.request = { ...request, framing: length, fields: countedFields(request.fields, length) };
    try {
      dispatch.begin();
    } catch (error) {
      this.refuse(error as ProxyError);
    }
  }

  #finish(): void {
    this.#over = true;
    const backend = this.#dispatch?.backend;
    this.#dispatch?.leave();
    this.#body?.release();
    this.#deadlines.forget(this);
    this.#log.ended(this.#status, this.#bytes, backend);
  }
}
