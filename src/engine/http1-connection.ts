import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { ClientStream, Connection } from '../proxy/client-stream.ts';
import { containedKind } from '../proxy/contained.ts';
import type { Timed } from '../proxy/deadlines.ts';
import type { AnswerHead } from '../proxy/engine.ts';
import type { Exchange } from '../proxy/exchange.ts';
import type { Field } from '../proxy/headers.ts';
import { ProxyError } from '../proxy/proxy-error.ts';
import { parseRequestHead, type RequestHead } from '../proxy/request-head.ts';
import { AnswerWriter } from './answer-writer.ts';
import { BodyReader } from './body-reader.ts';
import { CollectedReads, type CollectedTaker } from './collected-reads.ts';
import type { ClientConnection, ConnectionHost } from './client-connection.ts';
import { findHeadEnd } from './head.ts';
import type { ReadBuffer } from './read-buffer.ts';
import { RequestScanner } from './request-scanner.ts';
import { takeReads } from './socket-reads.ts';

const NOTHING = Buffer.alloc(0);
/** Bytes that a client may send ahead of its answer; then its socket is not read. */
const MAX_AHEAD = 65_536;
/** What is read of a request body after its answer, so that the next request can be found behind it (RFC 9112, 9.3). */
const MAX_LEFT = 262_144;
/** ms for that, and for a client to close after us. */
const MAX_WAIT = 5_000;
/** ms that a client which goes on sending is listened to (nginx's lingering_time). */
const MAX_LINGER = 30_000;

/**
 * A client's connection that speaks HTTP/1.0 or 1.1 (RFC 9112), after its TLS handshake or without one. Requests are
 * answered one after the other; the next head is not read before the answer to the last is complete and the socket has room.
 */
export class Http1Connection implements ClientConnection, ClientStream, CollectedTaker, Timed {
  deadline: number;
  readonly connection: Connection;
  readonly #socket: Socket;
  readonly #host: ConnectionHost;
  readonly #writer: AnswerWriter;
  readonly #scanner = new RequestScanner();
  #input: Buffer = NOTHING;
  readonly #bodyReads: CollectedReads;
  /** Whose bytes are being looked at. */
  #lent: ReadBuffer | undefined;
  /** How much of the input has been searched for the end of a head. */
  #searched = 0;
  /** The first request has begun to arrive. */
  #isUsed = false;
  #isAdvancing = false;

  /** The request that is being answered; undefined when it was no proper one, and between two. */
  #head: RequestHead | undefined;
  #exchange: Exchange | undefined;
  /** What is still to come of its body. */
  #body: BodyReader | undefined;
  /** Bytes of it that are read after the answer. */
  #left = MAX_LEFT;
  #answer: 'awaited' | 'begun' | 'complete' = 'awaited';
  #isLast = false;
  /** It waits for a 100 (Continue): whether its body or its next request comes behind another answer, nobody can tell. */
  #isHesitant = false;

  /** Our side is closed; what comes is dropped, until the client closes too. */
  #isLingering = false;
  /** When that ends at the latest, by performance.now(). */
  #lingerEnd = 0;
  #isTunnel = false;
  /** The handshake obeyed rules that are not in force any more: nothing new is taken from this connection. */
  #isOutdated = false;
  /** Bytes that the kernel had taken when the connection last expired. */
  #taken = 0;

  static readonly #listenTo = containedKind<Http1Connection>({
    end: (connection) => connection.#peerEnded(),
    drain: (connection) => connection.#drained(),
    error: (connection) => connection.destroy(),
    close: (connection) => connection.#closed(),
  });

  constructor(socket: Socket, connection: Connection, host: ConnectionHost) {
    this.connection = connection;
    this.#socket = socket;
    this.#host = host;
    this.#writer = new AnswerWriter(socket);
    this.#bodyReads = new CollectedReads(socket, this);
    this.deadline = performance.now() + host.timeouts.requestHeader;
    host.deadlines.watch(this);
    Http1Connection.#listenTo(socket, this);
    takeReads(socket, (bytes) => this.#read(bytes));
    socket.resume(); // it is paused when a PROXY header was read before
  }

  /** Between two requests. */
  get isTunnel(): boolean {
    return this.#isTunnel;
  }

  get isIdle(): boolean {
    return this.#exchange === undefined;
  }

  get idleSince(): number {
    if (this.#exchange || this.#input.length > 0 || this.#isTunnel || this.#socket.writableEnded) return Infinity;
    const { keepAlive, requestHeader } = this.#host.timeouts;
    return this.deadline - (this.#isUsed ? keepAlive : requestHeader);
  }

  /** No request has come yet: the first may be on its way. */
  get isFresh(): boolean {
    return !this.#isUsed;
  }

  /** Ends when the request under way has its answer; a tunnel stays. */
  endOutdated(): void {
    this.#isOutdated = true;
    if (this.isIdle) this.endSoon();
  }

  endSoon(): void {
    this.#socket.destroySoon();
  }

  destroy(): void {
    this.#socket.destroy();
  }

  /** An error of ours: it ends this connection and no other. */
  fault(error: Error): void {
    this.#exchange?.fault(error);
    this.destroy();
  }

  expire(): void {
    const waiting = this.#socket.writableLength;
    const taken = this.#socket.bytesWritten - waiting;
    if (waiting > 0 && taken > this.#taken) {
      // A slow client is still taking the end of its answer.
      this.#taken = taken;
      this.#limit(this.#host.timeouts.responseBody);
    } else if (waiting > 0 || this.#exchange || this.#isLingering) {
      this.destroy();
    } else if (this.#input.length > 0) {
      this.#reject(new ProxyError('client_head_timeout', 'the client did not finish its request head', { setting: 'timeouts.request_header' }));
    } else {
      this.#socket.end();
      this.destroy();
    }
  }

  // Reading.

  /** @param bytes valid until this returns */
  #read(bytes: Buffer): void {
    if (this.#isLingering) this.#listen();
    else if (this.#body) this.#bodyReads.add(bytes);
    else this.#take(bytes);
  }

  takeCollected(bytes: Buffer, lent: ReadBuffer): void {
    this.#lent = lent;
    this.#take(bytes);
    this.#lent = undefined;
  }

  /** @param bytes valid until this returns */
  #take(bytes: Buffer): void {
    if (this.#isLingering || this.#isTunnel) return;
    try {
      this.#input = this.#input.length === 0 ? bytes : Buffer.concat([this.#input, bytes]);
      this.#advance();
      if (this.#input.length > 0) this.#input = Buffer.from(this.#input);
    } catch (error) {
      this.fault(error as Error);
    }
  }

  #closed(): void {
    this.#host.deadlines.forget(this);
    if (this.#isTunnel) return;
    this.#host.left(this);
    this.#exchange?.clientGone();
  }

  /** RFC 9112, 9.6 leaves open what a client means by closing its side; to nginx, too, it has gone away. */
  #peerEnded(): void {
    if (this.#isTunnel) return;
    this.#bodyReads.passOn();
    if (this.#exchange?.isOver === false) this.destroy();
    else this.endSoon();
  }

  #advance(): void {
    if (this.#isAdvancing) return;
    this.#isAdvancing = true;
    while (this.#input.length > 0 && !this.#isLingering && !this.#isTunnel && !this.#socket.destroyed) {
      if (this.#exchange && this.#body) {
        this.#readBody(this.#exchange, this.#body);
      } else if (this.#exchange || !this.#writer.isReady) {
        // The next request waits until the answer to the last is complete, and taken.
        if (this.#input.length > MAX_AHEAD) this.#socket.pause();
        break;
      } else if (this.#isOutdated || !this.#readHead()) {
        break;
      }
    }
    this.#isAdvancing = false;
  }

  #drained(): void {
    this.#writer.drained();
    if (this.#isTunnel) return;
    if (this.#exchange) return this.#exchange.clientDrained();
    this.resumeBody();
    this.#advance();
  }

  /** @returns false when more bytes are needed */
  #readHead(): boolean {
    let line = '-';
    try {
      const end = findHeadEnd(this.#input, this.#searched);
      if (end === -1) {
        if (this.#searched === 0) this.#limit(this.#host.timeouts.requestHeader);
        this.#searched = this.#input.length;
        return false;
      }
      const { method, target, facts } = this.#scanner.scan(this.#input, end, (said) => (line = said));
      this.#input = end === this.#input.length ? NOTHING : this.#input.subarray(end);
      this.#begin(parseRequestHead(method, target, facts));
    } catch (error) {
      this.#reject(error instanceof ProxyError ? error : new ProxyError('internal', (error as Error).message), line);
    }
    return true;
  }

  #begin(head: RequestHead): void {
    this.#enter(head);
    if (head.framing !== 'none' && head.framing !== 0) {
      this.#body = new BodyReader(head.framing, 'bad_request');
      this.#isHesitant = head.facts.expectContinue;
    }
    this.#exchange = this.#host.handler.begin(this, head);
    this.#settle();
  }

  /** What is not a proper request is answered, and nothing behind it is read: nobody knows where it ends. */
  #reject(error: ProxyError, line = '-'): void {
    this.#enter(undefined);
    this.#input = NOTHING;
    this.#exchange = this.#host.handler.reject(this, error, line);
    this.#settle();
  }

  #enter(head: RequestHead | undefined): void {
    this.deadline = Infinity;
    this.#isUsed = true;
    this.#searched = 0;
    this.#head = head;
    this.#body = undefined;
    this.#left = MAX_LEFT;
    this.#answer = 'awaited';
    this.#isLast = false;
    this.#isHesitant = false;
  }

  #readBody(exchange: Exchange, body: BodyReader): void {
    this.#isHesitant = false;
    try {
      const lent = this.#lent;
      const taken = body.read(this.#input, (piece) => {
        if (exchange.isOver) this.#left -= piece.length;
        else if (!exchange.body(lent ? piece : Buffer.from(piece), lent?.hold())) this.#bodyReads.block();
      });
      this.#input = taken === this.#input.length ? NOTHING : this.#input.subarray(taken);
    } catch (error) {
      if (!(error instanceof ProxyError)) throw error;
      this.#input = NOTHING;
      this.#isLast = true;
      this.#body = undefined;
      if (exchange.isOver) return this.#settle();
      exchange.refuse(error);
      return;
    }
    if (body.done) {
      this.#body = undefined;
      this.resumeBody();
      exchange.bodyEnded(body.trailers);
      this.#settle();
    } else if (this.#left < 0) {
      this.#linger();
    } else if (this.#left < MAX_LEFT) {
      this.#listen();
    }
    exchange.flushBody();
  }

  resumeBody(): void {
    this.#bodyReads.resume();
  }

  // Answering.

  inform(status: number, fields: readonly Field[]): void {
    if (status === 100) this.#isHesitant = false;
    this.#writer.inform(this.#head, status, fields);
  }

  respond(answer: AnswerHead, last: boolean): void {
    this.#answer = 'begun';
    const mayGoOn = !this.#isLast && !last && !this.#isHesitant && !this.#host.isClosing && !this.#isOutdated;
    this.#isLast = this.#writer.begin(this.#head, answer, mayGoOn);
  }

  write(piece: Buffer, release?: () => void): boolean {
    return this.#writer.write(piece, release);
  }

  flush(): void {
    this.#writer.flush();
  }

  end(trailers: readonly Field[]): void {
    this.#writer.end(trailers);
    this.#answer = 'complete';
    if (this.#exchange) this.#settle();
  }

  cut(): void {
    this.#writer.flush();
    // Where the end of the connection ends the answer, TLS tells a cut one by the missing close_notify, TCP only by a reset.
    const isTcp = !('encrypted' in this.#socket) && this.#socket.remoteAddress !== undefined;
    if (this.#writer.endsWithConnection && isTcp) this.#socket.resetAndDestroy();
    else this.destroy();
  }

  switchProtocols(fields: readonly Field[]): Duplex | undefined {
    const socket = this.#socket;
    if (socket.destroyed) return undefined;
    this.#isTunnel = true;
    socket.pause();
    if (this.#input.length > 0) socket.unshift(this.#input);
    this.#input = NOTHING;
    this.#writer.switchProtocols(fields);
    return socket;
  }

  /** Goes on to the next request when this one is read and answered. */
  #settle(): void {
    if (this.#answer !== 'complete' || !this.#exchange?.isOver) return;
    if (this.#isTunnel) {
      this.#host.left(this);
    } else if (this.#isLast && this.#body === undefined) {
      this.#exchange = undefined;
      this.#lingerEnd = performance.now() + MAX_LINGER;
      this.#linger();
    } else if (this.#body) {
      this.resumeBody();
      this.#lingerEnd = performance.now() + MAX_LINGER;
      if (this.#isLast) this.#linger();
      else this.#listen();
    } else {
      this.#exchange = undefined;
      if (this.#host.isHurrying || this.#isOutdated) return this.endSoon();
      this.#limit(this.#host.timeouts.keepAlive);
      if (this.#socket.isPaused()) this.#socket.resume();
      this.#advance();
    }
  }

  /** Closing on unread input would reset the connection, and the client could lose the answer with it (RFC 9112, 9.6). */
  #linger(): void {
    this.#isLingering = true;
    this.#input = NOTHING;
    this.#listen();
    this.#socket.resume();
    this.#socket.end();
  }

  /** To what comes behind the answer. */
  #listen(): void {
    this.deadline = Math.min(performance.now() + MAX_WAIT, this.#lingerEnd);
  }

  #limit(ms: number): void {
    this.deadline = performance.now() + ms;
  }
}
