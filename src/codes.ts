/**
 * Codes of log lines and errors that belong to no table of their room, with the line that docs/errors.md prints for each.
 * A code is stable: scripts and alerts may rely on it.
 */

export const startCodes = {
  config_unreadable: 'The configuration file cannot be read.',
  config_invalid: 'The configuration has errors; each is shown with its line and column.',
  listen_failed: 'An address of listen[] cannot be bound; the message says why and what to do.',
  no_certificates: 'No virtual host has a usable certificate, so there is nothing to serve over https.',
  state_dir_in_use: 'Another running Staplegate uses the same state_dir.',
  node_outdated: 'This version of Node has known vulnerabilities.',
} as const;

export const supervisorCodes = {
  reloaded: 'A new configuration is in force.',
  reload_refused: 'The new configuration is not used; the message says why. The one before stays in force.',
  restart_needed: 'A changed setting takes effect at the next start only.',
  backend_tls_file:
    'A file named in routes[].backend_tls cannot be used. Requests for its https backends are answered with 502, or go on with what was read before.',
  client_authority: 'The file named in tls.client_auth.ca cannot be used. Connections to its virtual host are refused, or go on with what was read before.',
  tls_policy: 'The TLS settings of a virtual host do not work together: connections to it are refused, or, in a warning, one of them has no effect.',
  awaiting_staple: 'A renewed certificate must be stapled (RFC 7633) and has no staple yet: the old one is served meanwhile.',
  worker_ended: 'A worker process died; another takes its place.',
  worker_failed: 'A worker process could not be started; it is tried again.',
  internal_error: 'A fault in Staplegate ended a worker or the whole program. Please report it.',
  watch_failed: 'Changes of a file or folder are not reported by the system; it is looked at from time to time instead.',
  watch_limit: 'The system watches no more files (fs.inotify.max_user_watches); they are looked at from time to time instead.',
  ticket_secret_refused: 'The secret of session tickets kept in state_dir is damaged or open to others. A new one is made: clients make full handshakes once.',
  ticket_secret_not_kept: 'The secret of session tickets cannot be written to state_dir: no session is resumed after a restart.',
  control_socket: 'The control socket in state_dir could not be made: staplegate status does not work.',
  notify_failed: 'systemd could not be told about the state of the service.',
} as const;

export const connectionCodes = {
  connection_limit:
    'As many connections are open in a worker as limits.connections allows: the one that has been idle for longest is closed, and while none is idle new ones wait in the queue of the kernel.',
  connection_limit_lowered: 'limits.connections is more than the file descriptors of the workers are enough for (LimitNOFILE); these decide.',
  client_limit: 'One address opened more connections than limits.connections_per_address.',
  crowded_out: 'A connection had not finished its handshake when a newer one needed the place (limits.handshakes).',
  handshake_abandoned: 'A client went away before the end of its handshake.',
  handshake_timeout: 'A client did not finish its handshake within timeouts.handshake.',
  sslv2_hello: 'A client speaks nothing newer than SSL 2.0, which must not be used (RFC 6176).',
  accept_failed: 'The system refused to accept connections, most often for want of file descriptors (LimitNOFILE).',
  proxy_protocol: 'A connection did not begin with a PROXY header, or came from outside trusted_proxies.',
  plain_http: 'A client spoke plain HTTP to an https listener; it was told so.',
  hello_malformed: 'What a client sent first is not a TLS ClientHello.',
  hello_too_large: 'A ClientHello is larger than any honest one.',
  unrecognized_name: 'A client asked for a name that no virtual host has, and none is the default.',
  server_name_changed: 'A client named another host in the second ClientHello than in the first.',
  client_rules_changed: 'A reload changed tls.client_auth of a virtual host while a client was at its handshake.',
  handshake_failed: 'The TLS handshake failed: no common version or cipher, no client certificate, or the client did not accept the certificate.',
  http2_error: 'An HTTP/2 connection or request was ended because its client broke the rules of the protocol, or did too much of what they allow.',
  tls_context: 'Certificate, key and policy of a virtual host do not work together.',
} as const;

export const staplingCodes = {
  no_responder: 'The certificate names no OCSP responder and ocsp.responder is not set, or it is none: nothing to staple.',
  response_file_unreadable: 'The file named in certificates[].ocsp_response, or NAME.ocsp beside the certificate, cannot be read.',
  issuer_missing: "The issuer's certificate is neither in the certificate file nor beside it, so responses cannot be verified.",
  staple_expired: 'The response in use ran out and no newer one could be had: clients get none.',
  responder_content_type: 'A responder names the wrong media type; its answers are used all the same.',
  unexpected: 'A fault in Staplegate kept a response from being fetched. Please report it.',
} as const;

export const cacheCodes = {
  cache_not_writable: 'Responses cannot be written to state_dir: they are kept in memory and lost at a restart.',
  cache_not_locked: 'state_dir could not be locked and cleaned up.',
  cache_unreadable: 'A kept response cannot be read.',
  cache_damaged: 'A kept response is damaged or not ours; it was moved to quarantine/.',
  cache_not_cleaned: 'Responses of certificates no longer in use could not be removed.',
} as const;

export const commandCodes = {
  not_running: 'No running Staplegate answers on the control socket in state_dir.',
  control_refused: 'The running Staplegate refuses what a command asked of it; the message says why.',
  unknown_name: 'No certificate in service has the name that was given to `ocsp refresh`.',
  host_unreachable: 'No connection to the host that a command was to look at.',
  host_timeout: 'The host that a command was to look at did not finish a TLS handshake in time.',
  no_staple: 'The server that was probed sent no OCSP response.',
  file_not_writable: 'The file that --out names cannot be written.',
} as const;
