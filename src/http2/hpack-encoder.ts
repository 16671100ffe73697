import type { Field } from '../proxy/headers.ts';
import { STATIC_TABLE } from './static-table.ts';

/** What we keep at most; the other side may allow less (SETTINGS_HEADER_TABLE_SIZE). */
const TABLE_SIZE = 4_096;
const STATIC = STATIC_TABLE.length;
/** Longer fields would push out all others. */
const MAX_INDEXED = 512;
/** Names whose last value is remembered. */
const MAX_SEEN = 64;

/** The first index of each name, and the index of each `:status`. */
const NAMES = new Map(STATIC_TABLE.map(({ name }, at): [string, number] => [name, at + 1]).toReversed());
const STATUSES = new Map(STATIC_TABLE.flatMap(({ name, value }, at): [number, number][] => (name === ':status' ? [[Number(value), at + 1]] : [])));
/**
 * Not even an intermediary may index them: by the size of what follows they could be guessed (RFC 7541, 7.1.3), and a connection to a
 * backend is shared by strangers.
 */
const SECRET = new Set(['cookie', 'set-cookie', 'authorization', 'proxy-authorization', 'authentication-info', 'proxy-authentication-info']);

interface Entry {
  key: string;
  value: string;
  size: number;
  /** How many were added before it. */
  number: number;
}

/**
 * Writes the header blocks of one connection (RFC 7541). A field is indexed when it comes a second time, and costs a byte from
 * then on; what is different in each answer does not drive out what is not. Nothing is Huffman-coded: it would save a few bytes
 * of those that are sent twice at most.
 */
export class HpackEncoder {
  /** What the last value that was sent for a name adds up to. */
  readonly #seen = new Map<string, number>();
  /** What has an index, by name and value. */
  readonly #known = new Map<string, Map<string, Entry>>();
  /** The oldest first. */
  readonly #entries: Entry[] = [];
  #added = 0;
  #size = 0;
  #capacity = TABLE_SIZE;
  /** Sizes that the other side must be told of, in the next block. */
  #resized: number[] = [];
  #output: Buffer = Buffer.alloc(0);
  #at = 0;

  /** The other side has said how large the table may be. */
  limit(size: number): void {
    const capacity = Math.min(size, TABLE_SIZE);
    if (capacity === this.#capacity) return;
    // RFC 7541, 4.2: the smallest one that was in force, and the last.
    const smallest = Math.min(capacity, ...this.#resized);
    this.#resized = smallest < capacity ? [smallest, capacity] : [capacity];
    this.#capacity = capacity;
    this.#evict(0);
  }

  /**
   * Writes a block to `output`, which has room for `blockBound` bytes.
   * @param status undefined for requests, whose pseudo-header fields are among the fields, and for trailers
   * @returns the offset behind it
   */
  encode(status: number | undefined, fields: readonly Field[], output: Buffer, at: number): number {
    this.#output = output;
    this.#at = at;
    if (this.#resized.length > 0) {
      for (const size of this.#resized) this.#integer(0x20, 0x1f, size);
      this.#resized = [];
    }
    if (status !== undefined) this.#status(status);
    for (const { key, value, isSensitive } of fields) this.#field(key, value, isSensitive === true);
    return this.#at;
  }

  #status(status: number): void {
    const index = STATUSES.get(status);
    if (index !== undefined) return this.#byte(0x80 | index);
    this.#byte(STATUSES.get(200)!);
    this.#string(String(status));
  }

  #field(key: string, value: string, isSensitive: boolean): void {
    const entry = isSensitive ? undefined : this.#known.get(key)?.get(value);
    if (entry) return this.#integer(0x80, 0x7f, STATIC + this.#added - entry.number);
    const isSecret = isSensitive || SECRET.has(key);
    const isRepeated = !isSecret && value.length <= MAX_INDEXED && this.#isRepeated(key, value);
    const name = NAMES.get(key) ?? 0;
    if (isRepeated) this.#integer(0x40, 0x3f, name);
    else this.#integer(isSecret ? 0x10 : 0, 0x0f, name);
    if (name === 0) this.#string(key);
    this.#string(value);
    if (isRepeated) this.#add(copyOf(key), copyOf(value));
  }

  /** Sums will do: if two values have the same, one is indexed in vain. */
  #isRepeated(key: string, value: string): boolean {
    let sum = 0;
    for (let i = 0; i < value.length; i += 1) sum = (Math.imul(sum, 31) + value.charCodeAt(i)) | 0;
    const before = this.#seen.get(key);
    if (before === sum) return true;
    if (before !== undefined) this.#seen.set(key, sum);
    else if (this.#seen.size < MAX_SEEN) this.#seen.set(copyOf(key), sum);
    return false;
  }

  #add(key: string, value: string): void {
    const size = key.length + value.length + 32;
    this.#evict(size);
    if (size > this.#capacity) return;
    const entry = { key, value, size, number: this.#added };
    this.#added += 1;
    this.#size += size;
    this.#entries.push(entry);
    const known = this.#known.get(key);
    if (known) known.set(value, entry);
    else this.#known.set(key, new Map([[value, entry]]));
  }

  #evict(room: number): void {
    while (this.#entries.length > 0 && this.#size + room > this.#capacity) {
      const { key, value, size } = this.#entries.shift()!;
      this.#size -= size;
      const known = this.#known.get(key)!;
      known.delete(value);
      if (known.size === 0) this.#known.delete(key);
    }
  }

  #byte(byte: number): void {
    this.#output[this.#at] = byte;
    this.#at += 1;
  }

  /** RFC 7541, 5.1. */
  #integer(pattern: number, mask: number, value: number): void {
    if (value < mask) return this.#byte(pattern | value);
    this.#byte(pattern | mask);
    let rest = value - mask;
    for (; rest >= 0x80; rest >>>= 7) this.#byte((rest & 0x7f) | 0x80);
    this.#byte(rest);
  }

  #string(text: string): void {
    const { length } = text;
    this.#integer(0, 0x7f, length);
    const output = this.#output;
    const at = this.#at;
    // A call into the library costs more than a few characters.
    if (length > 24) output.write(text, at, length, 'latin1');
    else for (let i = 0; i < length; i += 1) output[at + i] = text.charCodeAt(i);
    this.#at = at + length;
  }
}

/** V8 keeps the whole head alive for a part of it. */
function copyOf(text: string): string {
  return Buffer.from(text, 'latin1').toString('latin1');
}

/** No block of these fields is longer. */
export function blockBound(fields: readonly Field[]): number {
  let bytes = 32;
  for (const { key, value } of fields) bytes += key.length + value.length + 12;
  return bytes;
}
