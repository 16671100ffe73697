import { BufferedBody } from './buffered-body.ts';
import type { BackendStream } from './engine.ts';
import type { Field } from './headers.ts';
import { ProxyError } from './proxy-error.ts';

/** Bytes of a body that are kept for another backend, if the first says that it has not looked at them; most messages of gRPC are smaller. */
const MAX_KEPT = 16_384;
/** In how many pieces: single bytes would occupy a hundred times as much (CVE-2019-9511 and its kin). */
const MAX_PIECES = 64;

/** How fast a client must send. */
export interface Pace {
  /** ms that may pass between two pieces. */
  pause: number;
  /** Bytes per second, on average; 0 for any. */
  rate: number;
}

/**
 * The body of a request, from the client to whichever backend is connected. It knows whose turn it is, and how long a client may
 * take: `pause` to begin with, and longer only for what it sends, as with Apache's `RequestReadTimeout body=60,MinRate=500`. By
 * pauses alone, one byte a minute would occupy a backend for ever.
 */
export class RequestBody {
  /** What came behind it; undefined until it has been read to its end. */
  trailers: readonly Field[] | undefined;
  /** The backend takes no more for now, or the client waits for a 100 (Continue). */
  isBlocked: boolean;
  readonly #pace: Pace;
  /** ms that the client may take when it is its turn. */
  #patience: number;
  /** Since when it is, by performance.now(). */
  #waitingSince: number | undefined;
  /** Pieces that wait for a connection. */
  #held: Buffer[] = [];
  /** What has been given to a backend, as long as it is all and little. */
  #given: Buffer[] | undefined;
  #givenBytes = 0;
  /** What the backend must be told the length of first. */
  #buffered: BufferedBody | undefined;

  /** @param isKept whether a backend may say that it has not looked at what it was given */
  constructor(pace: Pace, waitsForContinue: boolean, isKept: boolean) {
    this.#pace = pace;
    this.#patience = pace.pause;
    this.isBlocked = waitsForContinue;
    this.#given = isKept ? [] : undefined;
  }

  /** Something is to come, and it is for the client to send it. */
  get awaitsClient(): boolean {
    return this.trailers === undefined && !this.isBlocked;
  }

  /** Until when the client may take, by performance.now(), while it is awaited. */
  deadline(now: number): number {
    this.#waitingSince ??= now;
    return this.#waitingSince + this.#patience;
  }

  /** For who has taken longer. */
  late(): ProxyError {
    const [what, setting] =
      this.#patience < this.#pace.pause
        ? ['sent its request body too slowly', 'limits.request_body_rate']
        : ['stopped sending its request body', 'timeouts.request_body'];
    return new ProxyError('client_body_timeout', `the client ${what}`, { setting });
  }

  /** From now on pieces are held until the last one: `limit` bytes at most. */
  buffer(limit: number): void {
    this.#buffered = new BufferedBody(limit);
  }

  /**
   * @param release may be called when the bytes of the piece are not needed any more
   * @param backend undefined until it is connected
   * @returns whether more may come at once
   * @throws ProxyError length_required, buffers_full
   */
  add(piece: Buffer, release: (() => void) | undefined, backend: BackendStream | undefined, now: number): boolean {
    this.#heard(piece.length, now);
    if (this.#buffered) {
      this.#buffered.add(piece);
      release?.();
      return true;
    }
    if (!backend) {
      this.#held.push(piece);
      return false;
    }
    // A client that does not wait for its 100 (Continue) has a reason (RFC 9110, 10.1.1).
    this.isBlocked = !this.#give(backend, piece, release);
    return !this.isBlocked;
  }

  /** @returns how many bytes were buffered; undefined when they have been sent on as they came */
  end(trailers: readonly Field[]): number | undefined {
    this.trailers = trailers;
    if (!this.#buffered) return undefined;
    const { bytes } = this.#buffered;
    this.#held = bytes.length > 0 ? [bytes] : [];
    return bytes.length;
  }

  /** Gives a backend that is connected what there is. */
  send(backend: BackendStream): void {
    for (const piece of this.#held.splice(0)) this.isBlocked = !this.#give(backend, piece);
    if (this.trailers) backend.end(this.trailers);
  }

  /** What a backend has been given is for another one. @returns false when it is not there any more */
  takeBack(): boolean {
    if (!this.#given) return false;
    this.#held.unshift(...this.#given);
    this.#given = undefined;
    return true;
  }

  /** Nothing of it is needed any more. */
  release(): void {
    this.#held = [];
    this.#given = undefined;
    this.#buffered?.release();
  }

  #give(backend: BackendStream, piece: Buffer, release?: () => void): boolean {
    this.#givenBytes += piece.length;
    if (this.#givenBytes > MAX_KEPT || this.#given?.length === MAX_PIECES) this.#given = undefined;
    // The bytes of a piece with `release` may be used for something else afterwards.
    else this.#given?.push(release ? Buffer.from(piece) : piece);
    return backend.write(piece, release);
  }

  #heard(bytes: number, now: number): void {
    const { pause, rate } = this.#pace;
    const waited = this.#waitingSince === undefined ? 0 : now - this.#waitingSince;
    this.#waitingSince = undefined;
    this.#patience = rate === 0 ? pause : Math.min(pause, this.#patience - waited + (bytes * 1_000) / rate);
  }
}
