import { ProxyError } from './proxy-error.ts';

/** Of all request bodies that one worker holds. */
const MAX_TOTAL = 64 * 1024 ** 2;
const FIRST = 16_384;

let total = 0;

/**
 * A request body of unknown length, read to its end before it is sent on: a backend that speaks HTTP/1.0 must be told the
 * length first. Copied together, because a client may send it in single bytes.
 */
export class BufferedBody {
  readonly #limit: number;
  #bytes = Buffer.alloc(0);
  #length = 0;

  /** @param limit in bytes */
  constructor(limit: number) {
    this.#limit = limit;
  }

  /** @throws ProxyError length_required, buffers_full */
  add(piece: Buffer): void {
    const length = this.#length + piece.length;
    if (length > this.#limit) {
      const facts = { setting: 'virtual_hosts[].routes[].max_buffered_body' };
      throw new ProxyError('length_required', `a request body of unknown length is larger than ${this.#limit} bytes`, facts);
    }
    if (length > this.#bytes.length) this.#grow(Math.min(this.#limit, Math.max(FIRST, length, 2 * this.#bytes.length)));
    piece.copy(this.#bytes, this.#length);
    this.#length = length;
  }

  get bytes(): Buffer {
    return this.#bytes.subarray(0, this.#length);
  }

  /** The bytes are not needed any more. */
  release(): void {
    total -= this.#bytes.length;
    this.#bytes = Buffer.alloc(0);
    this.#length = 0;
  }

  #grow(size: number): void {
    if (total - this.#bytes.length + size > MAX_TOTAL) {
      throw new ProxyError('buffers_full', `request bodies of unknown length occupy ${MAX_TOTAL} bytes already`);
    }
    const larger = Buffer.allocUnsafeSlow(size);
    this.bytes.copy(larger);
    total += size - this.#bytes.length;
    this.#bytes = larger;
  }
}
