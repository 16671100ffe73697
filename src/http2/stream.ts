import type { Field } from '../proxy/headers.ts';
import type { ErrorCode } from './frames.ts';
import type { HeaderField, HeaderList } from './header-field.ts';
import { Pieces } from './pieces.ts';
import { ReceiveWindow } from './receive-window.ts';
import type { Sender } from './sender.ts';

/** What becomes of a stream. Nothing comes after `closed`. */
export interface StreamHandler {
  /** @param piece valid until this returns */
  data(piece: Buffer): void;
  ended(trailers: readonly HeaderField[]): void;
  /** After `write` returned false: there is room. */
  drained(): void;
  /** Both sides have ended, or it was reset by either side, or its connection has ended. */
  closed(): void;
}

/** What a stream wants of its session. */
export interface StreamOwner {
  readonly sender: Sender;
  /** Bytes of DATA that were received are done with. */
  consumed(stream: Stream | undefined, bytes: number): void;
  reset(stream: Stream, code: ErrorCode): void;
  left(stream: Stream): void;
  /** We have said everything, the other side has not. */
  outspoken(stream: Stream): void;
}

/** What may wait of a body before its giver should. */
const ENOUGH = 16_384;

/** One stream of a connection (RFC 9113, 5): its state, its windows, and what waits for them. */
export class Stream {
  readonly id: number;
  readonly #owner: StreamOwner;
  /** The request that has come; given away when it is looked at. */
  head: HeaderList | undefined;
  handler: StreamHandler | undefined;
  /** The other side has sent END_STREAM. */
  isReceived = false;
  /** We have sent END_STREAM. */
  isSent = false;
  isClosed = false;
  /** With which the other side has reset it; REFUSED_STREAM where it has said that it will not look at it, too. */
  resetCode: number | undefined;
  /** What the other side did that we have reset it for. */
  misuse: string | undefined;

  readonly receiveWindow: ReceiveWindow;
  /** What was received and is not consumed. */
  held = 0;
  /** Bytes that are still to come by Content-Length; -1 where nothing was said. */
  contentLeft = -1;

  /** What we may send: negative when the other side has made its windows smaller (RFC 9113, 6.9.2). */
  sendWindow: number;
  /** Of what we say. */
  readonly waiting = new Pieces();
  /** It stands in the row of those that could send. */
  isInRow = false;
  /** The giver has said which piece is the last. */
  #hasLast = false;
  /** What comes behind the last piece; undefined until the giver has ended. */
  #ending: readonly Field[] | undefined;
  #isFull = false;

  constructor(id: number, owner: StreamOwner, windows: { receive: number; send: number }, head?: HeaderList) {
    this.id = id;
    this.#owner = owner;
    this.head = head;
    this.receiveWindow = new ReceiveWindow(windows.receive);
    this.sendWindow = windows.send;
  }

  /** As a client: the head of the request, pseudo-header fields first; `isLast` when nothing follows. */
  request(fields: readonly Field[], isLast: boolean): void {
    this.#owner.sender.head(this.id, undefined, fields, isLast);
    this.isSent = isLast;
    if (isLast) this.#ending = [];
  }

  /** As a server: interim answers, the answer; `isLast` when nothing follows. */
  respond(status: number, fields: readonly Field[], isLast: boolean): void {
    if (this.isClosed) return;
    this.#owner.sender.head(this.id, status, fields, isLast);
    this.isSent = isLast;
  }

  /**
   * @param isLast nothing follows
   * @param release called when the bytes of the piece are not needed any more
   * @returns false when the giver should wait for `drained`
   */
  write(piece: Buffer, isLast: boolean, release?: () => void): boolean {
    if (this.isClosed || this.isSent) return true;
    this.#hasLast = isLast;
    const { sender } = this.#owner;
    let at = 0;
    if (this.waiting.length === 0) {
      for (let room = sender.room(this); at < piece.length && room > 0; room = sender.room(this)) {
        const end = Math.min(piece.length, at + room);
        this.#send(piece, at, end, isLast && end === piece.length);
        at = end;
      }
    }
    if (at === piece.length) {
      release?.();
      return true;
    }
    this.waiting.add(at === 0 ? piece : piece.subarray(at), release);
    sender.enqueue(this);
    this.#isFull = this.waiting.length > ENOUGH;
    return !this.#isFull;
  }

  /** @param trailers fields behind the body; none is usual */
  end(trailers: readonly Field[]): void {
    if (this.isClosed) return;
    this.#ending = trailers;
    this.#settle();
  }

  /** Sends a frame of what waits. */
  sendWaiting(room: number): void {
    const { waiting } = this;
    const piece = waiting.first(room);
    const isLast = piece.length === waiting.length && (this.#hasLast || this.#ending?.length === 0);
    this.#send(piece, 0, piece.length, isLast);
    waiting.drop(piece.length);
    this.#settle();
    if (!this.#isFull || waiting.length > ENOUGH || this.isClosed) return;
    this.#isFull = false;
    this.handler?.drained();
  }

  /** Whether this DATA agrees with Content-Length (RFC 9113, 8.1.1). */
  expects(length: number, isEnd: boolean): boolean {
    if (this.contentLeft === -1) return true;
    this.contentLeft -= length;
    return isEnd ? this.contentLeft === 0 : this.contentLeft >= 0;
  }

  consumed(bytes: number): void {
    if (this.isClosed) return;
    this.held -= bytes;
    this.#owner.consumed(this, bytes);
  }

  reset(code: ErrorCode): void {
    if (!this.isClosed) this.#owner.reset(this, code);
  }

  /** Lets go of everything; the frame that ends it, if it takes one, has been sent or received. */
  close(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.waiting.clear();
    if (this.held > 0) this.#owner.consumed(undefined, this.held);
    this.#owner.left(this);
    this.handler?.closed();
  }

  /** The other side has said everything. */
  received(trailers: readonly HeaderField[]): void {
    this.isReceived = true;
    this.handler?.ended(trailers);
    this.#settle();
  }

  #send(piece: Buffer, start: number, end: number, isLast: boolean): void {
    this.#owner.sender.data(this, piece, start, end, isLast);
    this.isSent = isLast;
  }

  /** Ends the stream when its giver has, and everything is sent. */
  #settle(): void {
    if (!this.#ending || this.waiting.length > 0 || this.isClosed) return;
    if (!this.isSent) this.#owner.sender.end(this.id, this.#ending);
    this.isSent = true;
    if (this.isReceived) this.close();
    else this.#owner.outspoken(this);
  }
}
