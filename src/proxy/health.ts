/**
 * What failed connections say about a backend. Only a connection that could not be made counts: an answer of any kind,
 * however bad, comes from an application that is there.
 */
export interface Health {
  /** Failures in a row. */
  failures: number;
  /** ms since the epoch; before it the backend is passed over while another one is left. */
  downUntil: number;
}

export const HEALTHY: Health = { failures: 0, downUntil: 0 };

const FIRST_PAUSE = 1_000;
const LONGEST_PAUSE = 30_000;

function pause(failures: number): number {
  return Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** Math.min(failures - 1, 10));
}

export function isAvailable(health: Health, now: number): boolean {
  return now >= health.downUntil;
}

/** After a connection that failed: down for a second, twice as long each time, half a minute at most. */
export function afterFailure(health: Health, now: number): Health {
  const failures = health.failures + 1;
  return { failures, downUntil: now + pause(failures) };
}

/** After the choice of a backend that was down: one request tries it, the others wait for what becomes of that. */
export function afterChoice(health: Health, now: number): Health {
  return health.failures === 0 ? health : { ...health, downUntil: now + pause(health.failures) };
}
