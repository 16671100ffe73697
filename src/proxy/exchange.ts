import type { Duplex } from 'node:stream';
import type { Log } from '../log.ts';
import type { ClientStream } from './client-stream.ts';
import { tellLast } from './contained.ts';
import type { Deadlines, Timed } from './deadlines.ts';
import type { AnswerHead, BackendRequest, BackendStream, Engine, Recipient, TunnelTraffic } from './engine.ts';
import { acceptsTrailers, countedFields, field, FieldList, responseFields, trailerFields, valuesOf, type Field } from './headers.ts';
import { ProxyError, type ProxyErrorCode } from './proxy-error.ts';
import type { RequestHead } from './request-head.ts';
import { page } from './page.ts';
import { RequestBody } from './request-body.ts';
import { type Upstream, type UpstreamPool, waitedInVain, type Waiter } from './upstream.ts';

/** Where a request goes. */
export interface Forwarding {
  engine: Engine;
  pool: UpstreamPool;
  request: BackendRequest;
  /** How long a WebSocket without traffic is kept, in ms. */
  tunnelIdle: number;
  /** Bytes per second that a client must send of a request body; 0 for any. */
  bodyRate: number;
}

/** No byte of the request was sent. */
const UNCONNECTED: ReadonlySet<string> = new Set<ProxyErrorCode>(['backend_unreachable', 'backend_connect_timeout', 'backend_tls']);
/** RFC 9110, 9.2.2. */
const IDEMPOTENT = new Set(['GET', 'HEAD', 'OPTIONS', 'PUT', 'DELETE']);

/** Interim answers to one request. */
const MAX_INTERIM = 100;

/**
 * One request and its answer, between a client's stream and a backend's. Ends exactly once: with the answer complete,
 * with a page, or with the client cut; whatever comes after that is ignored.
 */
export class Exchange implements Recipient, Timed, Waiter {
  deadline = Infinity;
  tried: Set<Upstream> | undefined;
  readonly #client: ClientStream;
  readonly #head: RequestHead | undefined;
  /** What the log calls the request. */
  readonly #line: string;
  readonly #log: Log;
  readonly #deadlines: Deadlines;
  /** 0 when the exchange is not to be logged. */
  readonly #startedAt: number;
  #forwarding: Forwarding | undefined;
  #isQueued = false;
  /** When waiting for a place at a backend ends, by performance.now(); 0 before it begins. */
  #queueEnd = 0;
  #hasHadPlace = false;
  #upstream: Upstream | undefined;
  #backend: BackendStream | undefined;
  #connected = false;
  /** Undefined where the request has none. */
  #body: RequestBody | undefined;
  #repeatable = false;
  /** Something of the answer has come since the limit was set. */
  #hasMoved = false;
  #interim = 0;
  #status = 0;
  #bytes = 0;
  #over = false;

  constructor(
    client: ClientStream,
    head: RequestHead | undefined,
    line: string,
    { log, deadlines, access }: { log: Log; deadlines: Deadlines; access: boolean },
  ) {
    this.#client = client;
    this.#head = head;
    this.#line = line;
    this.#log = log;
    this.#deadlines = deadlines;
    this.#startedAt = access ? performance.now() : 0;
  }

  /** The answer is complete, or the client cut. */
  get isOver(): boolean {
    return this.#over;
  }

  /** A fault of ours: it ends this exchange and no other. */
  fault(error: Error): void {
    this.#log.error(`internal error: ${error.message}`, { code: 'internal', at: error.stack?.split('\n')[1]?.trim(), request: this.#line.slice(0, 1024) });
    if (this.#over) return;
    this.#status ||= 500;
    this.#backend?.abort();
    this.#finish();
    this.#client.cut();
  }

  /**
   * Sends the request to a backend of its route.
   * @throws ProxyError backend_busy
   */
  forward(forwarding: Forwarding): void {
    const { method, framing, expectContinue, route, timeouts } = forwarding.request;
    this.#forwarding = forwarding;
    if (framing === 'none' || framing === 0) this.#repeatable = IDEMPOTENT.has(method);
    else this.#body = new RequestBody({ pause: timeouts.requestBody, rate: forwarding.bodyRate }, expectContinue);
    this.#deadlines.watch(this);
    if (framing === 'chunked' && route.httpVersion === '1.0') {
      this.#body?.buffer(route.maxBufferedBody);
      this.#arm();
    } else {
      this.#dispatch();
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
    this.#backend?.abort();
    this.#explain(error);
    if (this.#status > 0 || error.code === 'client_gone') {
      this.#status ||= error.status;
      this.#finish();
      this.#client.cut();
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
    try {
      const mayGoOn = this.#body.add(piece, release, this.#connected ? this.#backend : undefined, now);
      if (this.#connected || mayGoOn) this.#arm(now);
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
    if (!this.#connected) return;
    this.#backend?.end(trailers);
    this.#arm();
  }

  /** What was given of the body so far may be sent. */
  flushBody(): void {
    if (!this.#over && this.#connected) this.#backend?.flush();
  }

  clientDrained(): void {
    if (this.#over) return;
    this.#backend?.resume();
    this.#arm();
  }

  clientGone(): void {
    if (this.#over) return;
    this.refuse(new ProxyError('client_gone', this.#status > 0 ? 'the client went away during the answer' : 'the client went away'));
  }

  // From the backend.

  connected(): void {
    if (this.#over || !this.#backend) return;
    this.#connected = true;
    this.#upstream?.reached();
    if (this.#body) this.#body.send(this.#backend);
    else this.#backend.end([]);
    this.#backend.flush();
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
      const facts = { backend: this.#upstream?.address.name };
      return this.failed(new ProxyError('backend_bad_response', 'the backend sends interim answers without end', facts));
    }
    if (status === 100 && !this.#forwarding?.request.expectContinue) return;
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
    if (!this.#client.write(piece, release)) this.#backend?.pause();
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
    void join(client, this.#forwarding?.tunnelIdle ?? 0).then(({ sent }) => {
      this.#bytes = sent;
      this.#finish();
      this.#client.end([]);
    });
  }

  failed(error: ProxyError): void {
    if (this.#over) return;
    const { code } = error;
    const unconnected = UNCONNECTED.has(code);
    const pool = this.#forwarding?.pool;
    if (this.#upstream && unconnected) {
      this.#upstream.unreachable(Date.now());
      this.tried ??= new Set();
      this.tried.add(this.#upstream);
      this.#release();
      if (pool && pool.size > this.tried.size) {
        this.#log.warn(`${error.message}; trying the next one`, { code, ...error.facts });
        return this.#dispatch();
      }
    } else if (code === 'backend_stale' && this.#repeatable) {
      this.#repeatable = false;
      this.#release();
      return this.#dispatch();
    } else {
      this.#upstream?.reached();
    }
    this.refuse(error);
  }

  expire(): void {
    const { request } = this.#forwarding!;
    const backend = this.#upstream?.address.name;
    if (this.#isQueued) {
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
    const { timeouts } = this.#forwarding!.request;
    if (this.#status > 0) this.deadline = now + timeouts.responseBody;
    else if (this.#body?.awaitsClient) this.deadline = this.#body.deadline(now);
    else this.deadline = now + timeouts.responseHeader;
    this.#hasMoved = false;
  }

  #sendBuffered(length: number): void {
    const forwarding = this.#forwarding!;
    const { request } = forwarding;
    forwarding.request = { ...request, framing: length, fields: countedFields(request.fields, length) };
    try {
      this.#dispatch();
    } catch (error) {
      this.refuse(error as ProxyError);
    }
  }

  #dispatch(): void {
    const { pool, request } = this.#forwarding!;
    const upstream = pool.take(this.tried, Date.now());
    if (upstream) return this.#send(upstream);
    pool.wait(this, this.#hasHadPlace);
    this.#isQueued = true;
    this.#queueEnd ||= performance.now() + request.timeouts.queue;
    this.deadline = this.#queueEnd;
  }

  admitted(upstream: Upstream): void {
    this.#isQueued = false;
    // It is the end of another exchange that admits this one.
    tellLast(this, () => this.#send(upstream));
  }

  #send(upstream: Upstream): void {
    const { engine, request } = this.#forwarding!;
    this.#hasHadPlace = true;
    // Connecting is the engine's to time.
    this.deadline = Infinity;
    this.#upstream = upstream;
    try {
      this.#backend = engine.send(upstream.address, request, this);
    } catch (error) {
      if (error instanceof ProxyError) return this.failed(error);
      throw error;
    }
    if (this.#backend.isConnected) this.connected();
  }

  #release(): void {
    const upstream = this.#upstream;
    this.#upstream = undefined;
    this.#backend = undefined;
    this.#connected = false;
    upstream?.release();
  }

  #finish(): void {
    this.#over = true;
    const backend = this.#upstream?.address.name;
    if (this.#isQueued) this.#forwarding?.pool.leave(this);
    this.#release();
    this.#body?.release();
    this.#deadlines.forget(this);
    if (this.#startedAt === 0) return;
    this.#log.info(this.#line.slice(0, 1024), {
      status: this.#status,
      bytes: this.#bytes,
      ms: Math.round(performance.now() - this.#startedAt),
      client: this.#client.connection.clientAddress,
      backend,
    });
  }

  #explain(error: ProxyError): void {
    const level = error.code === 'internal' ? 'error' : error.status >= 500 ? 'warn' : 'debug';
    this.#log[level](error.message, {
      code: error.code,
      backend: this.#upstream?.address.name,
      ...error.facts,
      client: this.#client.connection.clientAddress,
      request: this.#line.slice(0, 1024),
    });
  }
}
