import { randomUUID, X509Certificate } from 'node:crypto';
import path from 'node:path';
import { execute } from './program.ts';

/** One handshake with a server on 127.0.0.1, as another TLS library saw it. */
export interface Handshake {
  /** TLSv1, TLSv1.1, TLSv1.2 or TLSv1.3; undefined when there was none. */
  version: string | undefined;
  /** Serial number of the certificate that was served; undefined when its chain does not lead to the root. */
  serial: string | undefined;
  /** Serial number in the good OCSP response that was stapled. */
  staple: string | undefined;
  /** The alert that the server refused with (RFC 8446, 6). */
  alert: number | undefined;
  /** Whether a request was answered with 200; gnutls-cli does not wait for it. */
  answered: boolean | undefined;
  /** All that the client said, for a test that fails. */
  said: string;
}

export interface Server {
  port: number;
  /** PEM file with the root. */
  ca: string;
  /** Where a client may write files. */
  folder: string;
}

/** A client with options of its own; an empty name sends no server_name. */
export type Client = (server: Server, name: string, options: readonly string[]) => Promise<Handshake>;

/** For OpenSSL's clients below TLS 1.2: level 1 and up take no signature made with SHA-1. */
export const anyLevel = 'ALL:@SECLEVEL=0';

const oneCertificate = /-----BEGIN CERTIFICATE-----[^]+?-----END CERTIFICATE-----/;

function serialOf(pem: string | undefined): string | undefined {
  return pem === undefined ? undefined : new X509Certificate(pem).serialNumber;
}

function goodSerial(text: string): string | undefined {
  return /Serial Number: (\w+)\s+Cert Status: good/.exec(text)?.[1];
}

/** In TLS 1.3 a client certificate is refused after the client's part of the handshake is done: only an answer tells. */
const request = { input: 'HEAD / HTTP/1.0\r\n\r\n' };

/** `openssl s_client -status`, with one request. */
export const openssl: Client = async ({ port, ca }, name, options) => {
  const serverName = name === '' ? ['-noservername'] : ['-servername', name];
  const args = ['s_client', '-connect', `127.0.0.1:${port}`, '-CAfile', ca, '-status', '-ign_eof', ...serverName, ...options];
  const { stdout, stderr } = await execute('openssl', args, request);
  const alert = /SSL alert number (\d+)/.exec(stderr)?.[1];
  const trusted = stdout.includes('Verification: OK');
  return {
    // What it says of the session is of this connection; "New" names the version that the cipher suite came with.
    version: /^New, \(NONE\)/m.test(stdout) ? undefined : (/^ +Protocol +: (\S+)/m.exec(stdout)?.[1] ?? /^New, (TLSv1\.3),/m.exec(stdout)?.[1]),
    // The responder's certificate is printed too, with the staple.
    serial: trusted ? serialOf(/^Server certificate\n([^]+)/m.exec(stdout)?.[1]?.match(oneCertificate)?.[0]) : undefined,
    staple: goodSerial(stdout),
    alert: alert === undefined ? undefined : Number(alert),
    answered: stdout.includes('HTTP/1.1 200 '), // anywhere in a line: tickets are printed meanwhile
    said: stdout + stderr,
  };
};

/** `gnutls-cli --ocsp`; `openssl ocsp` reads what was stapled. */
export const gnutls: Client = async ({ port, ca, folder }, name, options) => {
  const response = path.join(folder, `${randomUUID()}.ocsp`);
  const serverName = name === '' ? ['--disable-sni'] : [`--sni-hostname=${name}`, `--verify-hostname=${name}`];
  const args = ['--ocsp', '--print-cert', `--save-ocsp=${response}`, `--x509cafile=${ca}`, '--port', String(port), ...serverName, ...options, '127.0.0.1'];
  const { stdout, stderr } = await execute('gnutls-cli', args);
  const version = /^- Description: \(TLS(\d\.\d)/m.exec(stdout)?.[1];
  const alert = /Received alert \[(\d+)\]/.exec(stdout + stderr)?.[1];
  const trusted = stdout.includes('The certificate is trusted');
  return {
    version: version && `TLSv${version.replace('.0', '')}`,
    serial: trusted ? serialOf(oneCertificate.exec(stdout)?.[0]) : undefined,
    staple: version && goodSerial((await execute('openssl', ['ocsp', '-respin', response, '-noverify', '-text'])).stdout),
    alert: alert === undefined ? undefined : Number(alert),
    answered: undefined,
    said: stdout + stderr,
  };
};

/** `curl --cert-status`, which itself demands a good response about the certificate that was served. */
export const curl: Client = async ({ port, ca }, name, options) => {
  const args = ['--resolve', `${name}:${port}:127.0.0.1`, '--noproxy', '*', '--cacert', ca, '--cert-status', '-sv', '-o', '/dev/null', '-w', '%{certs}'];
  const { code, stdout, stderr } = await execute('curl', [...args, ...options, `https://${name}:${port}/`]);
  const alert = /\(IN\), TLS alert, .*\((\d+)\)/.exec(stderr)?.[1]; // level and description in one number
  const serial = code === 0 ? serialOf(oneCertificate.exec(stdout)?.[0]) : undefined;
  return {
    version: /SSL connection using (TLS\S+)/.exec(stderr)?.[1]?.replace('v1.0', 'v1'),
    serial,
    staple: serial,
    alert: alert === undefined || Number(alert) >> 8 !== 2 ? undefined : Number(alert) & 0xff,
    answered: /< HTTP\/(?:1\.1|2) 200 /.test(stderr),
    said: stdout + stderr,
  };
};
