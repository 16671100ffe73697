import { closeSync, constants, fstatSync, openSync, readdirSync, readlinkSync, readSync } from 'node:fs';
import { basename, dirname, extname, join } from 'node:path';
import { type Certificate, type CertificateSource, readCertificate } from './certificate.ts';
import { CertificateError } from './certificate-error.ts';

const maximumFileSize = 1024 * 1024;
const maximumPairs = 20_000;

/**
 * Reads a certificate, its key and, when the certificate file lacks the issuer, the files beside it that may hold it.
 * Throws CertificateError.
 */
export function loadPair(source: CertificateSource): Certificate {
  const certificatePem = readText(source.certificate);
  const keyPem = readText(source.key);
  const alone = readCertificate({ certificatePem, keyPem, source });
  if (alone.issuer !== undefined || alone.selfSigned) return alone;
  for (const issuer of issuerFiles(source.certificate)) {
    try {
      const extraPem = readText(issuer);
      const complete = readCertificate({ certificatePem, keyPem, extraPem, source: { ...source, issuer } });
      if (complete.issuer !== undefined) return complete;
    } catch (error) {
      if (!(error instanceof CertificateError)) throw error;
      // Without this file the certificate still serves, so what is wrong with it is a warning.
      if (error.code !== 'file_missing') alone.warnings.push({ code: error.code, message: error.message });
    }
  }
  return alone;
}

/** Where certbot (chain.pem), nginx and HAProxy (NAME.issuer) users keep the issuer of a certificate file. */
export function issuerFiles(certificate: string): string[] {
  const stem = basename(certificate, extname(certificate));
  const names = ['chain.pem', `${stem}.issuer.pem`, `${stem}.issuer`, `${basename(certificate)}.issuer`, 'issuer.pem', 'ca.pem'];
  return [...new Set(names)].map((name) => join(dirname(certificate), name)).filter((file) => file !== certificate);
}

/**
 * The pairs of a directory and of the directories directly in it: fullchain.pem with privkey.pem, and NAME.pem with NAME.key.
 * Everything else is ignored, and so is what begins with a dot: Kubernetes keeps its `..data` versions there.
 */
export function scanDirectory(directory: string): { pairs: CertificateSource[]; problems: CertificateError[] } {
  const pairs: CertificateSource[] = [];
  const problems: CertificateError[] = [];
  const search = (path: string): string[] => {
    const { names, directories } = list(path);
    for (const pair of pairsAmong(path, names)) pairs.push(pair);
    return directories;
  };
  let below: string[] = [];
  try {
    below = search(directory);
  } catch (error) {
    problems.push(unlistable(directory, error));
  }
  for (const name of below) {
    if (pairs.length > maximumPairs) break;
    const inner = join(directory, name);
    try {
      search(inner);
    } catch (error) {
      // ENOTDIR: a link to a file. ENOENT: gone since it was listed, or a link to nowhere.
      if (!['ENOTDIR', 'ENOENT'].includes((error as NodeJS.ErrnoException).code ?? '')) problems.push(unlistable(inner, error));
    }
  }
  if (pairs.length > maximumPairs) {
    problems.push(
      new CertificateError('too_many_pairs', directory, `certificates_dir ${directory} holds more than ${maximumPairs} pairs; the rest is ignored`),
    );
  }
  return { pairs: pairs.slice(0, maximumPairs), problems };
}

function list(directory: string): { names: string[]; directories: string[] } {
  const entries = readdirSync(directory, { withFileTypes: true }).filter(({ name }) => !name.startsWith('.'));
  const names = entries.map(({ name }) => name).sort();
  return {
    names,
    directories: entries
      .filter((entry) => entry.isDirectory() || entry.isSymbolicLink())
      .map(({ name }) => name)
      .sort(),
  };
}

function pairsAmong(directory: string, names: string[]): CertificateSource[] {
  const present = new Set(names);
  return names.flatMap((name) => {
    if (!name.endsWith('.pem')) return [];
    const key = name === 'fullchain.pem' ? 'privkey.pem' : `${name.slice(0, -'.pem'.length)}.key`;
    return present.has(key) ? [{ certificate: join(directory, name), key: join(directory, key) }] : [];
  });
}

function unlistable(directory: string, error: unknown): CertificateError {
  return new CertificateError('directory_unreadable', directory, `certificates_dir: ${directory} cannot be listed by user id ${userId()}: ${codeOf(error)}`);
}

/** Reads a regular file of at most 1 MiB as text. Throws CertificateError `file_*`. */
export function readText(file: string): string {
  let descriptor: number | undefined;
  try {
    // Without O_NONBLOCK, opening a named pipe waits for a writer for ever.
    descriptor = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK);
    const stat = fstatSync(descriptor);
    if (stat.isDirectory()) throw new CertificateError('file_is_directory', file, `${file} is a directory; name a file in it`);
    if (!stat.isFile()) throw new CertificateError('file_not_regular', file, `${file} is not a regular file`);
    if (stat.size > maximumFileSize) throw new CertificateError('file_too_large', file, `${file} is larger than 1 MiB; no certificate or key is`);
    const buffer = stat.size < content.length ? content.subarray(0, stat.size + 1) : Buffer.allocUnsafe(stat.size + 1);
    const length = fill(descriptor, buffer);
    if (length > stat.size) throw new CertificateError('pem_truncated', file, `${file} grows while it is read: it is still being written`);
    return buffer.toString('utf8', 0, length);
  } catch (error) {
    throw error instanceof CertificateError ? error : unreadable(file, error);
  } finally {
    if (descriptor !== undefined) closeSync(descriptor);
  }
}

/** Used again for each file, as long as it is of the usual size. */
const content = Buffer.alloc(16 * 1024);

/** Reads as much as the file had, or one byte more from one that has grown: a read that ends there is the last one needed. */
function fill(descriptor: number, buffer: Buffer): number {
  let length = 0;
  while (length < buffer.length - 1) {
    const bytes = readSync(descriptor, buffer, length, buffer.length - length, length);
    if (bytes === 0) break;
    length += bytes;
  }
  return length;
}

function unreadable(file: string, error: unknown): CertificateError {
  const cause = codeOf(error);
  if (cause === 'ENOENT' || cause === 'ENOTDIR') {
    const target = linkTarget(file);
    return new CertificateError('file_missing', file, target === undefined ? `${file} does not exist` : `${file} is a link to ${target}, which does not exist`);
  }
  const denied = cause === 'EACCES' || cause === 'EPERM';
  const hint = denied ? `: give that user read access to it and search access to the directories above it` : '';
  return new CertificateError('file_unreadable', file, `${file} cannot be read by user id ${userId()} (${cause})${hint}`);
}

function linkTarget(file: string): string | undefined {
  try {
    return readlinkSync(file);
  } catch {
    return undefined; // no link
  }
}

function userId(): number | string {
  return process.geteuid?.() ?? 'unknown';
}

function codeOf(error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? 'unknown error';
}
