import { randomBytes } from 'node:crypto';
import type { OcspPolicy } from '../config/policies.ts';
import { type CertIdHash, certIdFor, type OcspSubject } from './cert-id.ts';
import type { Clock } from './clock.ts';
import type { Limiter } from './limiter.ts';
import { OcspRefusal } from './refusal.ts';
import { encodeRequest } from './request.ts';
import { type Answer, fetchResponse, type Method } from './responder.ts';
import { ResponderError } from './responder-error.ts';

interface Inquiry<T> {
  subject: OcspSubject;
  urls: readonly string[];
  /** The administrator named the responders, not the certificate. */
  configured: boolean;
  policy: Pick<OcspPolicy, 'timeout' | 'maxResponseSize'> & Partial<Pick<OcspPolicy, 'certIdHash' | 'nonce' | 'httpProxy'>>;
  /** With `certIdHash: auto`, the hash to try first: by which the certificate was known last time. */
  knownBy?: CertIdHash | undefined;
  /** @param nonce what was sent, when a nonce was */
  accept: (der: Buffer, nonce?: Buffer) => T;
  /** Told of every responder that was really asked, and of its accepted answer or the code of its failure. */
  onAsked?: (url: string, outcome: Answer<T> | string, milliseconds: number) => void;
  limiter: Limiter;
  /** Before the questions about other certificates. */
  urgent?: boolean;
  clock: Clock;
  signal: AbortSignal;
}

export interface RespondersAnswer<T> extends Answer<T> {
  responder: string;
  /** Which hash named the certificate in the question that was answered. */
  certIdHash: CertIdHash;
  /** Milliseconds spent asking, without waiting for one's turn. */
  duration: number;
}

interface Failure {
  url: string;
  /** The last one tried; undefined when it was another certificate's question that found the responder down. */
  method: Method | undefined;
  error: Error & { code?: unknown };
}

/** What RFC 9654 2.1 asks of clients; its predecessor, RFC 8954, lets responders refuse longer ones. */
const nonceSize = 32;

/** No responder gave a usable answer. Speaks for the one whose answer tells most. */
export class RespondersFailed extends Error {
  readonly code: string;
  readonly responder: string | undefined;
  readonly method: Method | undefined;
  readonly duration: number;
  /** Milliseconds. */
  readonly retryAfter: number | undefined;

  constructor(failures: Failure[], duration: number) {
    const telling = failures.find(({ error }) => !(error instanceof ResponderError)) ?? failures[0];
    super(telling?.error.message ?? 'no responder to ask', { cause: telling?.error });
    this.name = 'RespondersFailed';
    this.code = codeOf(telling?.error);
    this.responder = telling?.url;
    this.method = telling?.method;
    this.duration = duration;
    const delays = failures.map(({ error }) => (error instanceof ResponderError ? error.retryAfter : undefined));
    // Only when all want to be left alone is there nobody to ask sooner.
    this.retryAfter = delays.every((delay) => delay !== undefined) ? Math.min(...delays) : undefined;
  }
}

/** Errors without a code are ours; nothing else is known about them. */
function codeOf(error: (Error & { code?: unknown }) | undefined): string {
  return typeof error?.code === 'string' ? error.code : 'unexpected';
}

/**
 * Asks the responders of a certificate in their order until one gives an acceptable answer.
 *
 * @throws RespondersFailed, or the reason of `signal`
 */
export async function askResponders<T>(inquiry: Inquiry<T>): Promise<RespondersAnswer<T>> {
  const { urls, limiter, urgent = false, clock, signal, onAsked } = inquiry;
  const failures: Failure[] = [];
  let duration = 0;
  for (const url of urls) {
    let method: Method | undefined;
    const ask = async () => {
      const since = clock.now();
      const done = (outcome: Answer<T> | string): void => {
        const milliseconds = Math.max(0, clock.now() - since);
        duration += milliseconds;
        if (!signal.aborted) onAsked?.(url, outcome, milliseconds);
      };
      try {
        const answer = await askOne(inquiry, url, since, (next) => void (method = next));
        done(answer);
        return answer;
      } catch (error) {
        done(codeOf(error as Error));
        throw error;
      }
    };
    try {
      const answer = await limiter.run(URL.parse(url)?.host ?? url, ask, { signal, urgent });
      return { ...answer, responder: url, duration };
    } catch (error) {
      signal.throwIfAborted();
      failures.push({ url, method, error: error as Error });
    }
  }
  throw new RespondersFailed(failures, duration);
}

/** One responder, by the one hash and, where the policy lets us and that may help, by the other; all within one deadline. */
async function askOne<T>(
  inquiry: Inquiry<T>,
  url: string,
  since: number,
  onAttempt: (method: Method) => void,
): Promise<Answer<T> & { certIdHash: CertIdHash }> {
  const { subject, configured, policy, knownBy, accept, clock, signal } = inquiry;
  const { timeout, maxResponseSize: maxSize, certIdHash: hash = 'sha1', nonce: wanted = false, httpProxy: proxy } = policy;
  const nonce = wanted ? randomBytes(nonceSize) : undefined;
  const judge = (der: Buffer): T => accept(der, nonce);
  const askBy = async (certIdHash: CertIdHash) => {
    const request = encodeRequest(certIdFor(subject, certIdHash), nonce && { nonce });
    const answer = await fetchResponse({
      url,
      request,
      accept: judge,
      timeout,
      since,
      maxSize,
      uncacheable: wanted,
      configured,
      proxy,
      clock,
      signal,
      onAttempt,
    });
    return { ...answer, certIdHash };
  };
  if (hash !== 'auto') return askBy(hash);
  const first = knownBy ?? 'sha1';
  try {
    return await askBy(first);
  } catch (error) {
    if (signal.aborted || !isUnknownName(error)) throw error;
    return await askBy(first === 'sha1' ? 'sha256' : 'sha1').catch((second: unknown) => {
      // That the responder does not answer a second question tells less than its answer to the first.
      throw signal.aborted || !(second instanceof ResponderError) ? second : error;
    });
  }
}

/** How a responder shows that it does not know a certificate by the hash that was used. */
function isUnknownName(error: unknown): boolean {
  return error instanceof OcspRefusal && (error.responseStatus === 'unauthorized' || error.code === 'no_matching_entry');
}
