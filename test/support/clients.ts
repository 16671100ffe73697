import { X509Certificate } from 'node:crypto';
import { execute } from './program.ts';

/** Other people's TLS clients, and what they say about a server. */

export interface Target {
  port: number;
  /** For server_name and verification. */
  name: string;
  /** PEM file with the root. */
  ca: string;
}

export interface OpensslFacts {
  /** Whether a handshake was made and the chain leads to the root. */
  trusted: boolean;
  certificate: X509Certificate | undefined;
  /** `OCSP Response Status`, as in `successful`; undefined when no response was stapled. */
  responseStatus: string | undefined;
  /** `Cert Status`, as in `good`. */
  certStatus: string | undefined;
  /** Of the certificate that the staple is about, as X509Certificate writes it. */
  stapledSerial: string | undefined;
  /** Number of the TLS alert that ended the handshake. */
  alert: number | undefined;
}

/** `openssl s_client -status`. Without a name no server_name is sent. */
export async function opensslClient({ port, name, ca }: Target, ...more: string[]): Promise<OpensslFacts> {
  const servername = name === '' ? ['-noservername'] : ['-servername', name];
  const { stdout, stderr } = await execute('openssl', ['s_client', '-connect', `127.0.0.1:${port}`, ...servername, '-CAfile', ca, '-status', ...more]);
  // The responder's certificate is printed too, with the staple.
  const pem = /^Server certificate\n(-----BEGIN CERTIFICATE-----[^]+?-----END CERTIFICATE-----)/m.exec(stdout)?.[1];
  const alert = /SSL alert number (\d+)/.exec(stderr)?.[1];
  return {
    trusted: pem !== undefined && stdout.includes('Verification: OK'),
    certificate: pem === undefined ? undefined : new X509Certificate(pem),
    responseStatus: /OCSP Response Status: (\w+)/.exec(stdout)?.[1],
    certStatus: /Cert Status: (\w+)/.exec(stdout)?.[1],
    stapledSerial: /Serial Number: (\w+)\s+Cert Status/.exec(stdout)?.[1],
    alert: alert === undefined ? undefined : Number(alert),
  };
}

/** `curl --cert-status`, which fails without a good staple. */
export function curl({ port, name, ca }: Target, path = '/', ...more: string[]) {
  const at = ['--resolve', `${name}:${port}:127.0.0.1`, '--noproxy', '*'];
  return execute('curl', ['-sS', '--cacert', ca, '--cert-status', ...at, ...more, `https://${name}:${port}${path}`]);
}

export interface GnutlsFacts {
  trusted: boolean;
  /** Whether a response was stapled and taken. */
  stapled: boolean;
}

/** `gnutls-cli --ocsp`. */
export async function gnutlsClient({ port, name, ca }: Target): Promise<GnutlsFacts> {
  const { code, stdout } = await execute('gnutls-cli', [
    '--ocsp',
    `--x509cafile=${ca}`,
    `--sni-hostname=${name}`,
    `--verify-hostname=${name}`,
    '--port',
    String(port),
    '127.0.0.1',
  ]);
  return { trusted: code === 0 && stdout.includes('The certificate is trusted'), stapled: stdout.includes('OCSP status request') };
}
