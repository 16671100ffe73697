import type { Config, Timeouts } from '../config/schema.ts';
import type { Log } from '../log.ts';
import type { Connection } from '../proxy/client-stream.ts';
import type { Deadlines } from '../proxy/deadlines.ts';
import type { Handler } from '../proxy/handler.ts';

/** How long, in milliseconds, the first request of a new connection is taken to be on its way. */
export const FIRST_REQUEST = 2_000;

/** A client's connection, whichever version of HTTP it speaks. */
export interface ClientConnection {
  readonly connection: Connection;
  /** Between two requests. */
  readonly isIdle: boolean;
  /** Since when it waits for a request, by performance.now(); Infinity when it does not. */
  readonly idleSince: number;
  /** It carries WebSockets, and nothing else. */
  readonly isTunnel: boolean;
  /** No request has come yet: the first may be on its way. */
  readonly isFresh: boolean;
  /** Takes nothing new, and ends when what is under way has its answer; a tunnel stays. */
  endOutdated(): void;
  /** Closes an idle connection. */
  endSoon(): void;
  destroy(): void;
}

/** What connections share. */
export interface ConnectionHost {
  readonly log: Log;
  readonly handler: Handler;
  readonly deadlines: Deadlines;
  readonly timeouts: Timeouts;
  readonly http2: Config['http2'];
  /** Each answer is the last of its connection. */
  readonly isClosing: boolean;
  /** Nobody waits for idle connections. */
  readonly isHurrying: boolean;
  /** The connection is closed and its last exchange accounted for. */
  left(connection: ClientConnection): void;
}
