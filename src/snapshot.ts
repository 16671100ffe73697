import type { Config } from './config/schema.ts';

/** One certificate in use by one virtual host: what a worker needs to serve it. Plain data. */
export interface Identity {
  /** `server_name` of the virtual host. */
  virtualHost: string;
  /** SHA-256 of the leaf certificate, lower-case hex: the name under which its staple is kept. */
  fingerprint: string;
  keyType: KeyType;
  /** PEM of the leaf. */
  certificate: string;
  /** PEM of what is sent after it, in order. One list for all identities of an authority. */
  intermediates: readonly string[];
  /** PEM. */
  key: string;
}

export type KeyType = 'rsa' | 'ecdsa' | 'ed25519' | 'ed448';

/** What a handshake staples: DER of the OCSPResponse, and the time (ms since the epoch) after which it must not be served. */
export interface ServableStaple {
  der: Uint8Array;
  validUntil: number;
}

/** How many client connections one worker takes on. */
export interface WorkerLimits {
  connections: number;
  /** Before the end of their handshake. */
  handshakes: number;
  /** Of one client. */
  connectionsPerAddress: number | undefined;
}

/** Everything a worker serves from. Immutable: a change is a new snapshot or one of the updates below. */
export interface Snapshot {
  config: Config;
  identities: Identity[];
  /** Virtual hosts (`server_name`) whose identities come later, at the start: their handshakes wait. */
  awaited: string[];
  /** By fingerprint. */
  staples: Map<string, ServableStaple>;
  /** PEM of the authorities for client certificates, by the path in the configuration. */
  clientAuthorities: Map<string, string>;
  /** PEM of what routes name in `backend_tls`, by the path in the configuration. */
  backendFiles: Map<string, string>;
  /** From which session ticket keys are derived: 32 random bytes. */
  ticketSecret: Uint8Array;
  limits: WorkerLimits;
}

/** Small changes sent to running workers between two snapshots. */
export type SnapshotUpdate =
  | { type: 'snapshot'; snapshot: Snapshot }
  /** All identities of these virtual hosts, with their staples: they switch together. */
  | { type: 'identities'; virtualHosts: string[]; identities: Identity[]; staples: Map<string, ServableStaple> }
  /** By fingerprint: newer staples, or none any more. */
  | { type: 'staples'; staples: Map<string, ServableStaple | undefined> }
  /** New session ticket keys, everywhere at once. */
  | { type: 'ticketSecret'; ticketSecret: Uint8Array };
