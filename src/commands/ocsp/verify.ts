import { acceptancePolicy } from '../../ocsp/held-staple.ts';
import { OcspRefusal } from '../../ocsp/refusal.ts';
import { acceptResponse, type Staple } from '../../ocsp/verify.ts';
import { ocspDefaults } from '../../config/policies.ts';
import { readCertificates, readOcspMessage } from './input.ts';
import { isCoded, isoTime, outline, type Outcome } from './outcome.ts';
import { readSubject } from './subject.ts';

/** Durations and times in milliseconds, as in AcceptancePolicy; what is left out is as in a configuration that does not say. */
export interface VerifyOptions {
  issuer: string;
  cert?: string | undefined;
  response: string;
  at?: number | undefined;
  maxAge?: number | undefined;
  noNextUpdate?: number | undefined;
  clockSkew?: number | undefined;
  refuseSha1?: boolean | undefined;
}

/** Judges a response as the server would: good when it would be stapled. Never throws for what a file holds. */
export async function verify(options: VerifyOptions): Promise<Outcome> {
  const { at = Date.now(), refuseSha1 = false, issuer, cert, response } = options;
  const { maxAge = ocspDefaults.maxAge, noNextUpdate = ocspDefaults.noNextUpdate, clockSkew = ocspDefaults.clockSkew } = options;
  const policy = acceptancePolicy({ ...ocspDefaults, maxAge, noNextUpdate, clockSkew, sha1Signatures: refuseSha1 ? 'refuse' : 'accept' }, at);
  return verdict(async () => {
    const subject = cert === undefined ? { issuer: (await readCertificates(issuer))[0] } : await readSubject(cert, issuer);
    return acceptResponse(await readOcspMessage(response), subject, policy);
  });
}

/** What a judgement says, whatever its end. */
export async function verdict(judge: () => Staple | Promise<Staple>): Promise<Outcome & { staple?: Staple }> {
  try {
    const staple = await judge();
    const message = `valid until ${isoTime(staple.validUntil)}`;
    const facts = stapleFacts(staple);
    return { ok: true, lines: [`good: ${message}`, ...outline(facts)], json: { result: 'good', code: null, message, ...facts }, staple };
  } catch (error) {
    if (!isCoded(error)) throw error;
    const { code, message } = error;
    const facts = stapleFacts(error instanceof OcspRefusal ? error.revoked : undefined);
    return { ok: false, lines: [`refused: ${code}: ${message}`, ...outline(facts)], json: { result: 'refused', code, message, ...facts } };
  }
}

/** The same keys for every verdict; null where nothing is known. */
function stapleFacts(staple: Staple | undefined) {
  const time = (value: number | undefined): string | null => (value === undefined ? null : isoTime(value));
  return {
    certStatus: staple?.certStatus ?? null,
    revocationTime: time(staple?.revocation?.time),
    revocationReason: staple?.revocation?.reason ?? null,
    thisUpdate: time(staple?.thisUpdate),
    nextUpdate: time(staple?.nextUpdate),
    producedAt: time(staple?.producedAt),
    validUntil: time(staple?.validUntil),
    signer: staple === undefined ? null : { ...staple.signer },
    hashAlgorithm: staple?.hashAlgorithm ?? null,
    warnings: staple?.warnings ?? [],
  };
}
