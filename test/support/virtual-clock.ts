import type { Clock } from '../../src/ocsp/clock.ts';

interface Timer {
  at: number;
  run: () => void;
}

/** Time that passes when a test says so. */
export class VirtualClock implements Clock {
  #now: number;
  readonly #timers = new Set<Timer>();
  /** What `random` gives. */
  chance = 0.5;

  constructor(now = Date.UTC(2026, 10, 22, 12)) {
    this.#now = now;
  }

  now(): number {
    return this.#now;
  }

  random(): number {
    return this.chance;
  }

  setTimeout(run: () => void, delay: number): () => void {
    const timer = { at: this.#now + delay, run };
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  }

  /** When the next timer is due; undefined without one. */
  get next(): number | undefined {
    return this.#first()?.at;
  }

  #first(): Timer | undefined {
    return [...this.#timers].sort((a, b) => a.at - b.at)[0];
  }

  /** Lets time pass, with everything that is due in it. */
  advance(duration: number): void {
    const end = this.#now + duration;
    for (let timer = this.#first(); timer !== undefined && timer.at <= end; timer = this.#first()) {
      this.#timers.delete(timer);
      this.#now = Math.max(this.#now, timer.at);
      timer.run();
    }
    this.#now = end;
  }

  /** Someone sets the clock: waits go on as if nothing had happened. */
  set(now: number): void {
    for (const timer of this.#timers) timer.at += now - this.#now;
    this.#now = now;
  }

  /** Jumps to the next timer; false when there is none. */
  step(): boolean {
    const { next } = this;
    if (next === undefined) return false;
    this.advance(next - this.#now);
    return true;
  }
}
