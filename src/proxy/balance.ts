import type { Route } from '../config/schema.ts';
import { isAvailable, type Health } from './health.ts';

interface Candidate {
  readonly health: Health;
  /** Exchanges under way. */
  readonly active: number;
}

/**
 * Chooses a backend: among the available ones, else among all, for a guess is better than a refusal. Undefined when each of
 * these has `limit` exchanges: waiting for one of them is better than trying one that is down.
 * @param turn counts choices; it makes the rounds and settles ties of least_conn.
 */
export function choose<C extends Candidate>(candidates: readonly C[], balance: Route['balance'], turn: number, now: number, limit = Infinity): C | undefined {
  const [only] = candidates;
  if (candidates.length === 1) return only && only.active < limit ? only : undefined;
  const available = candidates.filter(({ health }) => isAvailable(health, now));
  const from = (available.length > 0 ? available : candidates).filter(({ active }) => active < limit);
  const start = turn % Math.max(1, from.length);
  const ordered = [...from.slice(start), ...from.slice(0, start)];
  if (balance === 'round_robin') return ordered[0];
  return ordered.reduce<C | undefined>((best, candidate) => (best === undefined || candidate.active < best.active ? candidate : best), undefined);
}
