import type { ConnectionCounters } from '../connection-counters.ts';
import type { Snapshot, SnapshotUpdate } from '../snapshot.ts';
import type { InheritedSocket } from './worker.ts';

/** What the supervisor says to a worker process. */
export type ToWorker =
  | { type: 'start'; snapshot: Snapshot; sockets: InheritedSocket[] }
  | { type: 'close'; graceMs: number; hasSuccessor: boolean }
  | { type: 'count' }
  | SnapshotUpdate;

/** What a worker process says to the supervisor. */
export type FromWorker =
  | { type: 'listening' }
  | { type: 'failed'; message: string }
  /** The answer to `count`, and its last words. */
  | { type: 'counted'; connections: ConnectionCounters }
  /** It was told to end by someone else, and accepts nothing more. */
  | { type: 'leaving' };
