import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { ClientStream, Connection } from '../proxy/client-stream.ts';
import type { AnswerHead } from '../proxy/engine.ts';
import { fieldLines, type Field } from '../proxy/headers.ts';
import type { RequestHead } from '../proxy/request-head.ts';
import { httpDate } from './date.ts';
import { MessageWriter } from './message-writer.ts';

/** The connection whose turns these are. */
export interface TurnOwner {
  readonly connection: Connection;
  /** Another request may be read behind this one. */
  readonly mayGoOn: boolean;
  resumeBody(): void;
  /** The answer is complete. */
  answered(): void;
  /** What comes from now on belongs to a WebSocket. */
  becomeTunnel(): void;
}

/**
 * The turn of an HTTP/1 connection: one request as its client sees it, and its answer, as the version and the method of the
 * request want it (RFC 9112, 6). A connection has one object for all of its turns.
 */
export class Http1Turn implements ClientStream {
  readonly connection: Connection;
  /** Nothing more is read from the connection. */
  isLast = false;
  /** The client waits for a 100 (Continue): whether its body or its next request comes behind another answer, nobody can tell. */
  isHesitant = false;
  readonly #socket: Socket;
  readonly #owner: TurnOwner;
  readonly #writer: MessageWriter;
  /** Undefined when the request was no proper one. */
  #request: RequestHead | undefined;
  #isAnswered = false;
  #bodyless = false;
  /** Without a length and without chunks, only the end of the connection ends the answer (RFC 9112, 6.3). */
  #endsWithConnection = false;

  constructor(socket: Socket, owner: TurnOwner) {
    this.connection = owner.connection;
    this.#socket = socket;
    this.#owner = owner;
    this.#writer = new MessageWriter(socket);
  }

  begin(request: RequestHead | undefined, isHesitant: boolean): void {
    this.#request = request;
    this.#isAnswered = false;
    this.isLast = false;
    this.isHesitant = isHesitant;
  }

  /** To be told of the socket's `drain`. */
  drained(): void {
    this.#writer.drained();
  }

  /** The socket takes more. */
  get isReady(): boolean {
    return this.#writer.isReady;
  }

  get isAnswered(): boolean {
    return this.#isAnswered;
  }

  /** 100 (Continue) or 103 (Early Hints); HTTP/1.0 knows neither. */
  inform(status: number, fields: readonly Field[]): void {
    if (status === 100) this.isHesitant = false;
    if (this.#request?.version !== '1.1') return;
    this.#writer.begin(status === 100 ? 'HTTP/1.1 100 Continue\r\n\r\n' : `HTTP/1.1 103 Early Hints\r\n${fieldLines(fields)}\r\n`, false);
    this.flush();
  }

  respond({ status, reason, fields, framing }: AnswerHead, last: boolean): void {
    const request = this.#request;
    this.#bodyless = request?.method === 'HEAD' || status === 204 || status === 304;
    const chunked = framing === 'chunked' && !this.#bodyless && request?.version !== '1.0';
    this.#endsWithConnection = framing === 'chunked' && !this.#bodyless && !chunked;
    const mayGoOn = !this.isLast && !last && !this.isHesitant && !this.#endsWithConnection && this.#owner.mayGoOn;
    this.isLast = !mayGoOn || request?.facts.persistent !== true;
    let head = `HTTP/1.1 ${status} ${reason}\r\n${fields.lines}`;
    // RFC 9110, 6.6.1: whoever forwards an answer without a date adds one.
    if (!fields.isDated) head += `Date: ${httpDate()}\r\n`;
    if (chunked) head += 'Transfer-Encoding: chunked\r\n';
    // HTTP/2 has no need of it.
    else if (framing === 0 && !fields.list.some(({ key }) => key === 'content-length')) head += 'Content-Length: 0\r\n';
    if (this.isLast) head += 'Connection: close\r\n';
    else if (request?.version === '1.0') head += 'Connection: keep-alive\r\n';
    this.#writer.begin(`${head}\r\n`, chunked);
  }

  write(piece: Buffer, release?: () => void): boolean {
    return this.#bodyless || this.#writer.write(piece, release);
  }

  flush(): void {
    this.#writer.flush();
  }

  end(trailers: readonly Field[]): void {
    this.#writer.end(trailers);
    this.flush();
    this.#isAnswered = true;
    this.#owner.answered();
  }

  cut(): void {
    this.flush();
    // Where the end of the connection ends the answer, TLS tells a cut one by the missing close_notify, TCP only by a reset.
    const isTcp = !('encrypted' in this.#socket) && this.#socket.remoteAddress !== undefined;
    if (this.#endsWithConnection && isTcp) this.#socket.resetAndDestroy();
    else this.#socket.destroy();
  }

  resumeBody(): void {
    this.#owner.resumeBody();
  }

  switchProtocols(fields: readonly Field[]): Duplex | undefined {
    if (this.#socket.destroyed) return undefined;
    this.#owner.becomeTunnel();
    this.#writer.begin(`HTTP/1.1 101 Switching Protocols\r\n${fieldLines(fields)}Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n`, false);
    this.flush();
    return this.#socket;
  }
}
