import { constants } from 'node:crypto';
import { isIP, type OnReadOpts, type Socket } from 'node:net';
import * as tls from 'node:tls';
import type { Route } from '../config/schema.ts';
import type { BackendAddress } from '../config/values.ts';
import { ProxyError } from '../proxy/proxy-error.ts';

/** Text of the files that routes name in `backend_tls`, by path. */
export type BackendFiles = ReadonlyMap<string, string>;

/** An `https://` backend. */
export type TlsBackend = BackendAddress & { host: string; port: number };

/** How TLS is spoken to the backends of a route: what nginx calls proxy_ssl_*, and Apache SSLProxy*. */
export class BackendTls {
  readonly #settings: Route['backendTls'];
  readonly #context: tls.SecureContext;
  /** The newest of each backend, by its name: with one, a handshake needs no certificate and no signature. */
  readonly #sessions = new Map<string, Buffer>();

  /** @throws ProxyError backend_tls when a file is missing or the library refuses the settings */
  constructor(settings: Route['backendTls'], files: BackendFiles) {
    this.#settings = settings;
    const { ca, certificate, key, minVersion } = settings;
    const read = (setting: string, file: string | undefined): string | undefined => {
      const text = file === undefined ? undefined : files.get(file);
      if (file !== undefined && text === undefined) throw refusal(setting, `${file} cannot be used`);
      return text;
    };
    const isOld = minVersion === 'TLSv1' || minVersion === 'TLSv1.1';
    const options: tls.SecureContextOptions = {
      ca: read('ca', ca),
      cert: read('certificate', certificate),
      key: read('key', key),
      minVersion,
      // What spoke these versions has small keys and SHA-1, and does not know RFC 5746.
      ...(isOld && { ciphers: `${tls.DEFAULT_CIPHERS}:@SECLEVEL=0`, secureOptions: constants.SSL_OP_LEGACY_SERVER_CONNECT }),
    };
    try {
      this.#context = tls.createSecureContext(options);
    } catch (error) {
      throw refusal('certificate', (error as Error).message);
    }
  }

  /** Connects. `secureConnect` tells that the handshake is complete, the certificate good, and `protocol` chosen. */
  connect(backend: TlsBackend, protocol: 'http/1.1' | 'h2', more: { onread?: OnReadOpts; socket?: Socket } = {}): tls.TLSSocket {
    const session = this.#sessions.get(backend.name);
    const name = this.#settings.serverName ?? backend.host;
    const options: tls.ConnectionOptions = {
      host: backend.host,
      port: backend.port,
      secureContext: this.#context,
      rejectUnauthorized: this.#settings.verify,
      // An address is no server name (RFC 6066, 3); the certificate is checked for it all the same.
      servername: isIP(name) === 0 ? name : '',
      ALPNProtocols: [protocol],
      ...(session && { session }),
      ...more,
    };
    const socket = tls.connect(options);
    socket.setNoDelay(true);
    let isVerified = false;
    let latest: Buffer | undefined;
    const keep = (): void => {
      if (isVerified && latest) this.#sessions.set(backend.name, latest);
    };
    socket.on('session', (session: Buffer) => {
      latest = session;
      keep();
    });
    // Whoever resumes is not verified again: only sessions of good certificates are kept.
    socket.once('secureConnect', () => {
      isVerified = true;
      keep();
    });
    socket.once('close', () => {
      if (!isVerified) this.#sessions.delete(backend.name);
    });
    return socket;
  }
}

/** Routes that say the same share one BackendTls, and with it contexts, sessions and connections; a new configuration shares it, too. */
export class BackendTlsByRoute {
  #files: BackendFiles = new Map();
  #byRoute = new WeakMap<Route, BackendTls>();
  #byTerms = new Map<string, BackendTls>();
  #earlier = new Map<string, BackendTls>();

  /** From now on routes are those of another configuration, which names these files. */
  update(files: BackendFiles): void {
    this.#files = files;
    this.#byRoute = new WeakMap();
    this.#earlier = this.#byTerms;
    this.#byTerms = new Map();
  }

  /** @throws ProxyError backend_tls */
  of(route: Route): BackendTls {
    const known = this.#byRoute.get(route);
    if (known) return known;
    const { backendTls: settings } = route;
    const contents = [settings.ca, settings.certificate, settings.key].map((file) => file && this.#files.get(file));
    const terms = JSON.stringify([settings, contents]);
    const tls = this.#byTerms.get(terms) ?? this.#earlier.get(terms) ?? new BackendTls(settings, this.#files);
    this.#byTerms.set(terms, tls);
    this.#byRoute.set(route, tls);
    return tls;
  }
}

function refusal(setting: string, cause: string): ProxyError {
  return new ProxyError('backend_tls', 'TLS to the backend is not possible', { setting: settingName(setting), cause });
}

function settingName(key: string): string {
  return `virtual_hosts[].routes[].${key === 'backends' || key === 'http_version' ? '' : 'backend_tls.'}${key}`;
}

const certificates: Record<string, [setting: string, cause: string]> = {
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: ['ca', 'the authority that issued its certificate is not known'],
  UNABLE_TO_GET_ISSUER_CERT: ['ca', 'the authority that issued its certificate is not known'],
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: ['ca', 'the authority that issued its certificate is not known'],
  DEPTH_ZERO_SELF_SIGNED_CERT: ['ca', 'its certificate is signed by itself'],
  SELF_SIGNED_CERT_IN_CHAIN: ['ca', 'the authority that issued its certificate is not known'],
  CERT_HAS_EXPIRED: ['verify', 'its certificate has expired'],
  CERT_NOT_YET_VALID: ['verify', 'its certificate is not valid yet'],
  ERR_SSL_WRONG_VERSION_NUMBER: ['backends', 'it does not speak TLS there'],
  ERR_SSL_PACKET_LENGTH_TOO_LONG: ['backends', 'it does not speak TLS there'],
};

/** What was wrong with a handshake, for the log, and the setting that decides it. */
export function handshakeFailure(error: NodeJS.ErrnoException & { reason?: string }): { cause: string; setting: string } {
  const { code = '', message, reason } = error;
  const [key, cause] = certificates[code] ?? [settingOf(code), reason ?? message];
  return { setting: settingName(key), cause };
}

function settingOf(code: string): string {
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID') return 'server_name';
  if (/PROTOCOL_VERSION|UNSUPPORTED_PROTOCOL|DH_KEY_TOO_SMALL|EE_KEY_TOO_SMALL|CA_MD_TOO_WEAK|LEGACY_RENEGOTIATION/.test(code)) return 'min_version';
  if (/UNRECOGNIZED_NAME/.test(code)) return 'server_name';
  if (/NO_APPLICATION_PROTOCOL/.test(code)) return 'http_version';
  // What a server says that wants a certificate, and gets none or a wrong one.
  if (/ALERT_(?:CERTIFICATE|BAD_CERTIFICATE|UNKNOWN_CA|HANDSHAKE_FAILURE|ACCESS_DENIED)/.test(code)) return 'certificate';
  return 'backends';
}
