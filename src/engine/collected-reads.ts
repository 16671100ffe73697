import type { Socket } from 'node:net';
import { ReadBuffer } from './read-buffer.ts';
import { atTurnEnd, type Collecting } from './turn-end.ts';

/** Who takes what was collected. */
export interface CollectedTaker {
  /**
   * @param bytes valid until this returns
   * @param lent whose they are: to be held where they are needed later
   */
  take(bytes: Buffer, lent: ReadBuffer): void;
  fault(error: Error): void;
}

/**
 * What comes of a body from a socket. TLS gives 16 KB at a time; what has come in one turn of the event loop goes on in one piece.
 */
export class CollectedReads implements Collecting {
  readonly #socket: Socket;
  readonly #taker: CollectedTaker;
  #collected: ReadBuffer | undefined;
  #isBlocked = false;

  constructor(socket: Socket, taker: CollectedTaker) {
    this.#socket = socket;
    this.#taker = taker;
  }

  /** Something has not been passed on yet: what comes now has its place behind it, whatever it is. */
  get isWaiting(): boolean {
    return this.#collected !== undefined;
  }

  /** @param bytes valid until this returns */
  add(bytes: Buffer): void {
    for (let at = 0; at < bytes.length;) {
      if (!this.#collected) {
        this.#collected = ReadBuffer.take();
        atTurnEnd(this);
      }
      at += this.#collected.add(bytes, at);
      if (this.#collected.isFull) this.passOn();
    }
  }

  /** Gives what there is, though more may come in this turn. */
  passOn(): void {
    const collected = this.#collected;
    if (!collected) return;
    this.#collected = undefined;
    const release = collected.hold();
    this.#taker.take(collected.filled, collected);
    release();
  }

  /**
   * The taker wants no more for now. The socket is read on until there is as much as goes on in one piece: whoever does not read
   * does not notice that the client has gone.
   */
  block(): void {
    if (this.#isBlocked) this.#socket.pause();
    this.#isBlocked = true;
  }

  resume(): void {
    this.#isBlocked = false;
    this.passOn();
    if (this.#socket.isPaused()) this.#socket.resume();
  }

  flush(): void {
    if (!this.#isBlocked) this.passOn();
  }

  fault(error: Error): void {
    this.#taker.fault(error);
  }
}
