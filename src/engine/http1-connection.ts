import type { Socket } from 'node:net';
import type { Connection } from '../proxy/client-stream.ts';
import { containedKind } from '../proxy/contained.ts';
import type { Timed } from '../proxy/deadlines.ts';
import type { Exchange } from '../proxy/exchange.ts';
import type { Field } from '../proxy/headers.ts';
import { ProxyError } from '../proxy/proxy-error.ts';
import type { RequestHead } from '../proxy/request-head.ts';
import type { ClientConnection, ConnectionHost } from './client-connection.ts';
import { CollectedReads, type CollectedTaker } from './collected-reads.ts';
import { Http1Turn, type TurnOwner } from './http1-turn.ts';
import type { ReadBuffer } from './read-buffer.ts';
import { RequestReader } from './request-reader.ts';
import { takeReads } from './socket-reads.ts';

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
export class Http1Connection implements ClientConnection, TurnOwner, CollectedTaker, Timed {
  deadline: number;
  readonly connection: Connection;
  readonly #socket: Socket;
  readonly #host: ConnectionHost;
  readonly #turn: Http1Turn;
  readonly #requests = new RequestReader();
  readonly #bodyReads: CollectedReads;
  /** The first request has begun to arrive. */
  #isUsed = false;
  #isAdvancing = false;

  /** Of the request that is being answered; undefined between two. */
  #exchange: Exchange | undefined;
  /** Bytes of its body that are read after the answer. */
  #left = MAX_LEFT;

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
    this.#turn = new Http1Turn(socket, this);
    this.#bodyReads = new CollectedReads(socket, this);
    this.deadline = performance.now() + host.timeouts.requestHeader;
    host.deadlines.watch(this);
    Http1Connection.#listenTo(socket, this);
    takeReads(socket, (bytes) => this.#read(bytes));
    socket.resume(); // it is paused when a PROXY header was read before
  }

  get isTunnel(): boolean {
    return this.#isTunnel;
  }

  get isIdle(): boolean {
    return this.#exchange === undefined;
  }

  get idleSince(): number {
    if (this.#exchange || this.#requests.waiting > 0 || this.#isTunnel || this.#socket.writableEnded) return Infinity;
    const { keepAlive, requestHeader } = this.#host.timeouts;
    return this.deadline - (this.#isUsed ? keepAlive : requestHeader);
  }

  get isFresh(): boolean {
    return !this.#isUsed;
  }

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
    } else if (this.#requests.waiting > 0) {
      this.#reject(new ProxyError('client_head_timeout', 'the client did not finish its request head', { setting: 'timeouts.request_header' }));
    } else {
      this.#socket.end();
      this.destroy();
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

  #drained(): void {
    this.#turn.drained();
    if (this.#isTunnel) return;
    if (this.#exchange) return this.#exchange.clientDrained();
    this.resumeBody();
    this.#advance();
  }

  // Reading.

  /** @param bytes valid until this returns */
  #read(bytes: Buffer): void {
    if (this.#isLingering) this.#listen();
    else if (this.#requests.isWithinBody || this.#bodyReads.isWaiting) this.#bodyReads.add(bytes);
    else this.take(bytes);
  }

  take(bytes: Buffer, lent?: ReadBuffer): void {
    if (this.#isLingering || this.#isTunnel) return;
    try {
      this.#requests.add(bytes, lent);
      this.#advance();
      this.#requests.keep();
    } catch (error) {
      this.fault(error as Error);
    }
  }

  #advance(): void {
    if (this.#isAdvancing) return;
    this.#isAdvancing = true;
    while (this.#requests.waiting > 0 && !this.#isLingering && !this.#isTunnel && !this.#socket.destroyed) {
      if (this.#exchange && this.#requests.isWithinBody) {
        this.#readBody(this.#exchange);
      } else if (this.#exchange || !this.#turn.isReady) {
        // The next request waits until the answer to the last is complete, and taken.
        if (this.#requests.waiting > MAX_AHEAD) this.#socket.pause();
        break;
      } else if (this.#isOutdated || !this.#readHead()) {
        break;
      }
    }
    this.#isAdvancing = false;
  }

  /** @returns false when more bytes are needed */
  #readHead(): boolean {
    let line = '-';
    try {
      const isNew = !this.#requests.isWithinHead;
      const head = this.#requests.readHead((said) => (line = said));
      if (head) this.#begin(head);
      else if (isNew) this.#limit(this.#host.timeouts.requestHeader);
      return head !== undefined;
    } catch (error) {
      this.#reject(error instanceof ProxyError ? error : new ProxyError('internal', (error as Error).message), line);
      return true;
    }
  }

  #begin(head: RequestHead): void {
    this.#enter();
    this.#turn.begin(head, this.#requests.isWithinBody && head.facts.expectContinue);
    this.#exchange = this.#host.handler.begin(this.#turn, head);
    this.answered();
  }

  /** What is not a proper request is answered, and nothing behind it is read: nobody knows where it ends. */
  #reject(error: ProxyError, line = '-'): void {
    this.#enter();
    this.#requests.drop();
    this.#turn.begin(undefined, false);
    this.#exchange = this.#host.handler.reject(this.#turn, error, line);
    this.answered();
  }

  #enter(): void {
    this.deadline = Infinity;
    this.#isUsed = true;
    this.#left = MAX_LEFT;
  }

  #readBody(exchange: Exchange): void {
    this.#turn.isHesitant = false;
    const { lent } = this.#requests;
    let trailers: readonly Field[] | undefined;
    try {
      trailers = this.#requests.readBody((piece) => {
        if (exchange.isOver) this.#left -= piece.length;
        else if (!exchange.body(lent ? piece : Buffer.from(piece), lent?.hold())) this.#bodyReads.block();
      });
    } catch (error) {
      if (!(error instanceof ProxyError)) throw error;
      this.#requests.drop();
      this.#turn.isLast = true;
      if (exchange.isOver) return this.answered();
      exchange.refuse(error);
      return;
    }
    if (trailers) {
      this.resumeBody();
      exchange.bodyEnded(trailers);
      this.answered();
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

  // Between the turns.

  get mayGoOn(): boolean {
    return !this.#host.isClosing && !this.#isOutdated;
  }

  becomeTunnel(): void {
    this.#isTunnel = true;
    this.#socket.pause();
    const early = this.#requests.drop();
    if (early.length > 0) this.#socket.unshift(early);
  }

  /** Goes on to the next request when this one is read and answered. */
  answered(): void {
    if (!this.#turn.isAnswered || !this.#exchange?.isOver) return;
    if (this.#isTunnel) return this.#host.left(this);
    const hasRest = this.#requests.isWithinBody;
    if (!hasRest) this.#exchange = undefined;
    if (hasRest || this.#turn.isLast) {
      this.#lingerEnd = performance.now() + MAX_LINGER;
      if (this.#turn.isLast) this.#linger();
      else this.#listen();
      // What comes of it may be the next request already.
      if (hasRest) this.resumeBody();
      return;
    }
    if (this.#host.isHurrying || this.#isOutdated) return this.endSoon();
    this.#limit(this.#host.timeouts.keepAlive);
    if (this.#socket.isPaused()) this.#socket.resume();
    this.#advance();
  }

  /** Closing on unread input would reset the connection, and the client could lose the answer with it (RFC 9112, 9.6). */
  #linger(): void {
    this.#isLingering = true;
    this.#requests.drop();
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
