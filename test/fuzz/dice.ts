import { seeded } from '../support/random.ts';

/** Chances that fall the same way for the same number. */
export class Dice {
  readonly #random: () => number;
  /** Odd things that may still happen: a message with ten faults is refused for the first of them, and the others are never tried. */
  #faults: number;

  constructor(number: number) {
    // Neighbouring numbers must not begin with like chances.
    this.#random = seeded(Math.imul(number + 1, 0x9e3779b1));
    this.#faults = this.pick([0, 1, 1, 1, 2, 3]);
  }

  /** 0 to `bound` - 1 */
  below(bound: number): number {
    return Math.floor(this.#random() * bound);
  }

  chance(probability: number): boolean {
    return this.#random() < probability;
  }

  pick<T>(choices: readonly [T, ...T[]]): T {
    return choices[this.below(choices.length)] ?? choices[0];
  }

  fault(probability: number): boolean {
    if (this.#faults === 0 || !this.chance(probability)) return false;
    this.#faults -= 1;
    return true;
  }

  /** `usual`, or one of the odd ones. */
  odd<T>(usual: T, choices: readonly [T, ...T[]], probability = 0.05): T {
    return this.fault(probability) ? this.pick(choices) : usual;
  }

  /** The text in up to four pieces. */
  cut(text: string): string[] {
    const at = Array.from({ length: this.below(4) }, () => this.below(text.length + 1)).toSorted((a, b) => a - b);
    return [0, ...at].map((from, i) => text.slice(from, at[i] ?? text.length)).filter((piece) => piece !== '');
  }
}
