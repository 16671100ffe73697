import type { Certificate } from '../certificates/certificate.ts';
import type { OcspPolicy } from '../config/policies.ts';
import type { ServableStaple } from '../snapshot.ts';
import type { FetchError } from './fetch-record.ts';
import type { ResponseFile } from './given-response.ts';
import type { CacheKey } from './staple-cache.ts';
import type { Staple } from './verify.ts';

/** What stapling needs to know of a certificate. */
export type StapledLeaf = Pick<
  Certificate,
  'leaf' | 'issuer' | 'issuerFingerprint' | 'fingerprint' | 'names' | 'ocspResponders' | 'mustStaple' | 'selfSigned' | 'notBefore' | 'notAfter'
>;

/** A certificate with what one virtual host says about its stapling. */
export interface CertificateInUse {
  certificate: StapledLeaf;
  policy: OcspPolicy;
  /** Where a response for it may be given by hand. */
  file?: ResponseFile | undefined;
}

export type StapleState =
  /** Served, and the last attempt was good. */
  | 'good'
  /** Nothing yet: the first attempt is on its way. */
  | 'pending'
  /** The last attempt failed; a staple that was good before may still be served. */
  | 'failing'
  | 'revoked'
  /** The certificate itself has expired. */
  | 'expired'
  /** Nobody to ask: the certificate names no responder and the configuration neither, or it says `none`. Nor was a response given by hand. */
  | 'no_responder'
  /** ocsp.stapling: false */
  | 'off';

/** For people and for metrics. Times in milliseconds since the epoch. */
export interface StapleStatus {
  fingerprint: string;
  names: string[];
  mustStaple: boolean;
  state: StapleState;
  /** Whether clients get a response now. */
  serving: boolean;
  thisUpdate?: number | undefined;
  validUntil?: number | undefined;
  nextRefresh?: number | undefined;
  /** The one that answered last, or that is asked first; or the file that the response came from. */
  responder?: string | undefined;
  failures: number;
  lastError?: FetchError | undefined;
}

/** Whom to ask about a certificate, in order. Nobody, when it names no responder and the configuration neither, or when that says `none`. */
export function respondersFor({ ocspResponders }: Pick<StapledLeaf, 'ocspResponders'>, { responder }: Pick<OcspPolicy, 'responder'>): string[] {
  if (responder === 'none') return [];
  return responder === undefined ? ocspResponders : [responder];
}

/** One certificate under the care of the Stapler. */
export interface StaplingEntry extends Readonly<Required<CertificateInUse>> {
  /** Where its response is kept. */
  readonly cacheKey: CacheKey | undefined;
  /** What a handshake may staple now. */
  readonly current: ServableStaple | undefined;
  /** The newest verified response, good or revoked. */
  readonly staple: Staple | undefined;
  /** Resolves when the disk has been read. */
  readonly loaded: Promise<void>;
  /** Resolves when there is a staple, when the first attempt has ended, or when there is nothing to wait for. */
  readonly settled: Promise<void>;
  readonly isSettled: boolean;
  /** Loads what is kept and plans the first fetch. Resolves like `loaded`. */
  start(): Promise<void>;
  /** Asks now; joins an attempt that is already going on. Never rejects. */
  refresh(): Promise<void>;
  /**
   * Takes a response that was given by hand, if it stands up to verification and is not older than the one that is held.
   *
   * @param from for people: the file, or whoever gave it
   * @returns undefined when this certificate is not stapled
   * @throws OcspRefusal
   */
  offer(der: Buffer, from: string): Staple | undefined;
  /** Looks at `file` again. Never rejects: what is wrong with it is logged. */
  reread(): Promise<void>;
  /** Resolves when no attempt and no write is going on. */
  idle(): Promise<void>;
  /** Ends everything; resolves when nothing is going on any more. */
  stop(): Promise<void>;
  status(): StapleStatus;
}
