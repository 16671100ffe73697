import type { Facts } from '../log.ts';

/**
 * Every way an exchange can fail: the status that the client sees, and the line that docs/errors.md prints.
 * `client_gone` is never sent; it is what the log shows.
 */
export const proxyErrors = {
  bad_request: [400, 'What the client sent is not HTTP/1.'],
  bad_version: [400, 'The version is neither HTTP/1.0 nor HTTP/1.1.'],
  bad_field: [400, 'A field has a malformed name or value.'],
  bad_host: [400, 'Host is missing, repeated, malformed, or differs from the request target.'],
  bad_target: [400, 'The request target is neither a path nor a URL.'],
  bad_framing: [400, 'Content-Length and Transfer-Encoding are malformed or contradict each other: two readers could disagree where the request ends.'],
  ambiguous_path: [400, 'Where routes are chosen by path: the path has dot segments, empty segments, backslashes, their encoded forms, or `%00`.'],
  unknown_host: [404, 'No virtual host has the name, and none is the default.'],
  no_route: [404, 'No route of the virtual host covers the path.'],
  no_challenge: [404, 'The path of an ACME challenge does not end in a token, or acme_challenge_dir has no file for it.'],
  method_not_allowed: [405, 'CONNECT and TRACE are not served.'],
  client_head_timeout: [408, 'The client did not finish its request head within timeouts.request_header.'],
  client_body_timeout: [408, 'The client stopped sending its request body for longer than timeouts.request_body, or sent less than limits.request_body_rate.'],
  length_required: [411, 'A chunked request body for an HTTP/1.0 backend is larger than routes[].max_buffered_body. With a Content-Length it would pass.'],
  chunk_extensions_too_large: [413, 'The chunk extensions of a request body are larger than any honest ones.'],
  target_too_long: [414, 'The request target is longer than 8 KB.'],
  expectation_failed: [417, 'The client expects something other than 100-continue.'],
  misdirected: [421, 'Host does not belong to the virtual host that the TLS handshake chose.'],
  head_too_large: [431, 'The request head is larger than 32 KB or has more than 100 fields.'],
  client_gone: [499, 'The client went away before it had its answer. Log only.'],
  internal: [500, 'A fault in Staplegate. Please report it.'],
  unsupported_transfer_coding: [501, 'Transfer-Encoding is something other than chunked.'],
  backend_unreachable: [502, 'No connection to the backend: is the application running, and is routes[].backends right?'],
  backend_tls: [502, 'The TLS handshake with an https backend failed, or its certificate is not good: see routes[].backend_tls.'],
  backend_closed: [502, 'The backend closed the connection before or in the middle of its answer.'],
  backend_refused: [
    502,
    'A backend that speaks HTTP/2 has said that it did not look at the request (REFUSED_STREAM, or GOAWAY), twice, or when too much of its body was sent to repeat it.',
  ],
  backend_stale: [502, 'A kept connection to the backend was dead, and the request could not safely be repeated.'],
  backend_bad_response: [502, 'What the backend answered is not proper HTTP.'],
  backend_busy: [503, 'Every backend of the route has routes[].max_connections exchanges, and routes[].max_queue requests wait already.'],
  queue_timeout: [503, 'No backend had a place within timeouts.queue: all had routes[].max_connections exchanges.'],
  buffers_full: [503, 'Chunked request bodies for HTTP/1.0 backends occupy all the memory that one worker has for them, 64 MB.'],
  backend_connect_timeout: [504, 'The backend did not accept the connection within timeouts.connect.'],
  backend_timeout: [504, 'The backend did not begin its answer within timeouts.response_header.'],
  response_stalled: [504, 'The answer stood still for longer than timeouts.response_body; the client was cut.'],
} as const;

export type ProxyErrorCode = keyof typeof proxyErrors;

/**
 * Why a request is not answered by its backend. `message` and `facts` are for the log and may name backends and
 * settings; a client sees only the page that belongs to `status`.
 */
export class ProxyError extends Error {
  readonly code: ProxyErrorCode;
  readonly facts: Facts;

  constructor(code: ProxyErrorCode, message: string, facts: Facts = {}) {
    super(message);
    this.name = 'ProxyError';
    this.code = code;
    this.facts = facts;
  }

  get status(): number {
    return proxyErrors[this.code][0];
  }
}
