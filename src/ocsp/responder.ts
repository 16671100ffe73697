import type { Clock } from './clock.ts';
import { exchange, type Method } from './http-exchange.ts';
import { freshness } from './http-freshness.ts';
import { getPath } from './request.ts';
import { OcspRefusal } from './refusal.ts';
import { ResponderError } from './responder-error.ts';

export type { Method };

export interface Question<T> {
  url: string;
  /** DER of the OCSPRequest. */
  request: Buffer;
  /** Judges the body of an answer; what it throws makes this a bad answer. */
  accept: (der: Buffer) => T;
  /** Milliseconds for everything: name lookup, connections, redirects, bodies, the second method. */
  timeout: number;
  /** Bytes. */
  maxSize: number;
  /** When what `timeout` bounds began, if not now: this is a second question to the same responder. Milliseconds since the epoch. */
  since?: number;
  /** No cache can answer this question: ask with POST only. */
  uncacheable?: boolean;
  /** The administrator named this responder, so it may be at any address. */
  configured?: boolean;
  /** ocsp.http_proxy */
  proxy?: string | undefined;
  clock: Clock;
  /** Told of each method before it is tried. */
  onAttempt?: (method: Method) => void;
  /** Gives up with this signal's reason. */
  signal?: AbortSignal;
}

export interface Answer<T> {
  accepted: T;
  method: Method;
  /** How long HTTP caches may keep the answer, in milliseconds. */
  maxAge: number | undefined;
  /** Of the accepted answer, in bytes. */
  size: number;
  /** Oddities that were tolerated, for the log. */
  warnings: string[];
}

const maxRedirects = 2;
/** Requests up to this size use GET, so that caches on the way can answer; longer ones use POST (RFC 9919, before it RFC 5019 5). */
const longestGet = 255;

/**
 * Asks one responder about one certificate over HTTP (RFC 6960 appendix A): with GET while the URL is short, which
 * caches can answer, and with POST when that is refused or answered badly.
 *
 * @throws ResponderError, what `accept` threw, or the reason of `signal`
 */
export async function fetchResponse<T>(question: Question<T>): Promise<Answer<T>> {
  const { url, timeout, clock, since = clock.now() } = question;
  const deadline = new AbortController();
  const cancel = clock.setTimeout(
    () => deadline.abort(new ResponderError('responder_timeout', url, `timed out after ${timeout / 1000} s (ocsp.timeout)`)),
    // A clock that was set back gives no more.
    Math.min(timeout, timeout + since - clock.now()),
  );
  const signal = question.signal ? AbortSignal.any([question.signal, deadline.signal]) : deadline.signal;
  try {
    signal.throwIfAborted();
    const target = httpUrl(url);
    const short = question.uncacheable ? undefined : getUrl(target, question.request);
    if (short === undefined) return await attempt(question, 'POST', target, signal);
    try {
      return await attempt(question, 'GET', short, signal);
    } catch (error) {
      if (signal.aborted || !isWorthAPost(error)) throw error;
      return await attempt(question, 'POST', target, signal).catch((second: unknown) => {
        // What a responder says about the certificate tells more than that it does not speak the other method.
        throw signal.aborted || !(second instanceof ResponderError) ? second : error;
      });
    }
  } finally {
    cancel();
  }
}

function httpUrl(url: string): URL {
  const parsed = URL.parse(url);
  if (parsed?.protocol !== 'http:' && parsed?.protocol !== 'https:') throw new ResponderError('responder_url', url, 'is not an http or https URL');
  return parsed;
}

/** Undefined when the URL would be too long, or has a query, after which RFC 6960 gives the request no place. */
function getUrl(target: URL, request: Buffer): URL | undefined {
  if (target.search !== '') return undefined;
  const url = new URL(target);
  url.pathname = `${target.pathname.replace(/\/$/, '')}/${getPath(request)}`;
  return url.href.length <= longestGet ? url : undefined;
}

/** "Not now" is meant for every method, and so is silence. */
function isWorthAPost(error: unknown): boolean {
  if (!(error instanceof ResponderError)) return true;
  if (error.code === 'responder_http_status') return error.retryAfter === undefined;
  return error.code === 'responder_redirect' || error.code === 'response_too_large';
}

async function attempt<T>(
  { url: name, request: body, accept, maxSize, configured = false, proxy, clock, onAttempt }: Question<T>,
  method: Method,
  url: URL,
  signal: AbortSignal,
): Promise<Answer<T>> {
  let target = url;
  let anyAddress = configured;
  onAttempt?.(method);
  for (let redirects = 0; ; redirects += 1) {
    const asked = redirects === 0 ? name : target.href;
    const answer = await exchange({ name: asked, target, method, body, maxSize, anyAddress, proxy, signal, now: () => clock.now() });
    if (!(answer instanceof URL)) {
      const type = answer.headers['content-type'];
      const text = textOf(answer.body);
      if (text !== undefined) {
        const found = `responder ${asked.slice(0, 200)} sends text (content-type ${type ?? '(none)'}), not an OCSP response`;
        throw new OcspRefusal('malformed', `${found}; a captive portal, or a proxy on the way? It begins with ${JSON.stringify(text.slice(0, 40))}`);
      }
      const warnings = isOcspType(type) ? [] : [`responder ${url.origin} sends content-type ${type ?? '(none)'} instead of application/ocsp-response`];
      return { accepted: accept(answer.body), method, maxAge: freshness(answer.headers), size: answer.body.length, warnings };
    }
    if (redirects === maxRedirects) throw new ResponderError('responder_redirect', name, `redirects more than ${maxRedirects} times`);
    anyAddress &&= answer.host === target.host;
    target = answer;
  }
}

/** The answer of something that speaks to people; DER begins with 0x30 and a length, and is full of octets that no text has. */
function textOf(body: Buffer): string | undefined {
  const text = body.toString('utf8').trim();
  return /^[^\x00-\x08\x0e-\x1f\ufffd]+$/.test(text) ? text : undefined;
}

function isOcspType(type: string | undefined): boolean {
  return /^application\/ocsp-response\s*(?:;|$)/i.test(type ?? '');
}
