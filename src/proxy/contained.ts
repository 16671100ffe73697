import type { EventEmitter } from 'node:events';

/** As `emitter.on`. */
export type On = (event: string, listener: (...args: never[]) => void) => void;

/**
 * Listens to sockets and the like: nobody above them would catch what a listener throws, and the process serves others.
 * `onFault` ends what this emitter is about, and nothing else.
 */
export function contained(emitter: EventEmitter, onFault: (error: Error) => void): On {
  return (event, listener) => {
    emitter.on(event, (...args) => {
      try {
        listener(...(args as never[]));
      } catch (error) {
        onFault(error as Error);
      }
    });
  };
}

/** Says the last thing to a recipient that has been let go of: nobody else would tell it of a fault in that. */
export function tellLast(recipient: { fault(error: Error): void }, say: () => void): void {
  try {
    say();
  } catch (error) {
    recipient.fault(error as Error);
  }
}
