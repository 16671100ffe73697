import type { OcspPolicy } from '../config/policies.ts';
import type { Log } from '../log.ts';
import type { ServableStaple } from '../snapshot.ts';
import type { OcspSubject } from './cert-id.ts';
import type { Clock } from './clock.ts';
import { OcspRefusal } from './refusal.ts';
import { type AcceptancePolicy, acceptResponse, type Staple, timeText } from './verify.ts';

interface HeldStapleOptions {
  /** Of the certificate, in log lines. */
  name: string;
  subject: OcspSubject;
  policy: OcspPolicy;
  clock: Clock;
  log: Log;
  onStaple: (staple: ServableStaple | undefined) => void;
}

const minute = 60_000;

/**
 * The newest verified response about one certificate, and what clients get of it: a good one until shortly before it
 * runs out, whatever happens to later fetches; of a revoked one what the policy says.
 */
export class HeldStaple {
  readonly #options: HeldStapleOptions;
  #staple: Staple | undefined;
  #offered: ServableStaple | undefined;
  #cancelExpiry = (): void => {};
  readonly #warned = new Set<string>();

  /** @param previous what a predecessor with another policy held; it is judged again, and not announced */
  constructor(options: HeldStapleOptions, previous?: Staple) {
    this.#options = options;
    if (previous === undefined) return;
    try {
      this.#hold(this.judge(previous.der));
    } catch (error) {
      if (!(error instanceof OcspRefusal)) throw error;
    }
  }

  /** Good or revoked, and even when it has run out: nothing older is accepted again. */
  get staple(): Staple | undefined {
    return this.#staple;
  }

  /** What a handshake may staple now. */
  get current(): ServableStaple | undefined {
    return this.#offered !== undefined && this.#offered.validUntil > this.#options.clock.now() ? this.#offered : undefined;
  }

  /**
   * Judges a response from a responder, from disk or from a file. A verified revocation is an answer too.
   *
   * @param nonce that was sent
   * @throws OcspRefusal; `superseded` when it is older than the one that is held, from a cache on the way or replayed
   */
  judge(der: Buffer, nonce?: Buffer): Staple {
    const staple = this.#verify(der, nonce);
    if (this.#isNews(staple)) return staple;
    throw new OcspRefusal('superseded', `the response of ${timeText(staple.thisUpdate)} is older than the one that is held already`);
  }

  #verify(der: Buffer, nonce: Buffer | undefined): Staple {
    const { subject, policy, clock } = this.#options;
    try {
      return acceptResponse(der, subject, { ...acceptancePolicy(policy, clock.now()), ...(nonce && { nonce }) });
    } catch (error) {
      if (error instanceof OcspRefusal && error.revoked !== undefined) return error.revoked;
      throw error;
    }
  }

  /** Of two responses as old as each other, one that says revoked stays. */
  #isNews({ thisUpdate, certStatus }: Staple): boolean {
    const held = this.#staple;
    if (held === undefined || thisUpdate > held.thisUpdate) return true;
    return thisUpdate === held.thisUpdate && (certStatus === 'revoked' || held.certStatus === 'good');
  }

  /** Makes a judged response the one that clients get. */
  take(staple: Staple): void {
    const old = this.#offered;
    this.#hold(staple);
    this.#warn(staple);
    if (!isSameStaple(old, this.#offered)) this.#options.onStaple(this.#offered);
  }

  #hold(staple: Staple): void {
    this.#cancelExpiry();
    this.#staple = staple;
    this.#offered = undefined;
    if (staple.certStatus === 'revoked' && this.#options.policy.onRevoked === 'omit') return;
    this.#offered = { der: staple.der, validUntil: endOfService(staple) };
    this.#awaitEnd(this.#offered);
  }

  #awaitEnd({ validUntil }: ServableStaple): void {
    const { name, clock, log, onStaple } = this.#options;
    this.#cancelExpiry = clock.setTimeout(() => {
      // The clock was set back meanwhile.
      if (this.current !== undefined) return this.#awaitEnd(this.current);
      log.warn(`the OCSP response for ${name} has run out and no newer one came; clients get none`, { certificate: name, code: 'staple_expired' });
      this.#offered = undefined;
      onStaple(undefined);
    }, validUntil - clock.now());
  }

  #warn({ certStatus, revocation, warnings, signer }: Staple): void {
    const { name, log } = this.#options;
    if (certStatus === 'revoked') {
      const since = revocation === undefined ? '' : ` since ${timeText(revocation.time)}`;
      log.error(`${name} is revoked${since}: replace the certificate`, { certificate: name, code: 'status_revoked' });
    }
    for (const code of warnings) {
      if (this.#warned.has(code)) continue;
      this.#warned.add(code);
      log.warn(`the OCSP response for ${name}, signed by ${signer.name}, is accepted with a warning: ${code}`, { certificate: name, code });
    }
  }

  close(): void {
    this.#cancelExpiry();
  }
}

/** What the settings of `ocsp` mean for a response that is judged at `now`. */
export function acceptancePolicy(policy: OcspPolicy, now: number): AcceptancePolicy {
  const { clockSkew, maxAge, noNextUpdate, maxResponseSize, sha1Signatures } = policy;
  return { now, clockSkew, maxAge, noNextUpdate, maxResponseSize, allowSha1Signatures: sha1Signatures === 'accept' };
}

export function isSameStaple(a: ServableStaple | undefined, b: ServableStaple | undefined): boolean {
  return a === b || (a !== undefined && b !== undefined && a.validUntil === b.validUntil && Buffer.compare(a.der, b.der) === 0);
}

/** A little before the end: clients' clocks differ, and a handshake takes time. */
function endOfService({ thisUpdate, validUntil }: Staple): number {
  return validUntil - Math.min(minute, (validUntil - thisUpdate) / 100);
}
