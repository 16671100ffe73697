import { X509Certificate } from 'node:crypto';
import type { Server, TLSSocket } from 'node:tls';
import type { ClientAuth, ClientCertificateValue, ClientCertificateValues } from '../config/policies.ts';
import { certificatePath } from './certificate-path.ts';

/**
 * A distinguished name as RFC 4514 writes it, and nginx and Apache forward it: last attribute first, everything that is
 * not printable ASCII as `\XX`.
 * @param name what X509Certificate makes of it: a line for each relative name, its attributes between ` + `, with the
 *   escapes of RFC 2253; a `+` inside a value is escaped, so that one between spaces is never a value's. Undefined for an
 *   empty name, which @types/node does not say.
 */
export function distinguishedName(name: string | undefined): string {
  const relative = (name ?? '').split('\n').toReversed();
  return relative.map((attributes) => ascii(attributes.split(' + ').toReversed().join('+'))).join(',');
}

function ascii(text: string): string {
  return text.replaceAll(/[^\x20-\x7e]+/g, (run) =>
    Buffer.from(run)
      .toString('hex')
      .toUpperCase()
      .replaceAll(/../g, String.raw`\$&`),
  );
}

/** A byte sequence of RFC 9651, 3.3.5, which is what RFC 9440 has in its fields. */
function byteSequence(bytes: Buffer): string {
  return `:${bytes.toString('base64')}:`;
}

type Reading = Record<Exclude<ClientCertificateValue, 'verify'>, (certificate: X509Certificate, path: readonly X509Certificate[]) => string>;

const readings: Reading = {
  subject: ({ subject }) => distinguishedName(subject),
  issuer: ({ issuer }) => distinguishedName(issuer),
  serial: ({ serialNumber }) => serialNumber,
  not_before: ({ validFrom }) => ascii(validFrom),
  not_after: ({ validTo }) => ascii(validTo),
  sha1: ({ fingerprint }) => fingerprint.replaceAll(':', '').toLowerCase(),
  sha256: ({ fingerprint256 }) => fingerprint256.replaceAll(':', '').toLowerCase(),
  certificate: ({ raw }) => byteSequence(raw),
  chain: (_, path) => path.map(({ raw }) => byteSequence(raw)).join(', '),
  der: ({ raw }) => raw.toString('base64'),
  pem: (certificate) => certificate.toString().trim().replaceAll('\n', ' '),
  escaped_pem: (certificate) => encodeURIComponent(certificate.toString()),
};

/** OpenSSL's words (X509_verify_cert_error_string), which nginx and Apache forward, for the codes that Node has kept of them. */
const reasons: Record<string, string> = {
  UNABLE_TO_GET_ISSUER_CERT: 'unable to get issuer certificate',
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: 'unable to get local issuer certificate',
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: 'unable to verify the first certificate',
  DEPTH_ZERO_SELF_SIGNED_CERT: 'self-signed certificate',
  SELF_SIGNED_CERT_IN_CHAIN: 'self-signed certificate in certificate chain',
  CERT_SIGNATURE_FAILURE: 'certificate signature failure',
  CERT_NOT_YET_VALID: 'certificate is not yet valid',
  CERT_HAS_EXPIRED: 'certificate has expired',
  CERT_CHAIN_TOO_LONG: 'certificate chain too long',
  CERT_REVOKED: 'certificate revoked',
  CERT_UNTRUSTED: 'certificate not trusted',
  CERT_REJECTED: 'certificate rejected',
  INVALID_CA: 'invalid CA certificate',
  INVALID_PURPOSE: 'unsuitable certificate purpose',
  PATH_LENGTH_EXCEEDED: 'path length constraint exceeded',
};

/** Why the TLS library does not accept a certificate, in words. */
export function reasonOf(code: unknown): string {
  const name = String(code);
  return reasons[name] ?? name.toLowerCase().replaceAll('_', ' ');
}

/** What became of asking a client for its certificate. */
export interface ClientCertificate {
  values: ClientCertificateValues;
  /** Why the connection must end, where a certificate is required. */
  refusal: string | undefined;
}

/** Judges the certificates of one virtual host's clients, once for each connection, after the TLS library has. */
export class ClientVerifier {
  readonly #clientAuth: ClientAuth;
  readonly #anchors: readonly X509Certificate[];
  /** Of connections whose handshake is nearly done: what the client sent behind its own certificate. */
  readonly #sent = new WeakMap<TLSSocket, X509Certificate[]>();

  /** @param authorities PEM of `ca` */
  constructor(clientAuth: ClientAuth, authorities: string) {
    this.#clientAuth = clientAuth;
    this.#anchors = needsPath(clientAuth)
      ? (authorities.match(/-----BEGIN CERTIFICATE-----[^]+?-----END CERTIFICATE-----/g) ?? []).map((pem) => new X509Certificate(pem))
      : [];
  }

  /**
   * Keeps the chains that clients send. Node 24.21 and 26.8 drop them before `secureConnection` (nodejs/node#65579), so
   * they are read before that; `keylog` is the one event that shows a connection while its handshake is going on. What
   * it says is not looked at.
   */
  watch(server: Server): void {
    if (!needsPath(this.#clientAuth)) return;
    server.on('keylog', (_line, socket) => {
      if (this.#sent.has(socket)) return;
      this.#sent.set(socket, []);
      socket.prependOnceListener('secure', () => this.#sent.set(socket, issuersOf(socket)));
    });
  }

  /** @param now ms since the epoch */
  verify(socket: TLSSocket, now: number): ClientCertificate {
    try {
      return this.#judge(socket, now);
    } catch {
      return this.#failed('FAILED:certificate cannot be read', 'certificate cannot be read'); // it must not end the worker
    }
  }

  #judge(socket: TLSSocket, now: number): ClientCertificate {
    const certificate = socket.getPeerX509Certificate();
    const { depth, forward } = this.#clientAuth;
    if (!certificate) return this.#failed('NONE', 'no certificate');
    // Nothing but the reason: who reads a name and not the verdict must not take a stranger's for it.
    const failed = (code: unknown) => this.#failed(`FAILED:${reasonOf(code)}`, reasonOf(code));
    if (!socket.authorized) return failed(socket.authorizationError);
    // A resumed session repeats no check, and may be hours old.
    if (certificate.validToDate.getTime() < now) return failed('CERT_HAS_EXPIRED');

    const path = needsPath(this.#clientAuth) ? certificatePath(certificate, { sent: this.#sent.get(socket) ?? [], anchors: this.#anchors, now }) : [];
    if (path === undefined || path.length > (depth ?? Infinity)) return failed('CERT_CHAIN_TOO_LONG');
    const values: ClientCertificateValues = { verify: 'SUCCESS' };
    for (const value of Object.values(forward)) if (value !== 'verify') values[value] = readings[value](certificate, path);
    return { values, refusal: undefined };
  }

  #failed(verify: string, reason: string): ClientCertificate {
    return { values: { verify }, refusal: this.#clientAuth.mode === 'require' ? reason : undefined };
  }
}

/** Session tickets hold the client's certificate, but not its chain: such virtual hosts resume nothing. */
export function needsPath({ depth, forward }: ClientAuth): boolean {
  return depth !== undefined || Object.values(forward).includes('chain');
}

/** What the client sent behind its certificate, in its order; the TLS library bounds all of it to 100 KB. */
function issuersOf(socket: TLSSocket): X509Certificate[] {
  const issuers: X509Certificate[] = [];
  for (let next = socket.getPeerX509Certificate()?.issuerCertificate; next; next = next.issuerCertificate) issuers.push(next);
  return issuers;
}
