import { MAX_WINDOW } from './frames.ts';
import type { Stream } from './stream.ts';

/** Before it is known which stream is the last (RFC 9113, 6.8). */
export const ANY_STREAM = MAX_WINDOW;

/** The streams of a connection, and what is known of those that are not open (RFC 9113, 5.1). */
export class StreamTable {
  /** The last one that was begun: by the client, always. */
  last = 0;
  /** What is asked on later ones is not looked at. */
  final = ANY_STREAM;
  readonly #open = new Map<number, Stream>();
  readonly #abandoned = new Set<number>();
  readonly #remembered: number;

  constructor(remembered: number) {
    this.#remembered = remembered;
  }

  get size(): number {
    return this.#open.size;
  }

  get(id: number): Stream | undefined {
    return this.#open.get(id);
  }

  /** May be changed meanwhile. */
  all(): Iterable<Stream> {
    return this.#open.values();
  }

  add(stream: Stream): void {
    this.#open.set(stream.id, stream);
  }

  delete(id: number): void {
    this.#open.delete(id);
  }

  /** It was reset before the other side had ended it: what is still on its way is no error. */
  abandon(id: number): void {
    this.#abandoned.add(id);
    if (this.#abandoned.size <= this.#remembered) return;
    const [oldest = 0] = this.#abandoned;
    this.#abandoned.delete(oldest);
  }

  /** The state of a stream that is not open: idle when nothing has been said of it. Even ones would be pushed. */
  stateOf(id: number): 'idle' | 'closed' | 'abandoned' {
    if (this.#abandoned.has(id) || id > this.final) return 'abandoned';
    return id > this.last || (id & 1) === 0 ? 'idle' : 'closed';
  }
}
