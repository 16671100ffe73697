const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;

/** Nothing is asked again sooner than this, whatever a responder says: a guard against loops. */
const FLOOR = SECOND;
const SHORTEST_RETRY = 30 * SECOND;
const LONGEST_RETRY = HOUR;

interface RefreshConditions {
  /** Milliseconds since the epoch. */
  now: number;
  /** Freshness from the HTTP answer (Cache-Control max-age less Age, RFC 9111), in milliseconds. */
  httpMaxAge?: number | undefined;
  /** Not sooner than this many milliseconds from now, unless half the life that is left is shorter. */
  minDelay?: number;
  /** Uniform in [0, 1). */
  random: () => number;
}

/**
 * When to ask for the successor of a staple (milliseconds since the epoch).
 *
 * At half of its life a conforming CA has, or soon has, a newer response (CA/B baseline requirements 4.9.10), and as much again is left
 * for failures. Past that point (the responder still serves the old one), at half of what is left, but at least hourly.
 * HTTP freshness may bring it forward. ±10 % keeps certificates that were issued together from being asked about together.
 * The result can lie further away than one timer reaches (2³¹ − 1 ms).
 */
export function nextRefresh(staple: { thisUpdate: number; validUntil: number }, { now, httpMaxAge, minDelay = 5 * MINUTE, random }: RefreshConditions): number {
  const half = (staple.thisUpdate + staple.validUntil) / 2;
  const halfOfRest = (staple.validUntil - now) / 2;
  const due = now < half ? half - now : Math.min(halfOfRest, HOUR);
  const wanted = Math.min(due, httpMaxAge ?? Infinity) * (0.9 + 0.2 * random());
  const soonest = Math.max(FLOOR, Math.min(minDelay, halfOfRest));
  return now + Math.max(wanted, soonest);
}

/**
 * How long to wait after a failed attempt, in milliseconds: uniform between 30 s and a bound that doubles with every failure up to 1 h
 * ("full jitter"), not sooner than the responder's Retry-After (RFC 9110 10.2.3; itself held within 30 s … 1 h). While a staple is
 * still valid there is always a further try before it runs out: never more than half of its remaining life.
 *
 * @param failures attempts failed in a row, 1 or more
 * @param remainingLife milliseconds until the staple in use runs out; 0 or less when there is none
 * @param retryAfter milliseconds asked for by the responder
 * @param random uniform in [0, 1)
 */
export function retryDelay(failures: number, remainingLife: number, retryAfter: number | undefined, random: () => number): number {
  const shortest = Math.min(Math.max(SHORTEST_RETRY, retryAfter ?? 0), LONGEST_RETRY);
  const longest = Math.min(Math.max(SHORTEST_RETRY * 2 ** failures, shortest * 1.25), LONGEST_RETRY);
  const delay = shortest + random() * (longest - shortest);
  return remainingLife > 0 ? Math.min(delay, Math.max(FLOOR, remainingLife / 2)) : delay;
}
