import type { Socket } from 'node:net';
import { plainAddress } from '../config/networks.ts';

/** One end of a connection; the address is empty for a unix socket. */
export interface Peer {
  address: string;
  port: number;
}

/** Who is told what becomes of it: one for all, because each object more is one for each idle connection. */
export interface ArrivalObserver {
  /** It does not get past its handshake, for this reason. */
  refused(code: string): void;
  /** It has got past its handshake, or ended. */
  arrived(arrival: Arrival): void;
  closed(arrival: Arrival): void;
}

function destroy(this: Socket): void {
  this.destroy();
}

/**
 * An accepted connection on its way to the end of its handshake. What becomes of it is told once: it is settled,
 * refused, or the client has gone.
 */
export class Arrival {
  readonly socket: Socket;
  /** The client itself, once a PROXY header has named it. */
  peer: Peer;
  /** What the client connected to, likewise. */
  local: Peer;
  /** Whose other connections are counted with it, if any are. */
  client: string | undefined;
  /** When it was accepted, by performance.now(). */
  readonly since = performance.now();
  readonly #observer: ArrivalObserver;
  #isDecided = false;
  #hasArrived = false;

  constructor(socket: Socket, observer: ArrivalObserver) {
    this.socket = socket;
    this.peer = { address: plainAddress(socket.remoteAddress ?? ''), port: socket.remotePort ?? 0 };
    this.local = { address: plainAddress(socket.localAddress ?? ''), port: socket.localPort ?? 0 };
    this.#observer = observer;
    // A reset before anyone else listens must not become an uncaught exception.
    socket.on('error', destroy);
    socket.on('close', () => {
      // A client certificate that does not verify makes the TLS library close the connection first and say why afterwards.
      if (!this.#isDecided) setImmediate(() => this.refused('handshake_abandoned'));
      this.#arrive();
      observer.closed(this);
    });
  }

  /** The handshake is done: no deadline any more. */
  settled(): void {
    this.#isDecided = true;
    this.#arrive();
  }

  /** It will not be served, by `code` of docs/errors.md. What is still said to the client stands under the deadline. */
  refused(code: string): void {
    if (this.#isDecided) return;
    this.#isDecided = true;
    this.#observer.refused(code);
  }

  /** Refuses it and cuts it off. */
  drop(code: string): void {
    this.refused(code);
    this.socket.destroy();
  }

  #arrive(): void {
    if (this.#hasArrived) return;
    this.#hasArrived = true;
    this.#observer.arrived(this);
  }
}
