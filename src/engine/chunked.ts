import type { Field } from '../proxy/headers.ts';
import { ProxyError, type ProxyErrorCode } from '../proxy/proxy-error.ts';
import { scanFields, type Refuse } from './field-lines.ts';
import { refuseHopeless } from './head.ts';

/**
 * The chunked transfer coding (RFC 9112, 7.1), strict: whatever two readers could understand differently (bare LF, blanks or signs
 * around a size, sizes that overflow) has been used to smuggle requests.
 */

/** Honest senders write sizes in a few digits; 16 leave room for those that fill up with zeros. */
const MAX_DIGITS = 16;
/** Extensions mean nothing to anybody, and a body can be made of them (CVE-2023-39326, CVE-2024-22019). */
const MAX_EXTENSIONS_OF_CHUNK = 4_096;
const MAX_EXTENSIONS_OF_BODY = 16_384;
/** The trailer section, together with the CRLFs around it. */
const MAX_TRAILERS = 8_192;

const CR = 0x0d;
const LF = 0x0a;
const SEMICOLON = 0x3b;
const CRLF = Buffer.from('\r\n');
const CRLFCRLF = Buffer.from('\r\n\r\n');

/** RFC 9112, 7.1.1, without blanks: nobody sends them, and not all readers take them. */
const EXTENSIONS =
  /^(?:;[!#$%&'*+.^_`|~0-9A-Za-z-]+(?:=(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+|"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*"))?)*$/;

/** byte → value of the hexadecimal digit, or -1. */
const HEX = Int8Array.from({ length: 256 }, (_, byte) => '0123456789abcdef'.indexOf(String.fromCharCode(byte).toLowerCase()));

type Part = 'size' | 'extensions' | 'size-lf' | 'data' | 'data-cr' | 'data-lf' | 'trailers' | 'done';

/** Takes the chunked coding off one body, as its bytes come. */
export class ChunkedDecoder {
  readonly #code: ProxyErrorCode;
  readonly #refuseFields: Refuse = (_code, cause) => this.#refuse(cause);
  #part: Part = 'size';
  #digits = 0;
  /** Of the chunk: what its size line says, then what is still to come. */
  #left = 0;
  #extensions = '';
  #extensionsOfBody = 0;
  /** The trailer section, as long as it is not complete. */
  #section = Buffer.alloc(0);
  #trailers: readonly Field[] = [];

  /** @param code what to throw: bad_request for a client's body, backend_bad_response for a backend's */
  constructor(code: 'bad_request' | 'backend_bad_response') {
    this.#code = code;
  }

  /** The body and its trailers are complete. */
  get done(): boolean {
    return this.#part === 'done';
  }

  /** What came behind the last chunk; empty until `done`. */
  get trailers(): readonly Field[] {
    return this.#trailers;
  }

  /**
   * @param onData gets each piece of the body: a view of `bytes`, not a copy
   * @returns how many bytes belong to the body: all of them, unless it ends before they do
   * @throws ProxyError with the constructor's code, or chunk_extensions_too_large for a client; the decoder is of no use after that
   */
  decode(bytes: Buffer, onData: (piece: Buffer) => void): number {
    let at = 0;
    while (at < bytes.length && this.#part !== 'done') {
      if (this.#part === 'data') {
        const end = Math.min(bytes.length, at + this.#left);
        onData(bytes.subarray(at, end));
        this.#left -= end - at;
        at = end;
        if (this.#left === 0) this.#part = 'data-cr';
      } else if (this.#part === 'trailers') at = this.#readTrailers(bytes, at);
      else if (this.#part === 'extensions') at = this.#readExtensions(bytes, at);
      else this.#step(bytes[at++] ?? 0);
    }
    return at;
  }

  /** A size, or one byte of a CRLF. */
  #step(byte: number): void {
    if (this.#part === 'size') {
      this.#readSize(byte);
      return;
    }
    if (byte !== (this.#part === 'data-cr' ? CR : LF)) throw this.#refuse('a chunk, or its size, does not end with CRLF');
    if (this.#part === 'data-cr') this.#part = 'data-lf';
    else if (this.#part === 'data-lf') this.#part = 'size';
    else {
      this.#part = this.#left === 0 ? 'trailers' : 'data';
      this.#digits = 0;
    }
  }

  #readSize(byte: number): void {
    const digit = HEX[byte] ?? -1;
    if (digit >= 0) {
      this.#left = this.#left * 16 + digit;
      this.#digits += 1;
      if (this.#digits > MAX_DIGITS || this.#left > Number.MAX_SAFE_INTEGER) throw this.#refuse('a chunk size of too many digits');
    } else if (this.#digits > 0 && byte === CR) this.#part = 'size-lf';
    else if (this.#digits > 0 && byte === SEMICOLON) {
      this.#part = 'extensions';
      this.#extensions = ';';
    } else throw this.#refuse('a chunk size that is not hexadecimal');
  }

  #readExtensions(bytes: Buffer, at: number): number {
    const lineEnd = bytes.indexOf(CR, at);
    const end = lineEnd === -1 ? bytes.length : lineEnd;
    this.#extensionsOfBody += end - at;
    if (this.#extensions.length + end - at > MAX_EXTENSIONS_OF_CHUNK || this.#extensionsOfBody > MAX_EXTENSIONS_OF_BODY) {
      throw this.#refuse('chunk extensions of too many bytes', 'chunk_extensions_too_large');
    }
    this.#extensions += bytes.toString('latin1', at, end);
    if (lineEnd === -1 ? this.#extensions.includes('\n') : !EXTENSIONS.test(this.#extensions)) throw this.#refuse('malformed chunk extensions');
    if (lineEnd === -1) return end;
    this.#part = 'size-lf';
    return end + 1;
  }

  /** The CRLF of the last chunk's line is put before the section, so that CRLFCRLF ends it whether it has fields or not. */
  #readTrailers(bytes: Buffer, at: number): number {
    if (this.#section.length === 0 && bytes[at] === CR && bytes[at + 1] === LF) {
      this.#part = 'done';
      return at + 2;
    }
    const before = this.#section.length === 0 ? CRLF : this.#section;
    const section = Buffer.concat([before, bytes.subarray(at, at + MAX_TRAILERS)]);
    const end = section.indexOf(CRLFCRLF, Math.max(0, before.length - 3));
    if ((end === -1 ? section.length : end + CRLFCRLF.length) > MAX_TRAILERS) throw this.#refuse(`trailers of more than ${MAX_TRAILERS} bytes`);
    if (end === -1) {
      refuseHopeless(section, 0, before.length, this.#refuseFields);
      this.#section = section;
      return bytes.length;
    }
    this.#trailers = scanFields(section.toString('latin1', CRLF.length, end + CRLFCRLF.length), 0, this.#refuseFields);
    // Forbidden there (RFC 9110, 6.5.1), and no other sender than a smuggler gains by it.
    if (this.#trailers.some(({ key }) => key === 'content-length' || key === 'transfer-encoding')) throw this.#refuse('framing fields behind the last chunk');
    this.#part = 'done';
    return at + end + CRLFCRLF.length - before.length;
  }

  #refuse(cause: string, code: ProxyErrorCode = this.#code): ProxyError {
    // 413 is for clients; a backend's body is bad whatever is wrong with it.
    if (this.#code === 'backend_bad_response') return new ProxyError(this.#code, "the backend's body is malformed", { cause });
    return new ProxyError(code, cause);
  }
}

/** What goes before the data of a chunk; CRLF goes behind it. `length` may not be 0: that would end the body. */
export function chunkHead(length: number): string {
  return `${length.toString(16)}\r\n`;
}

/** The end of a body, with its trailers; to be written as latin1. */
export function lastChunk(trailers: readonly Field[]): string {
  return `0\r\n${trailers.map(({ name, value }) => `${name}: ${value}\r\n`).join('')}\r\n`;
}
