/** Time as the schedule sees it, so that tests can run days in milliseconds. */
export interface Clock {
  /** Milliseconds since the epoch. */
  now(): number;
  /** Runs `run` once after `delay` milliseconds; the result cancels it. */
  setTimeout(run: () => void, delay: number): () => void;
  /** In [0, 1). */
  random(): number;
}

/**
 * Longer waits are cut in pieces: Node fires at once beyond 2^31−1 ms, and a machine that slept, or whose clock was set forward, must notice
 * within minutes that a refresh is due. A clock that is set back prolongs no wait.
 */
const longestPiece = 15 * 60_000;

/** The real clock. Its timers keep the process alive until they are cancelled. */
export const systemClock: Clock = {
  now: () => Date.now(),
  random: () => Math.random(),
  setTimeout(run, delay) {
    const due = Date.now() + delay;
    let timer: NodeJS.Timeout;
    const wait = (left: number): void => {
      // What is due already is no negative number of milliseconds, of which Node would warn.
      timer = left <= longestPiece ? setTimeout(run, Math.max(0, left)) : setTimeout(() => wait(Math.min(left - longestPiece, due - Date.now())), longestPiece);
    };
    wait(delay);
    return () => clearTimeout(timer);
  },
};
