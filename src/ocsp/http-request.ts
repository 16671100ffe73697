import { once } from 'node:events';
import http, { type ClientRequest, type IncomingMessage, type OutgoingHttpHeaders } from 'node:http';
import https from 'node:https';
import { isIP, type Socket } from 'node:net';
import tls from 'node:tls';
import type { ForwardProxy } from './forward-proxy.ts';
import { guardedLookup, sharedLookup } from './responder-address.ts';

interface Options {
  method: string;
  headers: OutgoingHttpHeaders;
  signal: AbortSignal;
}

const connection = {
  // A connection of its own: a kept one may be closed by the responder while the next question is on its way.
  agent: false,
  // All addresses of a name are tried; Node's 250 ms for each would give up on those far away.
  autoSelectFamilyAttemptTimeout: 1000,
  lookup: sharedLookup,
};

/** Begins a request to the host that the URL names. */
export function request(target: URL, options: Options, anyAddress: boolean): ClientRequest {
  return (target.protocol === 'https:' ? https : http).request(target, { ...connection, ...options, ...(!anyAddress && { lookup: guardedLookup }) });
}

/**
 * Begins a request that a proxy passes on: in absolute form for http (RFC 9112 3.2.2), through a tunnel for https (RFC 9110 9.3.6).
 * Node's own proxy support is of no use here: it does not give up a CONNECT that hangs when the signal says so.
 *
 * @param refused makes the error for a proxy that opens no tunnel
 * @throws the system's error, or what `refused` makes
 */
export async function requestThrough(
  proxy: ForwardProxy,
  target: URL,
  options: Options,
  refused: (status: number, response: IncomingMessage) => Error,
): Promise<ClientRequest> {
  const { hostname, port, authorization } = proxy;
  const credentials = authorization === undefined ? {} : { 'proxy-authorization': authorization };
  if (target.protocol === 'http:') {
    const path = `${target.origin}${target.pathname}${target.search}`;
    return http.request({ ...connection, ...options, hostname, port, path, headers: { ...options.headers, ...credentials } });
  }
  const authority = `${target.hostname}:${target.port || 443}`;
  const { signal } = options;
  const connect = http.request({ ...connection, hostname, port, method: 'CONNECT', path: authority, headers: { host: authority, ...credentials }, signal });
  connect.end();
  const [response, socket] = (await once(connect, 'connect')) as [IncomingMessage, Socket];
  const { statusCode = 0 } = response;
  if (statusCode < 200 || statusCode > 299) {
    socket.destroy();
    throw refused(statusCode, response);
  }
  const host = target.hostname.replace(/^\[|\]$/g, '');
  const createConnection = (): tls.TLSSocket => tls.connect({ socket, host, ...(isIP(host) === 0 && { servername: host }) });
  return https.request(target, { ...options, createConnection });
}
