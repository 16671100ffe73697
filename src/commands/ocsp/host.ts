import type { X509Certificate } from 'node:crypto';
import { isIP } from 'node:net';
import * as tls from 'node:tls';
import { CommandError } from './outcome.ts';

export interface Host {
  host: string;
  port: number;
}

/** `HOST`, `HOST:PORT`, `[IPv6]`, `[IPv6]:PORT` or a bare IPv6 address; the port is 443 unless it says otherwise. */
export function parseHost(text: string): Host | undefined {
  if (isIP(text) === 6) return { host: text, port: 443 };
  const [, bracketed, name = '', digits = '443'] = /^(?:\[([0-9a-f:.%]+)\]|([^\s:/[\]@]+))(?::(\d{1,5}))?$/i.exec(text) ?? [];
  const port = Number(digits);
  if ((bracketed === undefined ? name === '' : isIP(bracketed) !== 6) || port < 1 || port > 65_535) return undefined;
  return { host: bracketed ?? name, port };
}

/** What one handshake shows of a server. Nothing of it is verified, except what `trustError` says. */
export interface Visit {
  protocol: string;
  cipher: string;
  /** Of the key exchange; undefined when the library does not say. */
  group: string | undefined;
  /** As sent: the server's own certificate first. */
  chain: [X509Certificate, ...X509Certificate[]];
  staple: Buffer | undefined;
  /** Why a client would not trust the certificate; undefined when it would. */
  trustError: string | undefined;
}

export interface VisitOptions {
  /** For server_name; `host` unless that is an address. */
  servername?: string | undefined;
  /** PEM of the authorities to trust instead of the usual ones. */
  ca?: string[] | undefined;
}

const deadline = 10_000;

/**
 * Makes one TLS handshake that asks for a staple, and hangs up.
 *
 * @throws CommandError `host_unreachable`, `host_timeout`, `handshake_failed`
 */
export async function visit({ host, port }: Host, { servername = isIP(host) === 0 ? host : undefined, ca }: VisitOptions = {}): Promise<Visit> {
  const where = isIP(host) === 6 ? `[${host}]:${port}` : `${host}:${port}`;
  const { promise, resolve, reject } = Promise.withResolvers<Visit>();
  let connected = false;
  let staple: Buffer | undefined;
  const socket = tls.connect({
    host,
    port,
    ...(servername !== undefined && { servername }),
    ...(ca !== undefined && { ca }),
    requestOCSP: true,
    // What is wrong with the certificate is for the caller to say. Old servers are looked at too.
    rejectUnauthorized: false,
    minVersion: 'TLSv1',
    ciphers: `${tls.DEFAULT_CIPHERS}:@SECLEVEL=0`,
  });
  const timer = setTimeout(() => reject(new CommandError('host_timeout', `${where} did not finish a TLS handshake within ${deadline / 1000} s`)), deadline);
  socket.on('connect', () => (connected = true));
  socket.on('OCSPResponse', (response: Buffer | null) => (staple = response ?? undefined));
  socket.on('close', () => reject(new CommandError('handshake_failed', `${where} closed the connection during the TLS handshake`)));
  socket.on('error', (error: Error & { code?: string; reason?: string }) => {
    if (!connected) return reject(new CommandError('host_unreachable', `${where} cannot be reached: ${reachText(error)}`));
    const nameless = servername === undefined ? '; no name was asked for (--servername)' : '';
    reject(new CommandError('handshake_failed', `the TLS handshake with ${where} failed: ${error.reason ?? error.message}${nameless}`));
  });
  socket.on('secureConnect', () => {
    const leaf = socket.getPeerX509Certificate();
    if (leaf === undefined) return reject(new CommandError('handshake_failed', `${where} sent no certificate`));
    const { name } = socket.getEphemeralKeyInfo() as { name?: string };
    const reason = socket.authorizationError as Error | string | null;
    resolve({
      protocol: socket.getProtocol() ?? 'unknown',
      cipher: socket.getCipher().standardName,
      group: name,
      chain: [leaf, ...issuersOf(leaf)],
      staple,
      trustError: socket.authorized ? undefined : reason instanceof Error ? reason.message : (reason ?? 'unknown reason'),
    });
  });
  try {
    const seen = await promise;
    // Not before the last message of the handshake is on its way: the server would count it as abandoned.
    socket.destroySoon();
    return seen;
  } catch (error) {
    socket.destroy();
    throw error;
  } finally {
    clearTimeout(timer);
  }
}

function reachText(error: Error & { code?: string }): string {
  if (error.code === 'ENOTFOUND') return 'there is no host of that name';
  const inner = error instanceof AggregateError ? (error.errors as Error[]).map(({ message }) => message).join(', ') : error.message;
  return inner || error.code || 'unknown reason';
}

function issuersOf({ issuerCertificate }: X509Certificate): X509Certificate[] {
  return issuerCertificate === undefined ? [] : [issuerCertificate, ...issuersOf(issuerCertificate)];
}
