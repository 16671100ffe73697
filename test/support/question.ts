import assert from 'node:assert/strict';
import { ocspDefaults } from '../../src/config/policies.ts';
import { Authority } from '../../src/demo/authority.ts';
import { certIdFor, type OcspSubject } from '../../src/ocsp/cert-id.ts';
import { acceptancePolicy } from '../../src/ocsp/held-staple.ts';
import { encodeRequest } from '../../src/ocsp/request.ts';
import { type Answer, fetchResponse, type Question } from '../../src/ocsp/responder.ts';
import { ResponderError, type ResponderErrorCode } from '../../src/ocsp/responder-error.ts';
import { acceptResponse, type Staple } from '../../src/ocsp/verify.ts';
import { VirtualClock } from './virtual-clock.ts';

/** One question about one certificate, to be put to responders. */

export const authority = await Authority.root('Responder test CA');
export const subject: OcspSubject = { leaf: (await authority.issue({ names: ['www.example.org'] })).certificate, issuer: authority.certificate };
export const request = encodeRequest(certIdFor(subject));

const accept = (der: Buffer): Staple => acceptResponse(der, subject, acceptancePolicy(ocspDefaults, Date.now()));

export function ask(url: string, options: Partial<Question<Staple>> = {}): Promise<Answer<Staple>> {
  return fetchResponse({ url, request, accept, timeout: 10_000, maxSize: 65_536, clock: new VirtualClock(Date.now()), ...options });
}

export async function failure(answer: Promise<unknown>, code: ResponderErrorCode): Promise<ResponderError> {
  const error = await answer.then(
    () => assert.fail('answered'),
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof ResponderError, String(error));
  assert.equal(error.code, code, error.message);
  return error;
}
