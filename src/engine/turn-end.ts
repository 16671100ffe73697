/** Something that has collected output. */
export interface Collecting {
  flush(): void;
  /** `flush` has thrown. */
  fault(error: Error): void;
}

let waiting: Collecting[] = [];

/** Flushes at the end of this turn of the event loop, when all sockets that had something to say have been read. */
export function atTurnEnd(one: Collecting): void {
  if (waiting.length === 0) setImmediate(flushAll);
  waiting.push(one);
}

function flushAll(): void {
  const all = waiting;
  waiting = [];
  for (const one of all) {
    try {
      one.flush();
    } catch (error) {
      one.fault(error as Error);
    }
  }
}
