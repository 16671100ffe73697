/**
 * What has become of client connections since the start: plain data, only ever counted up, but for `now`. Each worker
 * counts for itself.
 */
export interface ConnectionCounters {
  accepted: number;
  /** Finished handshakes by protocol version, such as `TLSv1.3`. */
  handshakes: { full: Record<string, number>; resumed: Record<string, number> };
  /** Connections that backends have, unopened (`tls: passthrough`). */
  carried: number;
  /** Connections that did not get past their handshake, by the code of docs/errors.md. */
  refused: Record<string, number>;
  /** Those with `handshake_failed`, by the TLS library's reason, such as `no_shared_cipher`. */
  failures: Record<string, number>;
  /** How often all of `limits.connections` were open. */
  limitReached: number;
  now: {
    /** Connections that are open, those in `arriving` among them. */
    open: number;
    /** Connections before the end of their handshake. */
    arriving: number;
    /** TLS contexts in memory. */
    contexts: number;
  };
}

export function noConnections(): ConnectionCounters {
  return {
    accepted: 0,
    handshakes: { full: {}, resumed: {} },
    carried: 0,
    refused: {},
    failures: {},
    limitReached: 0,
    now: { open: 0, arriving: 0, contexts: 0 },
  };
}

/** Reasons come from tables of ours and of the TLS library; a bound all the same. */
const mostKinds = 200;

export function count(kinds: Record<string, number>, kind: string): void {
  const name = kind in kinds || Object.keys(kinds).length < mostKinds ? kind : 'others';
  kinds[name] = (kinds[name] ?? 0) + 1;
}

function addKinds(total: Record<string, number>, more: Record<string, number>): void {
  for (const [kind, times] of Object.entries(more)) total[kind] = (total[kind] ?? 0) + times;
}

/** Adds what another worker has counted. */
export function addConnections(total: ConnectionCounters, more: ConnectionCounters): void {
  total.accepted += more.accepted;
  total.carried += more.carried;
  total.limitReached += more.limitReached;
  addKinds(total.handshakes.full, more.handshakes.full);
  addKinds(total.handshakes.resumed, more.handshakes.resumed);
  addKinds(total.refused, more.refused);
  addKinds(total.failures, more.failures);
  addKinds(total.now, more.now);
}
