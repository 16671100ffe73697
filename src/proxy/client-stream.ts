import type { Duplex } from 'node:stream';
import type { TLSSocket } from 'node:tls';
import type { ClientCertificateValues } from '../config/policies.ts';
import type { AnswerHead } from './engine.ts';
import type { Field } from './headers.ts';
import type { ProxyError } from './proxy-error.ts';

/** What is known of a client's connection before its first request. */
export interface Connection {
  clientAddress: string;
  clientPort: number;
  protocol: 'https' | 'http';
  /** What the client connected to. */
  localAddress: string;
  localPort: number;
  /** `server_name` of the virtual host that the TLS handshake chose. */
  virtualHost: string | undefined;
  /** What the backend may be told about the client's certificate; undefined where none was asked for. */
  clientCertificate?: ClientCertificateValues | undefined;
  /** What says, when it is asked, protocol version and cipher suite in OpenSSL's words. */
  session?: Pick<TLSSocket, 'getProtocol'> & { getCipher(): { name: string } | null };
}

/**
 * One request as its client sees it: a turn of an HTTP/1 connection or a stream of an HTTP/2 one. It frames the answer,
 * and knows when a body must not be sent.
 */
export interface ClientStream {
  readonly connection: Connection;
  /** 100 (Continue) or 103 (Early Hints, RFC 8297), where the client's version knows it. */
  inform(status: number, fields: readonly Field[]): void;
  /**
   * Begins the answer.
   * @param last the request could not be read to its end, so nothing more is read from this connection
   */
  respond(answer: AnswerHead, last: boolean): void;
  /**
   * @param release may be called when the bytes of the piece are not needed any more
   * @returns false when the giver should wait for `drained` of the exchange
   */
  write(piece: Buffer, release?: () => void): boolean;
  flush(): void;
  end(trailers: readonly Field[]): void;
  /** Breaks off, so that the client cannot take a part for the whole (RFC 9112, 8; RFC 9113, 8.1). `error` is why, where it is not ours. */
  cut(error?: ProxyError): void;
  /** After `body` returned false: go on. */
  resumeBody(): void;
  /** Opens a WebSocket: answers with these end-to-end fields, and gives the bytes behind them away; undefined when the client is gone. */
  switchProtocols(fields: readonly Field[]): Duplex | undefined;
}
