import * as net from 'node:net';
import type { BackendAddress } from '../config/values.ts';
import { ProxyError } from '../proxy/proxy-error.ts';
import { type BackendTls, handshakeFailure } from './backend-tls.ts';

/** How a connection to a backend begins. */
export interface Beginning {
  /** Undefined for plain TCP. */
  tls: BackendTls | undefined;
  /** What is sent before everything else, TLS too. */
  prelude?: Buffer | undefined;
  /** What is spoken then, as ALPN calls it; a TLS backend that chooses something else is not good. */
  protocol: 'http/1.1' | 'h2';
}

/** Opens a socket; on `connect`, for TLS on `secureConnect`, it can be used. `onread` is not for TLS behind a prelude. */
export function openSocket(backend: BackendAddress, { tls, prelude, protocol }: Beginning, options: { onread?: net.OnReadOpts } = {}): net.Socket {
  if (tls && 'host' in backend && !prelude) return tls.connect(backend, protocol, options);
  const where = 'socketPath' in backend ? { path: backend.socketPath } : { host: backend.host, port: backend.port };
  const socket = net.connect({ ...where, noDelay: true, ...options });
  if (prelude) socket.write(prelude);
  return tls && 'host' in backend ? tls.connect(backend, protocol, { socket }) : socket;
}

/**
 * Why a connection does not stand.
 * @param isAccepted the backend has accepted it, and the handshake was under way
 */
export function connectFailure(error: NodeJS.ErrnoException, isAccepted: boolean, backend: BackendAddress): ProxyError {
  const { name } = backend;
  if (isAccepted) return new ProxyError('backend_tls', 'the TLS handshake with the backend failed', { backend: name, ...handshakeFailure(error) });
  const facts = { backend: name, setting: 'virtual_hosts[].routes[].backends', cause: error.code ?? error.message };
  return new ProxyError('backend_unreachable', 'no connection to the backend', facts);
}

export function connectTimeout(backend: BackendAddress): ProxyError {
  return new ProxyError('backend_connect_timeout', 'the backend did not accept the connection in time', { backend: backend.name, setting: 'timeouts.connect' });
}

/** What a lost connection says of its end. A server that speaks TLS 1.3 refuses client certificates after the handshake. */
export function lossFacts(error: NodeJS.ErrnoException): { cause: string; setting?: string } {
  const cause = error.code ?? error.message;
  return cause.startsWith('ERR_SSL') ? handshakeFailure(error) : { cause };
}
