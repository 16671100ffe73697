import { ConnectionError, ErrorCode } from './frames.ts';
import { headerField, type HeaderField, type HeaderList } from './header-field.ts';
import { decodeHuffman } from './huffman.ts';
import { STATIC_TABLE } from './static-table.ts';

/** SETTINGS_HEADER_TABLE_SIZE at the beginning; we never ask for another one. */
const TABLE_SIZE = 4_096;
/** An entry counts at least 32 (RFC 7541, 4.1), so no more than these fit. */
const RING = TABLE_SIZE / 32;
const STATIC = STATIC_TABLE.length;

function fail(message: string): ConnectionError {
  return new ConnectionError(ErrorCode.COMPRESSION_ERROR, message);
}

/**
 * Reads the header blocks of one connection (RFC 7541). What a block refers to by index is the very object that it was when it
 * was sent: clients repeat most of their fields, and nothing of these is decoded, checked or allocated again.
 */
export class HpackDecoder {
  readonly #ring: (HeaderField | undefined)[] = [];
  /** Where the next entry goes; the newest is before it. */
  #next = 0;
  #count = 0;
  #size = 0;
  #capacity = TABLE_SIZE;
  /** Where reading goes on in the block. */
  #at = 0;

  /**
   * @param maxSize of all fields together (RFC 7541, 4.1)
   * @throws ConnectionError COMPRESSION_ERROR; nobody knows then what later blocks mean
   */
  decode(block: Buffer, start: number, end: number, maxSize: number): HeaderList {
    const fields: HeaderField[] = [];
    let size = 0;
    this.#at = start;
    while (this.#at < end) {
      const byte = block[this.#at]!;
      let field: HeaderField;
      if (byte >= 0x80) {
        field = this.#entry(this.#integer(block, end, 0x7f));
      } else if (byte >= 0x40) {
        field = this.#literal(block, end, 0x3f, false);
        this.#add(field);
      } else if (byte < 0x20) {
        // Without indexing, or never to be indexed.
        field = this.#literal(block, end, 0x0f, byte >= 0x10);
      } else {
        this.#resize(this.#integer(block, end, 0x1f), size === 0);
        continue;
      }
      size += field.size;
      if (size <= maxSize) fields.push(field);
    }
    return { fields, size, isTooLarge: size > maxSize };
  }

  #entry(index: number): HeaderField {
    if (index <= STATIC) {
      if (index === 0) throw fail('index 0');
      return STATIC_TABLE[index - 1]!;
    }
    if (index > STATIC + this.#count) throw fail(`index ${index} beyond the table`);
    return this.#ring[(this.#next - (index - STATIC) + RING) % RING]!;
  }

  #literal(block: Buffer, end: number, mask: number, isSensitive: boolean): HeaderField {
    const index = this.#integer(block, end, mask);
    const name = index === 0 ? this.#string(block, end) : this.#entry(index).name;
    return headerField(name, this.#string(block, end), isSensitive);
  }

  /** RFC 7541, 5.1. Nothing that is counted here is larger than a header block. */
  #integer(block: Buffer, end: number, mask: number): number {
    let value = block[this.#at]! & mask;
    this.#at += 1;
    if (value < mask) return value;
    for (let shift = 0; shift <= 21; shift += 7) {
      if (this.#at >= end) throw fail('an integer that is cut off');
      const byte = block[this.#at]!;
      this.#at += 1;
      value += (byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    throw fail('an integer that is too large');
  }

  #string(block: Buffer, end: number): string {
    if (this.#at >= end) throw fail('a field that is cut off');
    const isCoded = block[this.#at]! >= 0x80;
    const length = this.#integer(block, end, 0x7f);
    const start = this.#at;
    const behind = start + length;
    if (behind > end) throw fail('a string that is cut off');
    this.#at = behind;
    return isCoded ? decodeHuffman(block, start, behind) : block.toString('latin1', start, behind);
  }

  /** RFC 7541, 4.2: a size comes at the beginning of a block, and is no larger than we have said. */
  #resize(capacity: number, isFirst: boolean): void {
    if (!isFirst) throw fail('a table size in the middle of a block');
    if (capacity > TABLE_SIZE) throw fail(`a table size of ${capacity}`);
    this.#capacity = capacity;
    this.#evict(0);
  }

  #add(field: HeaderField): void {
    this.#evict(field.size);
    // RFC 7541, 4.4: what is larger than the table only empties it.
    if (field.size > this.#capacity) return;
    this.#ring[this.#next] = field;
    this.#next = (this.#next + 1) % RING;
    this.#count += 1;
    this.#size += field.size;
  }

  #evict(room: number): void {
    while (this.#count > 0 && this.#size + room > this.#capacity) {
      const oldest = (this.#next - this.#count + RING) % RING;
      this.#size -= this.#ring[oldest]!.size;
      // Else 128 entries of 4 KB each would stay in memory as long as their connection.
      this.#ring[oldest] = undefined;
      this.#count -= 1;
    }
  }
}
