import type { Field } from '../proxy/headers.ts';
import type { Framing } from '../proxy/request-head.ts';
import { BodyReader } from './body-reader.ts';
import type { ReadBuffer } from './read-buffer.ts';

const NOTHING = Buffer.alloc(0);

/** What came from one HTTP/1 connection: one head after the other, each with the body behind it (RFC 9112, 2.2 and 6). */
export class MessageReader {
  /** What waits to be read. */
  protected bytes: Buffer = NOTHING;
  /** How many of them have been searched for the end of a head. */
  protected searched = 0;
  #lent: ReadBuffer | undefined;
  /** What is still to come of the body. */
  #body: BodyReader | undefined;

  /** How many bytes wait to be read. */
  get waiting(): number {
    return this.bytes.length;
  }

  /** Whose bytes wait to be read. What is nobody's is valid until the next `keep`. */
  get lent(): ReadBuffer | undefined {
    return this.#lent;
  }

  /** Some, but not all of a head has come. */
  get isWithinHead(): boolean {
    return this.searched > 0;
  }

  /** More of a body is to come. */
  get isWithinBody(): boolean {
    return this.#body !== undefined;
  }

  /** Only the end of the connection ends the body. */
  get endsWithConnection(): boolean {
    return this.#body?.endsWithConnection === true;
  }

  /**
   * @param bytes valid until the next `keep`
   * @param lent whose they are, to be held where they are needed longer
   */
  add(bytes: Buffer, lent?: ReadBuffer): void {
    this.bytes = this.bytes.length === 0 ? bytes : Buffer.concat([this.bytes, bytes]);
    this.#lent = lent;
  }

  /** Makes a copy of what waits. */
  keep(): void {
    if (this.bytes.length > 0) this.bytes = Buffer.from(this.bytes);
    this.#lent = undefined;
  }

  /** Reads nothing more of what has come. @returns what that was */
  drop(): Buffer {
    const dropped = this.bytes;
    this.bytes = NOTHING;
    this.searched = 0;
    this.#body = undefined;
    return dropped;
  }

  /** A head of this length has been read. */
  protected pass(head: number): void {
    this.searched = 0;
    this.#skip(head);
  }

  /** What comes next is a body, unless there is none. */
  protected expect(framing: Framing | 'end', code: 'bad_request' | 'backend_bad_response'): void {
    this.#body = framing === 'none' || framing === 0 ? undefined : new BodyReader(framing, code);
  }

  /**
   * To be called within a body.
   * @param onPiece given views of what came
   * @returns the trailers when the body has been read to its end; undefined when more of it is to come
   * @throws ProxyError
   */
  readBody(onPiece: (piece: Buffer) => void): readonly Field[] | undefined {
    const body = this.#body!;
    this.#skip(body.read(this.bytes, onPiece));
    if (!body.done) return undefined;
    this.#body = undefined;
    return body.trailers;
  }

  #skip(length: number): void {
    this.bytes = length === this.bytes.length ? NOTHING : this.bytes.subarray(length);
  }
}
