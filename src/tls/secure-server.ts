import { constants, createHash, hkdfSync } from 'node:crypto';
import * as tls from 'node:tls';
import type { VirtualHost } from '../config/schema.ts';
import type { Identity, ServableStaple } from '../snapshot.ts';
import { needsPath, type ClientVerifier } from './client-certificate.ts';
import { protocolOptions } from './policy.ts';

export interface SecureServerOptions {
  virtualHost: VirtualHost;
  identity: Identity;
  clientAuthority: string | undefined;
  clients: ClientVerifier | undefined;
  ticketSecret: Uint8Array;
  /** `tls.ticket_rotation`, in milliseconds. */
  ticketRotation: number;
  /** Application protocols, most preferred first. */
  alpn: string[];
  /** What to staple now, if anything; read at every handshake that asks. */
  staple: () => ServableStaple | undefined;
}

/**
 * Resuming a session repeats no check of the client's certificate: a session that was set up under one virtual host's
 * rules must not be resumed under another's (CVE-2025-23419 was this in nginx), so ticket keys are a virtual host's own.
 */
export function ticketKeys(ticketSecret: Uint8Array, virtualHost: string): Buffer {
  return Buffer.from(hkdfSync('sha256', ticketSecret, '', `session tickets of ${virtualHost}`, 48));
}

/**
 * A `tls.Server` that never listens: it is handed connections whose ClientHello has been read. Protocol versions,
 * ciphers and client certificates cannot be set per SNI name in Node, so each virtual host and key has its own.
 * @throws Error of the TLS library when certificate, key, ciphers or authorities do not fit together.
 */
export function createSecureServer(options: SecureServerOptions): tls.Server {
  const { virtualHost, identity, clientAuthority, clients, ticketSecret, ticketRotation, alpn, staple } = options;
  const { mode } = virtualHost.tls.clientAuth;
  const resumes = virtualHost.tls.sessionTickets && (mode === 'none' || !needsPath(virtualHost.tls.clientAuth));
  // Without the authorities, Node would accept the certificates of every public one.
  if (mode !== 'none' && clientAuthority === undefined) throw new Error('the authorities for client certificates are missing (tls.client_auth.ca)');
  const server = tls.createServer({
    ...protocolOptions(virtualHost.tls),
    cert: [identity.certificate, ...identity.intermediates].join(''),
    key: identity.key,
    // No common protocol is a fatal alert (RFC 7301, 3.2).
    ALPNProtocols: alpn,
    requestCert: mode !== 'none',
    rejectUnauthorized: mode === 'require',
    ...(clientAuthority === undefined ? {} : { ca: clientAuthority }),
    // Under other rules of the same virtual host it is not resumed either: a reload may have taken an authority's trust away.
    sessionIdContext: createHash('sha256')
      .update(JSON.stringify([virtualHost.serverName, mode, clientAuthority]))
      .digest('hex')
      .slice(0, 32),
    ticketKeys: ticketKeys(ticketSecret, virtualHost.serverName),
    // As long as a ticket can be read at all; the library would have clients forget it after two hours.
    sessionTimeout: Math.floor(ticketRotation / 1000),
    // None for each connection: its Arrival has had one from the first byte on. (0 would be two minutes.)
    handshakeTimeout: -1,
    // A second handshake could change the client's certificate after it has been judged, and costs us more than the client
    // (RFC 5746; RFC 9113, 9.2.1). Without tickets nothing is resumed: the library keeps no sessions unless it is told how.
    secureOptions: constants.SSL_OP_NO_RENEGOTIATION | (resumes ? 0 : constants.SSL_OP_NO_TICKET),
  });
  clients?.watch(server);
  server.on('OCSPRequest', (_certificate, _issuer, callback) => {
    const current = staple();
    // RFC 6066, 8: no answer rather than an empty one; RFC 6960, 4.2.2.1: nothing after nextUpdate.
    callback(null, current !== undefined && Date.now() < current.validUntil ? Buffer.from(current.der) : null);
  });
  return server;
}
