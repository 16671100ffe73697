import { readExtensions } from '../../certificates/extensions.ts';
import { askResponders, RespondersFailed } from '../../ocsp/ask-responders.ts';
import { systemClock } from '../../ocsp/clock.ts';
import { acceptancePolicy } from '../../ocsp/held-staple.ts';
import { Limiter } from '../../ocsp/limiter.ts';
import { OcspRefusal } from '../../ocsp/refusal.ts';
import { acceptResponse } from '../../ocsp/verify.ts';
import { ocspDefaults } from '../../config/policies.ts';
import { CommandError, outline, type Outcome } from './outcome.ts';
import { writeOutput } from './output.ts';
import { findSubject, readSubject } from './subject.ts';
import { verdict } from './verify.ts';

export interface FetchOptions {
  cert: string;
  issuer?: string | undefined;
  /** Instead of those that the certificate names. */
  url?: string | undefined;
  /** Where a response that passes goes. */
  out?: string | undefined;
  /** Milliseconds for each responder. */
  timeout?: number | undefined;
}

/**
 * Asks the responders of a certificate now, as the server would, and says what came.
 *
 * @throws CertificateError; OcspRefusal `issuer_mismatch`, `bad_certificate`; CommandError `no_responder`, `file_not_writable`
 */
export async function fetch({ cert, issuer, url, out, timeout }: FetchOptions): Promise<Outcome> {
  const subject = issuer === undefined ? await findSubject(cert) : await readSubject(cert, issuer);
  const urls = url === undefined ? readExtensions(subject.leaf.raw).ocspResponders : [url];
  if (urls.length === 0) throw new CommandError('no_responder', `the certificate in ${cert} names no OCSP responder; name one with --url`);

  const asked: { responder?: string | undefined; method?: string | undefined; milliseconds?: number; notes: string[] } = { notes: [] };
  const { lines, json, ok, staple } = await verdict(async () => {
    try {
      const answer = await askResponders({
        subject,
        urls,
        configured: url !== undefined,
        policy: { ...ocspDefaults, ...(timeout !== undefined && { timeout }) },
        accept: (der) => acceptResponse(der, subject, acceptancePolicy(ocspDefaults, Date.now())),
        limiter: new Limiter({ perResponder: 1, overall: 1, perSecond: 1000, burst: 1, sickAfter: 1, isOutage: () => false, clock: systemClock }),
        clock: systemClock,
        signal: new AbortController().signal,
      });
      const { responder, method, duration, warnings, accepted } = answer;
      Object.assign(asked, { responder, method, milliseconds: Math.round(duration), notes: warnings });
      return accepted;
    } catch (error) {
      if (!(error instanceof RespondersFailed)) throw error;
      const { responder, method, duration, cause } = error;
      Object.assign(asked, { responder, method, milliseconds: Math.round(duration) });
      throw cause instanceof OcspRefusal ? cause : error;
    }
  });
  if (out !== undefined && staple !== undefined) await writeOutput(out, staple.der);
  const facts = { ...asked, ...(out !== undefined && { out: staple === undefined ? 'not written' : out }) };
  return { ok, lines: [...lines, ...outline(facts)], json: { ...json, ...facts } };
}
