import type { CertIdHash } from './cert-id.ts';

/** What is remembered about the fetching of a certificate's responses, over a restart too. Times in milliseconds since the epoch. */
export interface FetchRecord {
  /** First name of the certificate, for people who look into the folder. */
  name: string;
  /** When and where the response that is kept was fetched. */
  fetchedAt?: number | undefined;
  responder?: string | undefined;
  /** By which hash the responder knows the certificate, once ocsp.cert_id_hash: auto has found out. */
  certIdHash?: CertIdHash | undefined;
  nextTry?: number | undefined;
  /** Attempts that failed since the last good one, and what the last of them failed with. */
  failures: number;
  error?: FetchError | undefined;
}

export interface FetchError {
  code: string;
  message: string;
  at: number;
}

/** Reads what a disk says: anything that does not fit is left out. Undefined when nothing fits. */
export function parseFetchRecord(text: string): FetchRecord | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (!isObject(value)) return undefined;
  const { name, fetchedAt, responder, certIdHash, nextTry, failures, error } = value;
  return {
    name: string(name) ?? '',
    fetchedAt: number(fetchedAt),
    responder: string(responder),
    certIdHash: certIdHash === 'sha1' || certIdHash === 'sha256' ? certIdHash : undefined,
    nextTry: number(nextTry),
    failures: Math.min(Math.trunc(number(failures) ?? 0), 1000),
    error: isObject(error) ? { code: string(error.code) ?? '', message: string(error.message) ?? '', at: number(error.at) ?? 0 } : undefined,
  };
}

/** The end of what a Date can hold: a record is a file, and files can say anything. */
const latestTime = 8.64e15;

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}

function string(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined;
}

function number(value: unknown): number | undefined {
  return typeof value === 'number' && value >= 0 && value <= latestTime ? value : undefined;
}
