import type { Staple } from './verify.ts';
import type { ResponseStatus } from './response.ts';

/** Why a response is not stapled: the stable code and its meaning, in the order in which the checks are made. */
export const refusals = {
  too_large: 'The response is larger than ocsp.max_response_size.',
  malformed: 'The response is not the DER that RFC 6960 describes, or contradicts itself.',
  response_status: 'The responder answered with an error such as tryLater or unauthorized.',
  bad_certificate: 'The certificate or its issuer is not the DER that RFC 5280 describes, so no question can be asked about it.',
  issuer_mismatch: 'The certificate was not issued by the issuer that was named with it.',
  no_matching_entry: 'The response says nothing about this certificate.',
  several_certificates: 'The response speaks of several certificates of the issuer, and none of them was named.',
  signer_not_authorized: 'The response is signed neither by the issuer nor by a certificate the issuer made for signing OCSP responses.',
  unsupported_algorithm: 'The signature algorithm is unknown, broken (MD5), or does not fit the key.',
  weak_signature: 'The signature uses SHA-1 and the policy refuses that.',
  bad_signature: 'The signature does not verify under the key of the named signer.',
  critical_extension: 'The response or its signer carries a critical extension that is not understood.',
  nonce_mismatch: 'The response answers another request: its nonce is not the one that was sent.',
  not_yet_valid: 'The response comes from the future (see ocsp.clock_skew; is the clock right?).',
  expired: 'The response, its signer or the certificate itself has run out.',
  too_old: 'The response is older than ocsp.max_age.',
  no_next_update: 'The response does not say when it runs out, and ocsp.no_next_update is 0.',
  status_revoked: 'The certificate is revoked.',
  status_unknown: 'The responder does not know the certificate.',
  superseded: 'The response is older than the one that is held already.',
} as const;

export type RefusalCode = keyof typeof refusals;

interface RefusalDetails {
  /** The error status of the responder, with `response_status`. */
  responseStatus?: ResponseStatus;
  /** The fully verified response that says so, with `status_revoked`. */
  revoked?: Staple;
  cause?: unknown;
}

/** A response that is not stapled. The message is for the log; `code` is stable. */
export class OcspRefusal extends Error {
  readonly code: RefusalCode;
  readonly responseStatus: ResponseStatus | undefined;
  readonly revoked: Staple | undefined;

  constructor(code: RefusalCode, message: string, { responseStatus, revoked, cause }: RefusalDetails = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'OcspRefusal';
    this.code = code;
    this.responseStatus = responseStatus;
    this.revoked = revoked;
  }
}
