import type { OcspPolicy } from '../config/schema.ts';
import { certIdFor, type OcspSubject } from './cert-id.ts';
import type { Clock } from './clock.ts';
import type { Limiter } from './limiter.ts';
import { encodeRequest } from './request.ts';
import { type Answer, fetchResponse, type Method } from './responder.ts';
import { ResponderError } from './responder-error.ts';

interface Inquiry<T> {
  subject: OcspSubject;
  urls: string[];
  /** The administrator named the responders, not the certificate. */
  configured: boolean;
  policy: Pick<OcspPolicy, 'timeout' | 'maxResponseSize'>;
  accept: (der: Buffer) => T;
  limiter: Limiter;
  clock: Clock;
  signal: AbortSignal;
}

export interface RespondersAnswer<T> extends Answer<T> {
  responder: string;
  /** Milliseconds spent asking, without waiting for one's turn. */
  duration: number;
}

interface Failure {
  url: string;
  /** The last one tried; undefined when it was another certificate's question that found the responder down. */
  method: Method | undefined;
  error: Error & { code?: unknown };
}

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
    // Errors without a code are ours; nothing else is known about them.
    this.code = typeof telling?.error.code === 'string' ? telling.error.code : 'unexpected';
    this.responder = telling?.url;
    this.method = telling?.method;
    this.duration = duration;
    const delays = failures.map(({ error }) => (error instanceof ResponderError ? error.retryAfter : undefined));
    // Only when all want to be left alone is there nobody to ask sooner.
    this.retryAfter = delays.every((delay) => delay !== undefined) ? Math.min(...delays) : undefined;
  }
}

/**
 * Asks the responders of a certificate in their order until one gives an acceptable answer.
 *
 * @throws RespondersFailed, or the reason of `signal`
 */
export async function askResponders<T>({ subject, urls, configured, policy, accept, limiter, clock, signal }: Inquiry<T>): Promise<RespondersAnswer<T>> {
  const { timeout, maxResponseSize: maxSize } = policy;
  const failures: Failure[] = [];
  let duration = 0;
  for (const url of urls) {
    let method: Method | undefined;
    const onAttempt = (next: Method): void => void (method = next);
    const ask = async (): Promise<Answer<T>> => {
      const started = clock.now();
      try {
        const request = encodeRequest(certIdFor(subject));
        return await fetchResponse({ url, request, accept, timeout, maxSize, configured, clock, signal, onAttempt });
      } finally {
        duration += clock.now() - started;
      }
    };
    try {
      const answer = await limiter.run(URL.parse(url)?.host ?? url, ask, signal);
      return { ...answer, responder: url, duration };
    } catch (error) {
      signal.throwIfAborted();
      failures.push({ url, method, error: error as Error });
    }
  }
  throw new RespondersFailed(failures, duration);
}
