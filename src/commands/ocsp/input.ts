import { X509Certificate } from 'node:crypto';
import { constants, createReadStream, openSync, readSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { Socket } from 'node:net';
import { Readable } from 'node:stream';
import { CertificateError } from '../../certificates/certificate-error.ts';
import { describeBlocks, pemBlocks } from '../../certificates/pem.ts';
import { malformed } from '../../ocsp/der.ts';
import { OcspRefusal } from '../../ocsp/refusal.ts';

/** What commands are given to look at: files, pipes (`<(curl …)` of a shell) and, as `-`, standard input. */

/** Bytes. */
const largest = 1024 * 1024;

/** @throws CertificateError `file_*` */
async function readInput(file: string): Promise<Buffer> {
  if (file === '-' || file === '/dev/stdin') return readStream(process.stdin, 'standard input');
  try {
    const stats = await stat(file);
    if (stats.isFIFO()) return await readStream(pipe(file), file);
    if (stats.isDirectory()) throw new CertificateError('file_is_directory', file, `${file} is a directory; name a file in it`);
    if (!stats.isFile()) throw new CertificateError('file_not_regular', file, `${file} is neither a file nor a pipe`);
    return await readStream(createReadStream(file, { end: largest }), file);
  } catch (error) {
    const { syscall } = error as NodeJS.ErrnoException;
    throw syscall === undefined ? error : unreadable(file, error as NodeJS.ErrnoException);
  }
}

/** A named pipe, or one of a shell's; one that nobody writes to is empty. */
function pipe(file: string): Readable {
  // Otherwise opening it would wait for a writer, and so would polling it.
  const fd = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK);
  const first = Buffer.alloc(65_536);
  try {
    const length = readSync(fd, first);
    if (length === 0) return Readable.from([]);
    const rest = new Socket({ fd });
    rest.unshift(first.subarray(0, length));
    return rest;
  } catch (error) {
    // A writer is there, and has not written yet.
    if ((error as NodeJS.ErrnoException).code === 'EAGAIN') return new Socket({ fd });
    throw error;
  }
}

async function readStream(stream: Readable, name: string): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    chunks.push(chunk);
    size += chunk.length;
    if (size > largest) throw new CertificateError('file_too_large', name, `${name} is larger than 1 MiB; no certificate and no OCSP response is`);
  }
  return Buffer.concat(chunks);
}

function unreadable(file: string, { code = 'unknown error' }: NodeJS.ErrnoException): CertificateError {
  if (code === 'ENOENT' || code === 'ENOTDIR') return new CertificateError('file_missing', file, `${file} does not exist`);
  const reason = code === 'EACCES' ? 'permission denied' : code;
  return new CertificateError(code === 'ENXIO' ? 'file_not_regular' : 'file_unreadable', file, `${file} cannot be read: ${reason}`);
}

/**
 * All certificates of a file, PEM (several) or DER (one), in their order; at least one.
 *
 * @throws CertificateError `file_*`, `pem_truncated`, `certificate_*`
 */
export async function readCertificates(file: string): Promise<[X509Certificate, ...X509Certificate[]]> {
  const bytes = await readInput(file);
  if (bytes.length > 0 && !bytes.includes('-----BEGIN ')) return [certificateOf(bytes, file, 'the certificate')];
  const blocks = pemBlocks(bytes.toString(), file);
  const [first, ...others] = blocks
    .filter(({ label }) => label === 'CERTIFICATE')
    .map(({ text }, index) => certificateOf(Buffer.from(text), file, `certificate ${index + 1}`));
  if (first === undefined) throw new CertificateError('certificate_not_found', file, `${file} holds no certificate: ${describeBlocks(blocks)}`);
  return [first, ...others];
}

function certificateOf(bytes: Buffer, file: string, what: string): X509Certificate {
  try {
    return new X509Certificate(bytes);
  } catch {
    // OpenSSL's reason is a decoder's internal name: no help to anyone.
    throw new CertificateError('certificate_malformed', file, `${file}: ${what} cannot be parsed: neither PEM nor DER, or damaged`);
  }
}

function isCertificate(der: Buffer): boolean {
  try {
    return new X509Certificate(der).raw.length > 0;
  } catch {
    return false;
  }
}

/**
 * The DER of an OCSP response or request from a file that holds it as it is, as PEM or as base64; it may still be anything.
 *
 * @throws CertificateError `file_*`; OcspRefusal `too_large`, `malformed`
 */
export async function readOcspMessage(file: string): Promise<Buffer> {
  const bytes = await readInput(file).catch((error: unknown) => {
    throw error instanceof CertificateError && error.code === 'file_too_large' ? new OcspRefusal('too_large', error.message) : error;
  });
  if (bytes.length === 0) throw malformed(`${file === '-' ? 'standard input' : file} is empty`);
  // A SEQUENCE begins with 0x30, and therefore its base64 with an M.
  if (bytes[0] === 0x30) {
    if (isCertificate(bytes)) throw malformed(`${file} holds a certificate, not an OCSP message`);
    return bytes;
  }
  const text = bytes.toString('latin1').trim();
  const [, label = '', body = ''] = /-----BEGIN ([A-Z0-9 ]+)-----([^-]*)-----END \1-----/.exec(text) ?? [];
  if (label !== '' && !/^OCSP (?:RESPONSE|REQUEST)$/.test(label)) throw malformed(`${file} holds a ${label}, not an OCSP message`);
  const base64 = label === '' ? text : body.trim();
  if (/^M[A-Za-z0-9+/\s]+={0,2}$/.test(base64)) return Buffer.from(base64, 'base64');
  if (/^[\t\r\n\x20-\x7e]+$/.test(text)) throw malformed(`${file} is text and neither DER nor base64; it begins with ${JSON.stringify(text.slice(0, 40))}`);
  return bytes;
}
