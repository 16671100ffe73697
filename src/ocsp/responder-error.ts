/** Why a responder gave no answer to judge: the stable code and its meaning. */
export const responderErrors = {
  responder_url: 'The responder’s address is not an http or https URL.',
  responder_refused_address: 'The responder’s name leads to a link-local or metadata address; name it in ocsp.responder if that is meant.',
  responder_proxy: 'The forward proxy (ocsp.http_proxy, or that of the environment) refuses to pass the question on, or is no http proxy.',
  responder_unreachable: 'No connection to the responder, or it broke before the answer was complete.',
  responder_timeout: 'The answer was not complete within ocsp.timeout.',
  responder_http_status: 'The responder answered with an HTTP status other than 200.',
  responder_redirect: 'The responder redirects too often or to something other than http and https.',
  response_too_large: 'The answer is larger than ocsp.max_response_size; the rest of it was not read.',
} as const;

export type ResponderErrorCode = keyof typeof responderErrors;

/** A responder gave no answer to judge. The message is for the log; `code` is stable. */
export class ResponderError extends Error {
  readonly code: ResponderErrorCode;
  /** Milliseconds that the responder asks to be left alone (RFC 9110 10.2.3). */
  readonly retryAfter: number | undefined;

  constructor(code: ResponderErrorCode, url: string, what: string, retryAfter?: number) {
    super(`responder ${url.slice(0, 200)} ${what}`);
    this.name = 'ResponderError';
    this.code = code;
    this.retryAfter = retryAfter;
  }
}

/** Whether an error says that the responder does not work at all, so that asking it about other certificates is as futile. */
export function isOutage(error: unknown): boolean {
  return error instanceof ResponderError && ['responder_timeout', 'responder_unreachable', 'responder_proxy'].includes(error.code);
}
