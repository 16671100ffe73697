import type { IncomingHttpHeaders } from 'node:http';

const seconds = (text: string | undefined): number | undefined => (/^\d{1,10}$/.test(text ?? '') ? Number(text) * 1000 : undefined);

/**
 * How long an HTTP answer says it stays fresh, in milliseconds: Cache-Control max-age, else Expires less Date
 * (RFC 9111 4.2.1), less the Age it has already spent in caches. Undefined when it does not say, or says
 * that it must not be kept: that is about caches, and no reason to ask for the next response sooner.
 */
export function freshness(headers: IncomingHttpHeaders): number | undefined {
  const maxAge = /(?:^|[\s,])max-age="?(\d{1,10})(?!\d)/i.exec(headers['cache-control'] ?? '')?.[1];
  const lifetime = seconds(maxAge) ?? Date.parse(headers.expires ?? '') - Date.parse(headers.date ?? '');
  const left = lifetime - (seconds(headers.age) ?? 0);
  return left > 0 ? left : undefined;
}

/** Retry-After in milliseconds, from seconds or from a date (RFC 9110 10.2.3). Undefined when absent or nonsense. */
export function retryAfter(headers: IncomingHttpHeaders, now: number): number | undefined {
  const text = headers['retry-after'];
  const delay = seconds(text) ?? Date.parse(text ?? '') - now;
  return Number.isNaN(delay) ? undefined : Math.max(0, delay);
}
