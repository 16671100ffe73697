import type { Clock } from './clock.ts';
import type { StaplingEntry } from './staple-status.ts';

/** Milliseconds after which a disk is taken for one that hangs. */
const longestLoad = 60_000;
/** Before a responder that could not be reached is asked again for a first staple; doubled each time. */
const firstPause = 1_000;
/** What a machine that is still booting makes of a responder. */
const unreachable = new Set<string>(['responder_unreachable', 'responder_timeout']);

/**
 * Resolves when a certificate has its staple, when its first attempt has ended without one, or `timeout` milliseconds after
 * the disk was read: reading what is kept for ten thousand certificates takes seconds, and is no responder's fault.
 */
export async function settled(entry: StaplingEntry | undefined, timeout: number, clock: Clock): Promise<void> {
  if (entry === undefined || entry.isSettled) return;
  await within(entry.loaded, longestLoad, clock);
  await within(entry.settled, timeout, clock);
}

/**
 * As {@link settled}, for a certificate that is of little use without its staple: a responder that cannot be reached is
 * asked again, as a machine that boots may have its network, or its own responder, a moment later.
 *
 * @param find the entry of the certificate, which may change meanwhile
 * @param ended resolves when nobody is asked any more
 */
export async function firstStaple(find: () => StaplingEntry | undefined, timeout: number, clock: Clock, ended: Promise<void>): Promise<void> {
  await within(find()?.loaded, longestLoad, clock);
  const end = clock.now() + timeout;
  await settled(find(), timeout, clock);
  for (let pause = firstPause; clock.now() + pause < end && isOutOfReach(find()); pause *= 2) {
    await within(ended, pause, clock);
    await within(find()?.refresh(), end - clock.now(), clock);
  }
}

function isOutOfReach(entry: StaplingEntry | undefined): boolean {
  return entry?.current === undefined && unreachable.has(entry?.status().lastError?.code ?? '');
}

async function within(work: Promise<unknown> | undefined, timeout: number, clock: Clock): Promise<void> {
  const { promise: timedOut, resolve } = Promise.withResolvers<void>();
  const cancel = clock.setTimeout(resolve, timeout);
  await Promise.race([work, timedOut]);
  cancel();
}
