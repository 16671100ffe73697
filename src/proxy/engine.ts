import type { Duplex } from 'node:stream';
import type { Route, Timeouts } from '../config/schema.ts';
import type { BackendAddress } from '../config/values.ts';
import type { Field, FieldList } from './headers.ts';
import type { ProxyError } from './proxy-error.ts';
import type { Framing } from './request-head.ts';

/** One request, checked and rewritten: an engine sends exactly this. */
export interface BackendRequest {
  method: string;
  /** Sent byte for byte. */
  target: string;
  /** In order; they hold Content-Length or Transfer-Encoding exactly as `framing` says. */
  fields: FieldList;
  framing: Framing;
  /** Behind a body whose length is known, too: in HTTP/2. */
  mayHaveTrailers: boolean;
  expectContinue: boolean;
  /** The fields ask for a WebSocket. */
  upgrade: boolean;
  /** How its route wants backends to be spoken to. */
  route: Route;
  timeouts: Timeouts;
  /**
   * With what each connection to the backend begins: a PROXY header, which names one client. A kept connection is used again
   * only for requests with the same one.
   */
  prelude: Buffer | undefined;
  /** It was lost with a kept connection, or refused, and goes on a new connection: another kept one may be as dead. */
  isRepeated: boolean;
}

/** The head of an answer. */
export interface AnswerHead {
  status: number;
  reason: string;
  /** Without those that belong to the connection; where the framing is a number, they hold a Content-Length, unless it is 0. */
  fields: FieldList;
  /** How long the body is: `none` where there can be none, `chunked` where only its end will tell. */
  framing: Framing;
  /** As in a request. */
  mayHaveTrailers?: boolean;
}

/**
 * What becomes of a request, told in this order: `connected`; `informed` any number of times; `answered`, `received`,
 * `ended`, or else `switched`. `failed` may come at any time. Nothing comes after `ended`, `switched` and `failed`, nor
 * after `abort`, and nothing before `send` has returned.
 */
export interface Recipient {
  /** The backend has accepted the connection: the body may be written. Until then another backend can be tried. */
  connected(): void;
  /** After `write` returned false: more can be written. */
  drained(): void;
  /** An interim answer (1xx but not 101). */
  informed(status: number, fields: readonly Field[]): void;
  answered(answer: AnswerHead): void;
  /** A piece of the body; `release` may be called when its bytes are not needed any more. */
  received(piece: Buffer, release?: () => void): void;
  /** What was told so far may go to the client; more may take a while. */
  flush(): void;
  ended(trailers: readonly Field[]): void;
  /** After a 101. `join` ties the backend's connection to the client's until either ends or nothing moves for `idle` ms. */
  switched(answer: AnswerHead, join: (client: Duplex, idle: number) => Promise<TunnelTraffic>): void;
  /**
   * `backend_unreachable`, `backend_connect_timeout` and `backend_tls` mean that no byte was sent, `backend_refused` that the
   * backend has not looked at any, `backend_stale` that a kept connection died before any byte of an answer.
   */
  failed(error: ProxyError): void;
  /** An error of ours. */
  fault(error: Error): void;
}

/** Bytes carried, seen from the proxy's front. */
export interface TunnelTraffic {
  received: number;
  sent: number;
}

/** A request on its way: where its body goes, and how its answer is held back. */
export interface BackendStream {
  /** The connection was there already; `connected` will not be called. */
  readonly isConnected: boolean;
  /**
   * @param release may be called when the bytes of the piece are not needed any more
   * @returns false when the giver should wait for `drained`
   */
  write(piece: Buffer, release?: () => void): boolean;
  /** What was written so far may be sent; more may take a while. */
  flush(): void;
  end(trailers: readonly Field[]): void;
  pause(): void;
  resume(): void;
  /** Lets go of everything at once; the connection is not used again. */
  abort(): void;
}

/** Carries requests to backends. The proxy chooses the backend, decides the fields and answers the client; an engine knows connections. */
export interface Engine {
  /** @throws ProxyError instead of telling the recipient that it failed */
  send(backend: BackendAddress, request: BackendRequest, recipient: Recipient): BackendStream;
  /** Cuts every connection. */
  close(): void;
}
