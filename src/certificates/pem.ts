import { CertificateError } from './certificate-error.ts';

/** One `-----BEGIN LABEL-----` … `-----END LABEL-----` block, text included (RFC 7468). */
export interface PemBlock {
  label: string;
  text: string;
}

/**
 * The blocks of a PEM file in order; explanatory text between them is allowed (RFC 7468, section 2). Throws `file_empty`,
 * `file_binary` or `pem_truncated`: a block without its end is what a file looks like while it is being written.
 */
export function pemBlocks(text: string, file: string): PemBlock[] {
  if (text.trim() === '') throw new CertificateError('file_empty', file, `${file} is empty`);
  const blocks: PemBlock[] = [];
  const begin = /-----BEGIN ([A-Z0-9 #-]+?)-----/g;
  for (let match = begin.exec(text); match !== null; match = begin.exec(text)) {
    const [line, label = ''] = match;
    const end = `-----END ${label}-----`;
    const stop = text.indexOf(end, match.index);
    const next = text.indexOf('-----BEGIN ', match.index + line.length);
    if (stop === -1 || (next !== -1 && next < stop)) {
      throw new CertificateError('pem_truncated', file, `${file}: the block "${label}" has no end: the file is incomplete, or still being written`);
    }
    begin.lastIndex = stop + end.length;
    const lines = text.slice(match.index, begin.lastIndex).replaceAll('\r', '').split('\n');
    // Joined, and no part of the text: that would keep all of it in memory as long as the block.
    blocks.push({ label, text: [...lines, ''].join('\n') });
  }
  if (blocks.length === 0 && /[\x00-\x08\x0e-\x1f\ufffd]/.test(text)) {
    const commands = `openssl x509 -inform DER -in ${file} (DER) or openssl pkcs12 -nodes -in ${file} (PKCS#12)`;
    throw new CertificateError('file_binary', file, `${file} is binary, not PEM text; convert it with ${commands}`);
  }
  return blocks;
}

/** One block (RFC 7468, section 2). */
export function encodePem(label: string, der: Buffer): string {
  const lines = der.toString('base64').replaceAll(/.{64}(?=.)/g, '$&\n');
  return `-----BEGIN ${label}-----\n${lines}\n-----END ${label}-----\n`;
}

/** What a file holds, for an error message: `a CERTIFICATE REQUEST block`, or `no PEM block`. */
export function describeBlocks(blocks: PemBlock[]): string {
  if (blocks.length === 0) return 'no PEM block';
  return `only ${[...new Set(blocks.map((block) => block.label))].join(' and ')}`;
}
