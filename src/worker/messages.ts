import type { Snapshot, SnapshotUpdate } from '../snapshot.ts';
import type { InheritedSocket } from './worker.ts';

/** What the supervisor says to a worker process. */
export type ToWorker =
  | { type: 'start'; snapshot: Snapshot; sockets: InheritedSocket[] }
  | { type: 'close'; graceMs: number; hasSuccessor: boolean }
  | SnapshotUpdate;

/** What a worker process says to the supervisor. */
export type FromWorker =
  | { type: 'listening' }
  | { type: 'failed'; message: string }
  /** It was told to end by someone else, and accepts nothing more. */
  | { type: 'leaving' };
