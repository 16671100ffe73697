import { FRAME_HEAD, MAX_PAYLOAD } from './frames.ts';

/** Enough for the small answers of one turn. */
const SMALL = 4_096;
/** Four full DATA frames, and what goes with them. */
const LARGE = 4 * (FRAME_HEAD + MAX_PAYLOAD) + 1_024;
/** 17 MB, if as much was ever sent at a time; with a quarter of it, the collector costs a sixth of 100 KB answers on 128 streams. */
const MAX_KEPT = 256;
const small: Buffer[] = [];
const large: Buffer[] = [];

/** Takes bytes away; `taken` is called when they are not needed any more, but never at once. */
export type Give = (bytes: Buffer, taken: (error?: Error | null) => void) => void;

/**
 * Collects frames until `flush`: each write is a system call, and on TLS a record. All bytes are copied into one buffer, because the
 * TLS library would copy several into one, too; so whoever gives them may use theirs again at once.
 */
export class FrameWriter {
  readonly #give: Give;
  /** Called when bytes begin to wait for `flush`, and when some that were given away have been taken. */
  readonly #onWaiting: () => void;
  readonly #onTaken: () => void;
  /** Where frames are written, at `reserve`'s offset. */
  bytes: Buffer | undefined;
  #used = 0;
  /** Where the last frame begins. */
  #last = 0;
  #given = 0;

  constructor(give: Give, onWaiting: () => void, onTaken: () => void) {
    this.#give = give;
    this.#onWaiting = onWaiting;
    this.#onTaken = onTaken;
  }

  /** Bytes that the other side has not taken yet. */
  get backlog(): number {
    return this.#given + this.#used;
  }

  /** Bytes that are no frame. */
  raw(bytes: Buffer): void {
    const at = this.#reserve(bytes.length);
    bytes.copy(this.bytes!, at);
  }

  /** Begins a frame. @returns the offset in `bytes` where its payload of `length` bytes is to be written */
  frame(type: number, flags: number, stream: number, length: number): number {
    const at = this.#reserve(FRAME_HEAD + length);
    const bytes = this.bytes!;
    this.#last = at;
    bytes[at] = length >>> 16;
    bytes[at + 1] = length >>> 8;
    bytes[at + 2] = length;
    bytes[at + 3] = type;
    bytes[at + 4] = flags;
    bytes[at + 5] = stream >>> 24;
    bytes[at + 6] = stream >>> 16;
    bytes[at + 7] = stream >>> 8;
    bytes[at + 8] = stream;
    return at + FRAME_HEAD;
  }

  /** Sets a flag of the last frame, if it is of this type and stream and waits yet. @returns whether it is */
  amend(type: number, flag: number, stream: number): boolean {
    const { bytes } = this;
    const at = this.#last;
    if (!bytes || bytes[at + 3] !== type || bytes.readUInt32BE(at + 5) !== stream) return false;
    bytes[at + 4]! |= flag;
    return true;
  }

  /** A frame whose payload is these bytes. */
  copy(type: number, flags: number, stream: number, payload: Buffer, start: number, end: number): void {
    const at = this.frame(type, flags, stream, end - start);
    payload.copy(this.bytes!, at, start, end);
  }

  /** A frame whose payload is these 32-bit numbers. */
  numbers(type: number, flags: number, stream: number, ...numbers: number[]): void {
    let at = this.frame(type, flags, stream, 4 * numbers.length);
    for (const one of numbers) at = this.bytes!.writeUInt32BE(one, at);
  }

  flush(): void {
    const bytes = this.bytes;
    if (!bytes) return;
    const used = this.#used;
    this.bytes = undefined;
    this.#used = 0;
    this.#given += used;
    this.#give(bytes.subarray(0, used), (error) => {
      this.#given -= used;
      // Bytes that were not written may be looked at yet.
      if (!error) keep(bytes);
      this.#onTaken();
    });
  }

  #reserve(length: number): number {
    const at = this.#used;
    if (!this.bytes) {
      this.bytes = take(length);
      this.#onWaiting();
    } else if (at + length > this.bytes.length) {
      if (this.bytes.length === SMALL) {
        const bytes = take(LARGE);
        this.bytes.copy(bytes, 0, 0, at);
        keep(this.bytes);
        this.bytes = bytes;
      } else {
        this.flush();
        this.bytes = take(length);
        this.#onWaiting();
      }
    }
    const start = this.#used;
    this.#used += length;
    return start;
  }
}

function take(length: number): Buffer {
  return length > SMALL ? (large.pop() ?? Buffer.allocUnsafeSlow(LARGE)) : (small.pop() ?? Buffer.allocUnsafeSlow(SMALL));
}

function keep(bytes: Buffer): void {
  const kept = bytes.length === SMALL ? small : large;
  if (kept.length < MAX_KEPT) kept.push(bytes);
}
