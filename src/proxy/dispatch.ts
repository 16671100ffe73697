import type { Log } from '../log.ts';
import { tellLast } from './contained.ts';
import type { Timed } from './deadlines.ts';
import type { BackendRequest, BackendStream, Engine, Recipient } from './engine.ts';
import { ProxyError, type ProxyErrorCode } from './proxy-error.ts';
import type { RequestBody } from './request-body.ts';
import type { Upstream, UpstreamPool, Waiter } from './upstream.ts';

/** No byte of the request was sent. */
const UNCONNECTED: ReadonlySet<string> = new Set<ProxyErrorCode>(['backend_unreachable', 'backend_connect_timeout', 'backend_tls']);
/** RFC 9110, 9.2.2. */
const IDEMPOTENT = new Set(['GET', 'HEAD', 'OPTIONS', 'PUT', 'DELETE']);

/** What is dispatched: it is told what becomes of it, and its time is kept. */
type Dispatched = Recipient & Pick<Timed, 'deadline'>;

/** How a request gets to a backend of its route: it may have to wait for a place, and to try another one (HAProxy's redispatch). */
export class Dispatch implements Waiter {
  tried: Set<Upstream> | undefined;
  request: BackendRequest;
  readonly #recipient: Dispatched;
  readonly #engine: Engine;
  readonly #pool: UpstreamPool;
  readonly #log: Log;
  /** Nothing is lost with a kept connection that has died, nor done twice on another. */
  readonly #isSafe: boolean;
  #isQueued = false;
  /** When waiting for a place ends, by performance.now(); 0 before it begins. */
  #queueEnd = 0;
  #hasHadPlace = false;
  #upstream: Upstream | undefined;
  #stream: BackendStream | undefined;
  #isConnected = false;

  constructor(recipient: Dispatched, engine: Engine, pool: UpstreamPool, request: BackendRequest, log: Log) {
    const { method, framing } = request;
    this.request = request;
    this.#recipient = recipient;
    this.#engine = engine;
    this.#pool = pool;
    this.#log = log;
    this.#isSafe = (framing === 'none' || framing === 0) && IDEMPOTENT.has(method);
  }

  /** It waits for a place. */
  get isQueued(): boolean {
    return this.#isQueued;
  }

  /** The name of the backend that it has a place at. */
  get backend(): string | undefined {
    return this.#upstream?.address.name;
  }

  /** Undefined until the backend has accepted the connection. */
  get connected(): BackendStream | undefined {
    return this.#isConnected ? this.#stream : undefined;
  }

  /**
   * Sends the request, or waits.
   * @throws ProxyError backend_busy, the first time only
   */
  begin(): void {
    const upstream = this.#pool.take(this.tried, Date.now());
    if (upstream) return this.#send(upstream);
    this.#pool.wait(this, this.#hasHadPlace);
    this.#isQueued = true;
    this.#queueEnd ||= performance.now() + this.request.timeouts.queue;
    this.#recipient.deadline = this.#queueEnd;
  }

  admitted(upstream: Upstream): void {
    this.#isQueued = false;
    // It is the end of another exchange that admits this one.
    tellLast(this.#recipient, () => this.#send(upstream));
  }

  #send(upstream: Upstream): void {
    this.#hasHadPlace = true;
    // Connecting is the engine's to time.
    this.#recipient.deadline = Infinity;
    this.#upstream = upstream;
    try {
      this.#stream = this.#engine.send(upstream.address, this.request, this.#recipient);
    } catch (error) {
      if (error instanceof ProxyError) return this.#recipient.failed(error);
      throw error;
    }
    if (this.#stream.isConnected) this.#recipient.connected();
  }

  /** The backend has accepted the connection. */
  accepted(): BackendStream | undefined {
    this.#isConnected = true;
    this.#upstream?.reached();
    return this.#stream;
  }

  /**
   * @param body of the request
   * @returns whether the request begins anew, after a failure that allows it
   */
  repeat({ code, message, facts }: ProxyError, body: RequestBody | undefined): boolean {
    if (this.#upstream && UNCONNECTED.has(code)) {
      this.#upstream.unreachable(Date.now());
      this.tried ??= new Set();
      this.tried.add(this.#upstream);
      this.leave();
      if (this.#pool.size === this.tried.size) return false;
      this.#log.warn(`${message}; trying the next one`, { code, ...facts });
    } else if (code === 'backend_refused' && !this.request.isRepeated && body?.takeBack() !== false) {
      // Whatever it asks for: nothing has been done (RFC 9113, 8.7). Whoever refuses has too much to do, or is about to end.
      this.request = { ...this.request, isRepeated: true };
      if (this.#upstream && this.#pool.size > 1 + (this.tried?.size ?? 0)) this.tried = new Set(this.tried).add(this.#upstream);
      this.leave();
    } else if (code === 'backend_stale' && !this.request.isRepeated && this.#isSafe) {
      this.request = { ...this.request, isRepeated: true };
      this.leave();
    } else {
      this.#upstream?.reached();
      return false;
    }
    this.begin();
    return true;
  }

  abort(): void {
    this.#stream?.abort();
  }

  /** Gives its place back, or waits for none any more. */
  leave(): void {
    if (this.#isQueued) this.#pool.leave(this);
    this.#isQueued = false;
    const upstream = this.#upstream;
    this.#upstream = undefined;
    this.#stream = undefined;
    this.#isConnected = false;
    upstream?.release();
  }
}
