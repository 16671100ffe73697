import type { ServableStaple, SnapshotUpdate } from '../snapshot.ts';

/** Milliseconds that a staple may take to the workers while thousands are on their way. */
const longest = 50;

/** Sends new staples to the workers: each at once, or many together while there is a storm of them, as each message wakes every worker. */
export class StapleBatch {
  readonly #isStorming: () => boolean;
  readonly #send: (update: SnapshotUpdate) => void;
  #staples = new Map<string, ServableStaple | undefined>();
  #timer: NodeJS.Timeout | undefined;

  constructor({ isStorming, send }: { isStorming: () => boolean; send: (update: SnapshotUpdate) => void }) {
    this.#isStorming = isStorming;
    this.#send = send;
  }

  add(fingerprint: string, staple: ServableStaple | undefined): void {
    this.#staples.set(fingerprint, staple);
    if (this.#isStorming()) this.#timer ??= setTimeout(() => this.#flush(), longest);
    else this.#flush();
  }

  #flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#staples.size > 0) this.#send({ type: 'staples', staples: this.#staples });
    this.#staples = new Map();
  }

  close(): void {
    clearTimeout(this.#timer);
  }
}
