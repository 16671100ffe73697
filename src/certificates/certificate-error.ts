/** Every code this room reports, with the line that docs/errors.md prints for it. */
export const certificateCodes = {
  file_missing: 'The file, or the target of a symbolic link on the way to it, does not exist.',
  file_unreadable: 'The file cannot be read, most often because the service user may not.',
  file_is_directory: 'The setting names a directory where a file is wanted.',
  file_not_regular: 'The setting names a device, a pipe or a socket where a file is wanted.',
  file_too_large: 'The file is larger than 1 MiB; no certificate or key is.',
  file_empty: 'The file is empty.',
  file_binary: 'The file is DER, PKCS#12 or other binary data; PEM text is wanted.',
  pem_truncated: 'A PEM block begins but does not end: the file is not completely written.',
  certificate_not_found: 'The certificate file holds no CERTIFICATE block, only something else.',
  certificate_malformed: 'A CERTIFICATE block cannot be parsed.',
  certificate_without_names: 'The certificate has no subjectAltName; clients ignore the common name.',
  certificate_refused: 'The TLS library refuses the certificate or its chain, for example for a SHA-1 signature.',
  key_not_found: 'The key file holds no private key, only something else.',
  key_encrypted: 'The private key is protected by a passphrase.',
  key_malformed: 'The private key cannot be parsed.',
  key_unsupported: 'The type or curve of the key is not usable for TLS by common clients.',
  key_too_small: 'The RSA key has fewer than 2048 bits.',
  key_mismatch: 'No certificate of the certificate file belongs to the private key.',
  chain_incomplete: 'A changed file lost the issuer that the previous one had; it is probably not completely written.',
  pair_missing: 'A pair found in certificates_dir earlier is gone, and nothing there replaces it.',
  directory_unreadable: 'certificates_dir cannot be listed.',
  too_many_pairs: 'certificates_dir holds more pairs than are loaded.',
  no_certificate: 'A virtual host has no usable certificate; TLS connections for it are refused.',
  certificate_expired: 'The certificate has expired; it is served nevertheless.',
  certificate_not_yet_valid: 'The certificate is not valid yet; it is served nevertheless.',
  leaf_not_first: 'The certificate of the private key is not the first one of the file; it is sent first nevertheless.',
  unrelated_certificate: 'The file holds a certificate that is not part of the chain; it is not sent.',
  name_ignored: 'A subjectAltName is not a valid host name and is ignored.',
  names_not_covered: 'No certificate of the virtual host covers some of its names.',
  duplicate_key_type: 'Several certificates of one key type are configured for one virtual host; one of them serves.',
} as const;

export type CertificateCode = keyof typeof certificateCodes;

/** Something worth an administrator's attention that does not stop the certificate from serving. */
export interface CertificateWarning {
  code: CertificateCode;
  message: string;
}

/** Why a file or a pair cannot be used. The message names the files and never holds key material. */
export class CertificateError extends Error {
  readonly code: CertificateCode;
  /** The file to look at. */
  readonly file: string;

  constructor(code: CertificateCode, file: string, message: string) {
    super(message);
    this.name = 'CertificateError';
    this.code = code;
    this.file = file;
  }
}
