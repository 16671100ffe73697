import type { Duplex, Readable } from 'node:stream';
import type { Timeouts } from '../config/schema.ts';
import type { BackendAddress } from '../config/values.ts';
import type { Field } from './headers.ts';
import type { Framing } from './request-head.ts';

/** One request to one backend, checked and rewritten: an engine sends exactly this. */
export interface BackendRequest {
  backend: BackendAddress;
  method: string;
  /** Sent byte for byte. */
  target: string;
  /** In order; they hold Content-Length or Transfer-Encoding exactly as `framing` says. */
  fields: readonly Field[];
  framing: Framing;
  /** Not read before the backend has accepted the connection, so that another backend can be tried until then. */
  body: Readable;
  expectContinue: boolean;
  /** The fields ask for a WebSocket. */
  upgrade: boolean;
  timeouts: Timeouts;
  /** Fires when the client is gone or has its answer: everything held for this request is let go at once. */
  signal: AbortSignal;
  /** An interim answer (1xx but not 101). */
  onInformation(status: number, fields: Field[]): void;
}

/** A backend's answer: a checked head, and a body that fails if it ends early. */
export interface BackendResponse {
  status: number;
  reason: string;
  fields: Field[];
  body: Readable;
  /** Fields behind the body, once it has ended. */
  trailers(): Field[];
  /** After a 101. */
  tunnel?: Tunnel;
}

export interface Tunnel {
  /** Joins the backend's connection to the client's until either ends or nothing moves for `idle` ms; resolves when both are closed. */
  join(client: Duplex, idle: number): Promise<TunnelTraffic>;
}

/** Bytes carried, seen from the proxy's front. */
export interface TunnelTraffic {
  received: number;
  sent: number;
}

/**
 * Carries requests to backends. The proxy chooses the backend, decides the fields and answers the client; an engine
 * knows connections. Promises reject with a ProxyError; `backend_unreachable` and `backend_connect_timeout` mean that no
 * byte was sent, `backend_stale` that a kept connection died before any byte of an answer.
 */
export interface Engine {
  send(request: BackendRequest): Promise<BackendResponse>;
  /** Cuts every connection. */
  close(): void;
}
