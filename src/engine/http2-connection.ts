import type { Socket } from 'node:net';
import { ConnectionError, ErrorCode } from '../http2/frames.ts';
import type { HeaderList } from '../http2/header-field.ts';
import { ServerSession, type ServerEvents } from '../http2/server-session.ts';
import type { Stream } from '../http2/stream.ts';
import type { Connection } from '../proxy/client-stream.ts';
import { contained } from '../proxy/contained.ts';
import type { Timed } from '../proxy/deadlines.ts';
import type { ClientConnection, ConnectionHost } from './client-connection.ts';
import { MAX_HEAD } from './head.ts';
import { Http2HeadReader } from './http2-head.ts';
import { Http2Stream, type Http2StreamOwner } from './http2-stream.ts';
import { takeReads } from './socket-reads.ts';
import { atTurnEnd, type Collecting } from './turn-end.ts';

/** ms for a client to answer a PING, and to close after us. */
const MAX_WAIT = 5_000;
/** What is read, and dropped, after we have closed: closing on unread input would reset the connection, and GOAWAY be lost with it. */
const MAX_DROPPED = 65_536;
/** RFC 9113, 9.2. */
const TOO_OLD = new Set(['TLSv1', 'TLSv1.1']);

/** A client's connection that speaks HTTP/2 (RFC 9113), after its TLS handshake. */
export class Http2Connection implements ClientConnection, Timed, Collecting, ServerEvents, Http2StreamOwner {
  deadline: number;
  readonly connection: Connection;
  readonly host: ConnectionHost;
  readonly heads = new Http2HeadReader();
  readonly offersWebSocket: boolean;
  readonly #socket: Socket;
  readonly #session: ServerSession;
  readonly #streams = new Set<Http2Stream>();
  #isUsed = false;
  /** The client has been told that the connection ends. */
  #isEnding = false;
  /** Our side is closed, and what comes is dropped. */
  #isDone = false;
  /** Bytes of it. */
  #dropped = 0;
  #isClosed = false;
  /** Bytes that the kernel had taken when the connection last expired. */
  #taken = 0;

  constructor(socket: Socket, connection: Connection, host: ConnectionHost) {
    this.connection = connection;
    this.host = host;
    this.offersWebSocket = host.http2.websocket;
    this.#socket = socket;
    this.deadline = performance.now() + host.timeouts.requestHeader;
    host.deadlines.watch(this);
    this.#session = new ServerSession(
      this,
      // Twice as much as is served: who is only a little above gets an answer that says so, and no bare reset.
      { webSocket: this.offersWebSocket, maxHeaderList: 2 * MAX_HEAD },
      { give: (bytes, taken) => socket.write(bytes, taken), onWaiting: () => atTurnEnd(this), onTaken: () => this.#resume() },
    );
    const on = contained(socket, (error) => this.fault(error));
    takeReads(socket, (bytes) => this.#read(bytes));
    // As with HTTP/1, whoever closes its side has gone.
    on('end', () => this.destroy());
    on('error', () => socket.destroy());
    on('close', () => {
      this.#isClosed = true;
      host.deadlines.forget(this);
      this.#session.abandon();
      this.#leave();
    });
    socket.resume(); // it is paused when a PROXY header was read before
    if (TOO_OLD.has(connection.session?.getProtocol() ?? '')) this.#session.fail(new ConnectionError(ErrorCode.INADEQUATE_SECURITY, 'TLS older than 1.2'));
  }

  get isIdle(): boolean {
    return this.#streams.size === 0;
  }

  get isTunnel(): boolean {
    return !this.isIdle && Array.from(this.#streams).every((stream) => stream.isTunnel);
  }

  get idleSince(): number {
    if (!this.isIdle || this.#isEnding || this.#isClosed) return Infinity;
    const { keepAlive, requestHeader } = this.host.timeouts;
    return this.deadline - (this.#isUsed ? keepAlive : requestHeader);
  }

  get isFresh(): boolean {
    return !this.#isUsed;
  }

  /** Streams that have begun are answered; what the client sent after them was not processed, and it knows (RFC 9113, 6.8). */
  endOutdated(): void {
    this.#close();
  }

  /**
   * Ends when the streams under way have their answers. A request that crosses the announcement on the wire is still
   * served: which stream is the last is said when the client is known to have heard of it, or when none is left.
   */
  endSoon(): void {
    if (this.#isEnding) return;
    if (this.isIdle) return this.#close();
    this.#isEnding = true;
    this.#session.announceEnd();
  }

  destroy(): void {
    this.#socket.destroy();
  }

  /** An error of ours: it ends this connection and no other. */
  fault(error: Error): void {
    this.host.log.error(`internal error: ${error.message}`, { code: 'internal', at: error.stack?.split('\n')[1]?.trim() });
    this.destroy();
  }

  expire(): void {
    const waiting = this.#socket.writableLength;
    const taken = this.#socket.bytesWritten - waiting;
    const isTaking = waiting > 0 && taken > this.#taken;
    this.#taken = taken;
    if (!this.isIdle) {
      for (const stream of this.#streams) stream.cutStalled();
      this.#limit(this.host.timeouts.responseBody);
    } else if (isTaking) {
      // A slow client is still taking the end of its answers.
      this.#limit(this.host.timeouts.responseBody);
    } else if (this.#isEnding || waiting > 0) {
      this.destroy();
    } else {
      this.#close();
    }
  }

  // From the session.

  requested(stream: Stream, head: HeaderList): void {
    this.#isUsed = true;
    if (this.isIdle) this.deadline = Infinity;
    const one = new Http2Stream(stream, this);
    this.#streams.add(one);
    try {
      one.begin(head);
    } catch (error) {
      this.left(one);
      this.#tell('request', error as Error);
      throw error;
    }
    if (this.host.isClosing) this.endSoon();
  }

  heard(): void {
    this.#close();
  }

  leaving(): void {
    this.#isEnding = true;
    if (this.isIdle) this.#close();
  }

  failed(error: ConnectionError): void {
    this.#tell('connection', error);
    this.#isEnding = true;
    this.#limit(MAX_WAIT);
    this.flush();
    this.#end();
  }

  // From streams.

  /** A stream has its answer, and it is now for the client to take it. */
  answered(): void {
    if (this.deadline === Infinity) this.#limit(this.host.timeouts.responseBody);
  }

  /** A stream is closed, and its exchange accounted for. */
  left(stream: Http2Stream): void {
    if (!this.#streams.delete(stream) || !this.isIdle) return;
    if (this.#isClosed) return this.#leave();
    if (this.#isEnding || this.host.isHurrying) this.#close();
    else this.#limit(this.host.timeouts.keepAlive);
  }

  // From the socket, and to it.

  /** @param bytes valid until this returns */
  #read(bytes: Buffer): void {
    if (this.#isDone) {
      this.#dropped += bytes.length;
      if (this.#dropped > MAX_DROPPED) this.destroy();
      return;
    }
    try {
      this.#session.read(bytes, performance.now());
    } catch (error) {
      return this.fault(error as Error);
    }
    // Whoever does not take what was sent, not even acknowledgements, is not listened to (CVE-2019-9512, CVE-2019-9515).
    if (this.#session.sender.isClogged) this.#socket.pause();
  }

  flush(): void {
    this.#session.sender.pump();
    this.#session.sender.writer.flush();
    if (this.#isEnding && this.isIdle) this.#end();
  }

  /** The client has taken something. */
  #resume(): void {
    const { sender } = this.#session;
    if (this.#socket.isPaused() && !sender.isClogged) this.#socket.resume();
    sender.pump();
  }

  #close(): void {
    this.#isEnding = true;
    this.#session.close();
    if (!this.isIdle) return;
    this.#limit(MAX_WAIT);
    atTurnEnd(this);
  }

  /** Nothing more will be said. */
  #end(): void {
    if (this.#isDone) return;
    this.#isDone = true;
    this.#socket.resume();
    this.#socket.end();
  }

  #tell(what: string, { message }: Error): void {
    this.host.log.debug(`HTTP/2 ${what} refused: ${message}`, { code: 'http2_error', client: this.connection.clientAddress });
  }

  #leave(): void {
    if (this.isIdle) this.host.left(this);
  }

  #limit(ms: number): void {
    this.deadline = performance.now() + ms;
  }
}
