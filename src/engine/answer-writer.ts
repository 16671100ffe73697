import type { Socket } from 'node:net';
import type { AnswerHead } from '../proxy/engine.ts';
import { fieldLines, type Field } from '../proxy/headers.ts';
import type { RequestHead } from '../proxy/request-head.ts';
import { httpDate } from './date.ts';
import { MessageWriter } from './message-writer.ts';

/** Writes the answers of one HTTP/1 connection as the version and the method of each request want them (RFC 9112, 6). */
export class AnswerWriter {
  readonly #writer: MessageWriter;
  #bodyless = false;
  #endsWithConnection = false;

  constructor(socket: Socket) {
    this.#writer = new MessageWriter(socket);
  }

  /** To be told of the socket's `drain`. */
  drained(): void {
    this.#writer.drained();
  }

  /** The socket takes more. */
  get isReady(): boolean {
    return this.#writer.isReady;
  }

  /** Without a length and without chunks, only the end of the connection ends the answer (RFC 9112, 6.3). */
  get endsWithConnection(): boolean {
    return this.#endsWithConnection;
  }

  /** 100 (Continue) or 103 (Early Hints); HTTP/1.0 knows neither. */
  inform(request: RequestHead | undefined, status: number, fields: readonly Field[]): void {
    if (request?.version !== '1.1') return;
    this.#writer.begin(status === 100 ? 'HTTP/1.1 100 Continue\r\n\r\n' : `HTTP/1.1 103 Early Hints\r\n${fieldLines(fields)}\r\n`, false);
    this.flush();
  }

  /**
   * @param mayGoOn whether another request may be read behind this one
   * @returns whether the connection ends with this answer
   */
  begin(request: RequestHead | undefined, { status, reason, fields, framing }: AnswerHead, mayGoOn: boolean): boolean {
    this.#bodyless = request?.method === 'HEAD' || status === 204 || status === 304;
    const chunked = framing === 'chunked' && !this.#bodyless && request?.version !== '1.0';
    this.#endsWithConnection = framing === 'chunked' && !this.#bodyless && !chunked;
    const isLast = !mayGoOn || this.#endsWithConnection || request?.facts.persistent !== true;
    let head = `HTTP/1.1 ${status} ${reason}\r\n${fields.lines}`;
    // RFC 9110, 6.6.1: whoever forwards an answer without a date adds one.
    if (!fields.isDated) head += `Date: ${httpDate()}\r\n`;
    if (chunked) head += 'Transfer-Encoding: chunked\r\n';
    if (isLast) head += 'Connection: close\r\n';
    else if (request.version === '1.0') head += 'Connection: keep-alive\r\n';
    this.#writer.begin(`${head}\r\n`, chunked);
    return isLast;
  }

  /** As `ClientStream.write`. */
  write(piece: Buffer, release?: () => void): boolean {
    return this.#bodyless || this.#writer.write(piece, release);
  }

  flush(): void {
    this.#writer.flush();
  }

  end(trailers: readonly Field[]): void {
    this.#writer.end(trailers);
    this.flush();
  }

  switchProtocols(fields: readonly Field[]): void {
    this.#writer.begin(`HTTP/1.1 101 Switching Protocols\r\n${fieldLines(fields)}Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n`, false);
    this.flush();
  }
}
