import http, { type IncomingHttpHeaders } from 'node:http';
import https from 'node:https';
import type { Clock } from './clock.ts';
import { freshness, retryAfter } from './http-freshness.ts';
import { getPath } from './request.ts';
import { guardedLookup, isRefusedAddress, refusedAddressCode } from './responder-address.ts';
import { ResponderError } from './responder-error.ts';

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
  /** The administrator named this responder, so it may be at any address. */
  configured?: boolean;
  clock: Clock;
  /** Told of each method before it is tried. */
  onAttempt?: (method: Method) => void;
  /** Gives up with this signal's reason. */
  signal?: AbortSignal;
}

export type Method = 'GET' | 'POST';

export interface Answer<T> {
  accepted: T;
  method: Method;
  /** How long HTTP caches may keep the answer, in milliseconds. */
  maxAge: number | undefined;
  /** Oddities that were tolerated, for the log. */
  warnings: string[];
}

interface HttpAnswer {
  headers: IncomingHttpHeaders;
  body: Buffer;
}

const maxRedirects = 2;
/** 303 would turn a POST into a GET of something else. */
const redirectStatus = new Set([301, 302, 307, 308]);
/** Requests up to this size use GET, so that caches on the way can answer; longer ones use POST (RFC 9919, before it RFC 5019 5). */
const longestGet = 255;

/**
 * Asks one responder about one certificate over HTTP (RFC 6960 appendix A): with GET while the URL is short, which
 * caches can answer, and with POST when that is refused or answered badly.
 *
 * @throws ResponderError, what `accept` threw, or the reason of `signal`
 */
export async function fetchResponse<T>(question: Question<T>): Promise<Answer<T>> {
  const { url, timeout, clock } = question;
  const deadline = new AbortController();
  const cancel = clock.setTimeout(
    () => deadline.abort(new ResponderError('responder_timeout', url, `timed out after ${timeout / 1000} s (ocsp.timeout)`)),
    timeout,
  );
  const signal = question.signal ? AbortSignal.any([question.signal, deadline.signal]) : deadline.signal;
  try {
    signal.throwIfAborted();
    const target = httpUrl(url);
    const short = getUrl(target, question.request);
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
  { url: name, request, accept, maxSize, configured = false, clock, onAttempt }: Question<T>,
  method: Method,
  url: URL,
  signal: AbortSignal,
): Promise<Answer<T>> {
  let target = url;
  let anyAddress = configured;
  onAttempt?.(method);
  for (let redirects = 0; ; redirects += 1) {
    const answer = await exchange({ name: redirects === 0 ? name : target.href, target, method, request, maxSize, anyAddress, signal, now: () => clock.now() });
    if (!(answer instanceof URL)) {
      const type = answer.headers['content-type'];
      const warnings = isOcspType(type) ? [] : [`responder ${url.origin} sends content-type ${type ?? '(none)'} instead of application/ocsp-response`];
      return { accepted: accept(answer.body), method, maxAge: freshness(answer.headers), warnings };
    }
    if (redirects === maxRedirects) throw new ResponderError('responder_redirect', name, `redirects more than ${maxRedirects} times`);
    anyAddress &&= answer.host === target.host;
    target = answer;
  }
}

function isOcspType(type: string | undefined): boolean {
  return /^application\/ocsp-response\s*(?:;|$)/i.test(type ?? '');
}

interface Exchange {
  /** The responder in error messages. */
  name: string;
  target: URL;
  method: Method;
  request: Buffer;
  maxSize: number;
  anyAddress: boolean;
  signal: AbortSignal;
  now: () => number;
}

/** One HTTP request; resolves with a complete 200 answer, or with where a redirect leads. */
function exchange({ name, target, method, request, maxSize, anyAddress, signal, now }: Exchange): Promise<HttpAnswer | URL> {
  const refusedAddress = () =>
    new ResponderError('responder_refused_address', name, 'leads to a link-local or metadata address; name it in ocsp.responder if that is meant');
  const { promise, resolve, reject } = Promise.withResolvers<HttpAnswer | URL>();
  if (!anyAddress && isRefusedAddress(target.hostname)) throw refusedAddress();
  const options: https.RequestOptions & { autoSelectFamilyAttemptTimeout: number } = {
    method,
    signal,
    // A connection of its own: a kept one may be closed by the responder while the next question is on its way.
    agent: false,
    headers: {
      accept: 'application/ocsp-response',
      'user-agent': 'staplegate',
      ...(method === 'POST' && { 'content-type': 'application/ocsp-request', 'content-length': request.length }),
    },
    ...(!anyAddress && { lookup: guardedLookup }),
    // All addresses of a name are tried; Node's 250 ms for each would give up on responders far away.
    autoSelectFamilyAttemptTimeout: 1000,
  };
  const outgoing = (target.protocol === 'https:' ? https : http).request(target, options);
  const fail = (error: Error & { code?: string }): void => {
    if (signal.aborted) return reject(signal.reason);
    if (error instanceof ResponderError) return reject(error);
    if (error.code === refusedAddressCode) return reject(refusedAddress());
    reject(new ResponderError('responder_unreachable', name, `gave no complete answer: ${reason(error)}`));
  };
  const stop = (error: ResponderError): void => {
    fail(error);
    outgoing.destroy();
  };
  outgoing.on('error', fail);
  outgoing.on('close', () => fail(new Error('connection closed')));
  outgoing.on('response', (response) => {
    const { statusCode = 0, headers } = response;
    response.on('error', fail);
    if (redirectStatus.has(statusCode) && headers.location !== undefined) {
      const next = URL.parse(headers.location, target.href);
      if (next?.protocol !== 'http:' && next?.protocol !== 'https:')
        return stop(new ResponderError('responder_redirect', name, 'redirects to something other than http and https'));
      resolve(next);
      return outgoing.destroy();
    }
    if (statusCode !== 200) return stop(new ResponderError('responder_http_status', name, `answered HTTP ${statusCode}`, retryAfter(headers, now())));
    const chunks: Buffer[] = [];
    let size = 0;
    response.on('data', (chunk: Buffer) => {
      size += chunk.length;
      if (size > maxSize) stop(new ResponderError('response_too_large', name, `sends more than ${maxSize} bytes (ocsp.max_response_size)`));
      else chunks.push(chunk);
    });
    response.on('end', () => {
      if (response.complete) resolve({ headers, body: Buffer.concat(chunks) });
    });
  });
  outgoing.end(method === 'POST' ? request : undefined);
  return promise;
}

function reason(error: Error & { code?: string }): string {
  // Several addresses tried: the errors of each are inside.
  const inner = error instanceof AggregateError ? (error.errors as Error[]).map(({ message }) => message).join(', ') : error.message;
  return inner || error.code || 'unknown error';
}
