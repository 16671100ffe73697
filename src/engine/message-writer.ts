import type { Socket } from 'node:net';
import type { Field } from '../proxy/headers.ts';
import { chunkHead, lastChunk } from './chunked.ts';

/** Up to here a piece costs less when it is copied behind the head than when it is written by itself. */
const SMALL = 8_192;

/**
 * Writes HTTP/1 messages to a socket. Head, small pieces and chunk borders are collected until `flush`: each write is a
 * system call, and on TLS a record.
 */
export class MessageWriter {
  readonly #socket: Socket;
  /** Waiting to be written, each character a byte. */
  #waiting = '';
  #chunked = false;
  /** False from a full socket until its `drain`. */
  isReady = true;

  constructor(socket: Socket) {
    this.#socket = socket;
  }

  /** To be told of the socket's `drain`. */
  drained(): void {
    this.isReady = true;
  }

  /** @param head start line and fields with the empty line behind them */
  begin(head: string, chunked: boolean): void {
    this.#waiting += head;
    this.#chunked = chunked;
  }

  /** @returns false when the socket is full: its `drain` comes */
  write(piece: Buffer, release?: () => void): boolean {
    if (this.#chunked) this.#waiting += chunkHead(piece.length);
    if (piece.length <= SMALL && this.#waiting.length <= 2 * SMALL) {
      this.#waiting += piece.toString('latin1');
      release?.();
    } else {
      this.#socket.cork();
      this.flush();
      if (!this.#socket.write(piece, release)) this.isReady = false;
      this.#socket.uncork();
    }
    if (this.#chunked) this.#waiting += '\r\n';
    return this.isReady;
  }

  /** The end of the message goes out with the next `flush`. */
  end(trailers: readonly Field[]): void {
    if (this.#chunked) this.#waiting += lastChunk(trailers);
  }

  flush(): void {
    if (this.#waiting === '') return;
    if (!this.#socket.write(this.#waiting, 'latin1')) this.isReady = false;
    this.#waiting = '';
  }
}
