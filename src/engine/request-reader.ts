import type { Field } from '../proxy/headers.ts';
import { parseRequestHead, type RequestHead } from '../proxy/request-head.ts';
import { BodyReader } from './body-reader.ts';
import { findHeadEnd } from './head.ts';
import type { ReadBuffer } from './read-buffer.ts';
import { RequestScanner } from './request-scanner.ts';

const NOTHING = Buffer.alloc(0);

/** Reads the requests of one HTTP/1 connection: one head after the other, each with the body behind it (RFC 9112, 2.2 and 6). */
export class RequestReader {
  readonly #scanner = new RequestScanner();
  #bytes: Buffer = NOTHING;
  /** Whose bytes they are. */
  #lent: ReadBuffer | undefined;
  /** How many of them have been searched for the end of a head. */
  #searched = 0;
  /** What is still to come of the body. */
  #body: BodyReader | undefined;

  /** How many bytes wait to be read. */
  get waiting(): number {
    return this.#bytes.length;
  }

  /** Some, but not all of a head has come. */
  get isWithinHead(): boolean {
    return this.#searched > 0;
  }

  /** More of a body is to come. */
  get isWithinBody(): boolean {
    return this.#body !== undefined;
  }

  /**
   * @param bytes valid until the next `keep`
   * @param lent whose they are, to be held where they are needed longer
   */
  add(bytes: Buffer, lent?: ReadBuffer): void {
    this.#bytes = this.#bytes.length === 0 ? bytes : Buffer.concat([this.#bytes, bytes]);
    this.#lent = lent;
  }

  /** Makes a copy of what waits. */
  keep(): void {
    if (this.#bytes.length > 0) this.#bytes = Buffer.from(this.#bytes);
    this.#lent = undefined;
  }

  /** Reads nothing more of what has come. @returns what that was */
  drop(): Buffer {
    const dropped = this.#bytes;
    this.#bytes = NOTHING;
    this.#searched = 0;
    this.#body = undefined;
    return dropped;
  }

  /**
   * @returns undefined when more bytes are needed
   * @throws ProxyError; `onLine` has been told method and target before, if these are well-formed
   */
  readHead(onLine: (line: string) => void): RequestHead | undefined {
    const end = findHeadEnd(this.#bytes, this.#searched);
    if (end === -1) {
      this.#searched = this.#bytes.length;
      return undefined;
    }
    const { method, target, facts } = this.#scanner.scan(this.#bytes, end, onLine);
    const head = parseRequestHead(method, target, facts);
    this.#searched = 0;
    this.#skip(end);
    this.#body = head.framing === 'none' || head.framing === 0 ? undefined : new BodyReader(head.framing, 'bad_request');
    return head;
  }

  /**
   * To be called within a body.
   * @param onPiece given views of what came, and whose it is; what is nobody's is valid until the next `keep`
   * @returns the trailers when the body has been read to its end; undefined when more of it is to come
   * @throws ProxyError
   */
  readBody(onPiece: (piece: Buffer, lent: ReadBuffer | undefined) => void): readonly Field[] | undefined {
    const body = this.#body!;
    this.#skip(body.read(this.#bytes, (piece) => onPiece(piece, this.#lent)));
    if (!body.done) return undefined;
    this.#body = undefined;
    return body.trailers;
  }

  #skip(length: number): void {
    this.#bytes = length === this.#bytes.length ? NOTHING : this.#bytes.subarray(length);
  }
}
