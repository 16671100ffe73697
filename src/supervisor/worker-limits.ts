import { readFileSync } from 'node:fs';
import { availableParallelism, totalmem } from 'node:os';
import type { Config } from '../config/schema.ts';
import type { Log } from '../log.ts';
import type { WorkerLimits } from '../snapshot.ts';

type Limits = Omit<Config['limits'], 'requestBodyRate'>;

/** Worker processes; 0 serves in the supervisor. */
export function workerCount({ workers }: Config): number {
  return workers === 'auto' ? availableParallelism() : workers;
}

/** What the machine has to give. */
export interface Resources {
  /** Processes that serve. */
  workers: number;
  /** File descriptors that one process may have open. */
  descriptors: number;
  /** Bytes. */
  memory: number;
}

/** For listeners, logs, files, channels between processes, and health probes. */
const ownDescriptors = 128;
/** A client's connection and one to a backend. */
const descriptorsEach = 2;
/** An idle connection takes less, a busy one more (bench/README.md). */
const memoryEach = 128 * 1024;

/** How many connections one process has descriptors for. */
function mostConnections(descriptors: number): number {
  return Math.max(1, Math.floor((descriptors - ownDescriptors) / descriptorsEach));
}

/**
 * One worker's part of `limits`. `auto` is what its descriptors allow and half of the memory. No setting exceeds the
 * descriptors: without one, the system would close connections that nobody has looked at.
 */
export function workerLimits(limits: Limits, { workers, descriptors, memory }: Resources): WorkerLimits {
  const share = (all: number): number => Math.max(1, Math.ceil(all / workers));
  const wanted = limits.connections === 'auto' ? Math.floor(memory / 2 / memoryEach) : limits.connections;
  const connections = Math.min(share(wanted), mostConnections(descriptors));
  // Always fewer than all, so that those who only begin never keep everybody else out.
  const handshakes = Math.min(share(limits.handshakes), Math.max(1, Math.floor(connections / 2)));
  return { connections, handshakes, connectionsPerAddress: limits.connectionsPerAddress };
}

export function warnOfLimits({ connections }: Limits, { workers, descriptors }: Resources, log: Log): void {
  const most = mostConnections(descriptors) * workers;
  if (connections === 'auto' || connections <= most) return;
  log.warn(`limits.connections is lowered from ${connections} to ${most}: each of ${workers} processes may open ${descriptors} files (LimitNOFILE)`, {
    code: 'connection_limit_lowered',
  });
}

/** Workers inherit the descriptor limit of this process (Node raises it to the hard limit when it starts). */
export function resources(workers: number): Resources {
  return { workers: Math.max(1, workers), descriptors: descriptorLimit(), memory: Math.min(totalmem(), process.constrainedMemory() || Infinity) };
}

function descriptorLimit(): number {
  const soft = /^Max open files\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'latin1'))?.[1];
  return soft === undefined ? Infinity : Number(soft);
}
