import {
  ACK,
  ConnectionError,
  CONTINUATION,
  DATA,
  END_HEADERS,
  ErrorCode,
  FRAME_HEAD,
  HEADERS,
  MAX_PAYLOAD,
  PADDED,
  SETTINGS,
  WITH_PRIORITY,
} from './frames.ts';

/** A header block in pieces, in bytes; what it decodes to is bounded too. */
const MAX_BLOCK = 65_536;
/** CONTINUATION frames of one block (CVE-2024-27983): as nghttp2 has it. */
const MAX_CONTINUATIONS = 8;
const NOTHING = Buffer.alloc(0);

/** Where frames go. What a method throws ends the reading. */
export interface FrameSink {
  /** A whole header block, of one HEADERS frame or with its CONTINUATION frames. */
  headers(stream: number, flags: number, block: Buffer, start: number, end: number): void;
  /**
   * A DATA frame begins; `length` bytes of content follow in `data`, then `dataEnds`.
   * @param occupied what it takes of the flow-control windows: padding, too (RFC 9113, 6.1)
   */
  dataBegins(stream: number, flags: number, occupied: number, length: number): void;
  data(piece: Buffer): void;
  dataEnds(flags: number): void;
  /** Any other frame. */
  frame(type: number, flags: number, stream: number, bytes: Buffer, start: number, end: number): void;
}

function protocolError(message: string): ConnectionError {
  return new ConnectionError(ErrorCode.PROTOCOL_ERROR, message);
}

/** Cuts what the other side sends into frames (RFC 9113, 4.1). DATA is passed on as it comes; other frames when they are complete. */
export class FrameReader {
  readonly #sink: FrameSink;
  /** An incomplete frame that is no DATA. */
  #rest: Buffer = NOTHING;
  readonly #preface: Buffer;
  #prefaceLeft: number;
  #hasSettings = false;
  /** Of the DATA frame that is being read. */
  #dataLeft = 0;
  #dataFlags = 0;
  /** The header block that is being read: no other frame may come in between (RFC 9113, 4.3). */
  #headersOf = 0;
  #headersFlags = 0;
  #fragments: Buffer[] = [];
  #fragmentBytes = 0;

  /** @param preface what comes before the first frame */
  constructor(sink: FrameSink, preface: Buffer) {
    this.#sink = sink;
    this.#preface = preface;
    this.#prefaceLeft = preface.length;
  }

  /** @throws ConnectionError */
  read(bytes: Buffer): void {
    let at = 0;
    let input = bytes;
    if (this.#dataLeft > 0) at = this.#data(bytes, 0);
    else if (this.#rest.length > 0) input = Buffer.concat([this.#rest, bytes]);
    this.#rest = NOTHING;
    at = this.#prefaceLeft > 0 ? this.#readPreface(input) : at;
    const end = input.length;
    while (at < end) {
      const next = end - at < FRAME_HEAD ? -1 : this.#frame(input, at, end);
      if (next === -1) {
        // Small, so it must not keep alive what it was cut from.
        this.#rest = Buffer.from(input.subarray(at));
        return;
      }
      at = next;
    }
  }

  #readPreface(input: Buffer): number {
    const start = this.#preface.length - this.#prefaceLeft;
    const length = Math.min(this.#prefaceLeft, input.length);
    if (this.#preface.compare(input, 0, length, start, start + length) !== 0) throw protocolError('no HTTP/2 preface');
    this.#prefaceLeft -= length;
    return length;
  }

  /** @returns the offset behind the frame, or -1 when it is not complete */
  #frame(input: Buffer, at: number, end: number): number {
    const length = (input[at]! << 16) | (input[at + 1]! << 8) | input[at + 2]!;
    const type = input[at + 3]!;
    const flags = input[at + 4]!;
    // The first bit is reserved.
    const stream = ((input[at + 5]! & 0x7f) << 24) | (input[at + 6]! << 16) | (input[at + 7]! << 8) | input[at + 8]!;
    if (!this.#hasSettings && (type !== SETTINGS || (flags & ACK) !== 0)) throw protocolError('the first frame is not SETTINGS');
    if (length > MAX_PAYLOAD) throw new ConnectionError(ErrorCode.FRAME_SIZE_ERROR, `a frame of ${length} bytes`);
    if (this.#headersOf !== 0 && (type !== CONTINUATION || stream !== this.#headersOf)) throw protocolError('a frame within a header block');
    const start = at + FRAME_HEAD;
    if (type === DATA && (flags & PADDED) === 0) {
      this.#sink.dataBegins(stream, flags, length, length);
      this.#dataLeft = length;
      this.#dataFlags = flags;
      return this.#data(input, start);
    }
    const behind = start + length;
    if (behind > end) return -1;
    this.#hasSettings = true;
    if (type === HEADERS) this.#headers(stream, flags, input, start, behind);
    else if (type === CONTINUATION) this.#continuation(stream, flags, input, start, behind);
    else if (type === DATA) this.#paddedData(stream, flags, input, start, behind);
    else this.#sink.frame(type, flags, stream, input, start, behind);
    return behind;
  }

  #data(input: Buffer, at: number): number {
    const behind = Math.min(at + this.#dataLeft, input.length);
    this.#dataLeft -= behind - at;
    if (behind > at) this.#sink.data(at === 0 && behind === input.length ? input : input.subarray(at, behind));
    if (this.#dataLeft === 0) this.#sink.dataEnds(this.#dataFlags);
    return behind;
  }

  #paddedData(stream: number, flags: number, input: Buffer, start: number, behind: number): void {
    const end = unpadded(flags, input, start, behind);
    const content = start + 1;
    this.#sink.dataBegins(stream, flags, behind - start, end - content);
    if (end > content) this.#sink.data(input.subarray(content, end));
    this.#sink.dataEnds(flags);
  }

  #headers(stream: number, flags: number, input: Buffer, start: number, behind: number): void {
    const end = unpadded(flags, input, start, behind);
    // What is said of priority is of no use (RFC 9113, 5.3.2).
    const block = start + ((flags & PADDED) === 0 ? 0 : 1) + ((flags & WITH_PRIORITY) === 0 ? 0 : 5);
    if (block > end) throw new ConnectionError(ErrorCode.FRAME_SIZE_ERROR, 'a HEADERS frame that is too short');
    if ((flags & END_HEADERS) !== 0) return this.#sink.headers(stream, flags, input, block, end);
    if (stream === 0) throw protocolError('HEADERS of stream 0');
    this.#headersOf = stream;
    this.#headersFlags = flags;
    this.#fragments = [];
    this.#fragmentBytes = 0;
    this.#fragment(input, block, end);
  }

  #continuation(stream: number, flags: number, input: Buffer, start: number, end: number): void {
    if (this.#headersOf === 0) throw protocolError('CONTINUATION of nothing');
    this.#fragment(input, start, end);
    if ((flags & END_HEADERS) === 0) return;
    const block = Buffer.concat(this.#fragments);
    this.#fragments = [];
    this.#headersOf = 0;
    this.#sink.headers(stream, this.#headersFlags, block, 0, block.length);
  }

  #fragment(input: Buffer, start: number, end: number): void {
    this.#fragmentBytes += end - start;
    if (this.#fragmentBytes > MAX_BLOCK || this.#fragments.length > MAX_CONTINUATIONS) {
      throw new ConnectionError(ErrorCode.ENHANCE_YOUR_CALM, 'a header block in too many frames');
    }
    this.#fragments.push(Buffer.from(input.subarray(start, end)));
  }
}

/** Where the padding of a frame begins (RFC 9113, 6.1 and 6.2). */
function unpadded(flags: number, input: Buffer, start: number, behind: number): number {
  if ((flags & PADDED) === 0) return behind;
  if (start === behind) throw new ConnectionError(ErrorCode.FRAME_SIZE_ERROR, 'a padded frame that is empty');
  const end = behind - input[start]!;
  if (end <= start) throw protocolError('more padding than frame');
  return end;
}
