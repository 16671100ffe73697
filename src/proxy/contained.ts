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

/**
 * As `contained`, for emitters of one kind, of which there may be very many: they share their listeners, where those of
 * its own would cost each of them a kilobyte as long as it is idle.
 * @returns what makes `owner` listen to an emitter
 */
export function containedKind<Owner extends { fault(error: Error): void }>(
  listeners: Record<string, (owner: Owner) => void>,
): (emitter: EventEmitter, owner: Owner) => void {
  const OWNER = Symbol('owner');
  type Owned = EventEmitter & { [OWNER]: Owner };
  const shared = Object.entries(listeners).map(([event, listener]) => {
    const listen = function (this: Owned): void {
      const owner = this[OWNER];
      try {
        listener(owner);
      } catch (error) {
        owner.fault(error as Error);
      }
    };
    return [event, listen] as const;
  });
  return (emitter, owner) => {
    (emitter as Owned)[OWNER] = owner;
    for (const [event, listen] of shared) emitter.on(event, listen);
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
