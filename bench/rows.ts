import { type Extent, h2load, type Load } from './h2load.ts';
import type { Protocol } from './peers.ts';

/** One line of the tables: a kind of work, done by every peer in turn. */
export interface Row {
  title: string;
  protocol: Protocol;
  /** What one operation is: the figure is CPU microseconds per operation. */
  operation: string;
  /** Peers that cannot do it, beyond their protocols. */
  without?: readonly string[];
  goals: readonly Goal[];
  load: Load;
}

/** The figure shall be at most `ratio` times that of `peer`. */
export interface Goal {
  peer: string;
  ratio: number;
}

const small = { protocol: 'h1', operation: 'request' } as const;

export const rows: Record<string, Row> = {
  'h1-small': {
    ...small,
    title: 'HTTP/1.1 keep-alive, answers of 12 bytes',
    goals: [
      { peer: 'nginx', ratio: 1.2 },
      { peer: 'caddy', ratio: 0.35 },
    ],
    load: { path: '/small', clients: 32 },
  },
  'h1-1k': {
    ...small,
    title: 'HTTP/1.1 keep-alive, answers of 1 KB',
    goals: [
      { peer: 'nginx', ratio: 1.2 },
      { peer: 'caddy', ratio: 0.35 },
    ],
    load: { path: '/1k', clients: 32 },
  },
};

export function runLoad(row: Row, port: number, extent: Extent): Promise<{ requests: number; perSecond: number }> {
  return h2load(port, row.load, extent);
}
