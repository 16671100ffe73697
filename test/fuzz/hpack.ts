import { ConnectionError, StreamError } from '../../src/http2/frames.ts';
import { Role } from '../../src/http2/header-field.ts';
import { HpackDecoder } from '../../src/http2/hpack-decoder.ts';
import { CODE_LENGTHS } from '../../src/http2/huffman.ts';
import { sortFields } from '../../src/engine/http2-head.ts';
import type { Dice } from './dice.ts';

/** Header blocks as a client may send them, and as none does; and how we read them. */

const codes = new Map<number, string>();
let code = 0;
let length = 0;
for (const [symbol, bits] of [...CODE_LENGTHS.entries()].toSorted(([a, m], [b, n]) => m - n || a - b)) {
  code = code * 2 ** (bits - length);
  length = bits;
  codes.set(symbol, code.toString(2).padStart(bits, '0'));
  code += 1;
}

function integer(dice: Dice, pattern: number, mask: number, value: number): number[] {
  if (value < mask) return [pattern | value];
  const bytes = [pattern | mask];
  let rest = value - mask;
  for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest % 128) + 128);
  // Zeroes behind a number are as good (RFC 7541, 5.1 forbids none).
  return dice.fault(0.02) ? [...bytes, rest + 128, 0] : [...bytes, rest];
}

function string(dice: Dice, text: string): number[] {
  const plain = [...Buffer.from(text, 'latin1')];
  if (dice.chance(0.5)) return [...integer(dice, 0, 0x7f, plain.length), ...plain];
  const bits = plain.map((byte) => codes.get(byte)).join('');
  const padding = dice.odd(
    '1'.repeat((8 - (bits.length % 8)) % 8),
    ['0'.repeat((8 - (bits.length % 8)) % 8), '1'.repeat(((8 - (bits.length % 8)) % 8) + 8), codes.get(256)!],
    0.03,
  );
  const bytes = (bits + padding).match(/.{8}/g) ?? [];
  return [...integer(dice, 0x80, 0x7f, bytes.length), ...bytes.map((one) => Number.parseInt(one, 2))];
}

const names = ['x-a', 'x-b', 'user-agent', 'accept', 'cookie', 'x-'.padEnd(150, 'long')] as const;
const values = ['', '1', 'a b', '*/*', 'text/html,application/xhtml+xml', '\xe4\xf6\xfc', '~'.repeat(140), 'x'.repeat(2_000)] as const;
/** Of those that may be empty: accept-encoding, accept, cache-control, cookie, referer, user-agent. */
const indices = [16, 19, 24, 32, 51, 58] as const;

/** Blocks of two requests, the second of which refers to the first. */
export function headerBlocks(dice: Dice): Buffer[] {
  let entries = 0;
  return [0, 1].map(() => {
    const bytes: number[] = [];
    const resize = (): void => void bytes.push(...integer(dice, 0x20, 0x1f, dice.odd(dice.pick([0, 100, 4_096]), [4_097, 100_000], 0.2)));
    if (dice.chance(0.2)) resize();
    bytes.push(0x82, 0x87, 0x84, 0x41, ...string(dice, 'a.test'));
    entries += 1;
    for (let count = dice.below(8); count > 0; count -= 1) {
      if (dice.fault(0.03)) resize();
      const index =
        dice.chance(0.5) && entries > 0 ? 62 + dice.below(entries + (dice.fault(0.1) ? 3 : 0)) : dice.odd<number>(dice.pick(indices), [0, 61, 200], 0.03);
      if (dice.chance(0.3)) {
        bytes.push(...integer(dice, 0x80, 0x7f, index));
        continue;
      }
      const [pattern, mask] = dice.pick([
        [0x40, 0x3f],
        [0x40, 0x3f],
        [0, 0x0f],
        [0x10, 0x0f],
      ] as const);
      if (dice.chance(0.5)) bytes.push(...integer(dice, pattern, mask, index));
      else bytes.push(pattern, ...string(dice, dice.odd<string>(dice.pick(names), ['X-Upper', 'connection', 'x y', ':path', ':x'], 0.03)));
      bytes.push(...string(dice, dice.odd<string>(dice.pick(values), [' 1', '1\r\nx: y', '\0'], 0.03)));
      if (pattern === 0x40) entries += 1;
    }
    if (dice.fault(0.05)) bytes.length = dice.below(bytes.length);
    if (dice.fault(0.05)) bytes[dice.below(bytes.length)] = dice.below(256);
    return Buffer.from(bytes);
  });
}

/** What a block means: names and values in turn, or why there are none. */
export type BlockReading = string[] | 'compression error' | 'malformed' | 'nothing';

export interface OurBlockReading {
  reading: BlockReading;
  /** Without fields that are malformed by themselves. */
  proper: string[];
}

/** Reads blocks of one connection, up to the first that ends it. */
export function ourBlocks(blocks: readonly Buffer[]): OurBlockReading[] {
  const decoder = new HpackDecoder();
  const readings: OurBlockReading[] = [];
  for (const block of blocks) {
    let proper: string[] = [];
    try {
      const { fields } = decoder.decode(block, 0, block.length, 65_536);
      proper = fields.flatMap(({ name, value, role }) => (role === Role.MALFORMED ? [] : [name, value]));
      sortFields(fields, true, false);
      readings.push({ reading: proper, proper });
    } catch (error) {
      if (error instanceof StreamError) readings.push({ reading: 'malformed', proper });
      else if (error instanceof ConnectionError) return [...readings, { reading: 'compression error', proper }];
      else throw error;
    }
  }
  return readings;
}
