import { ConnectionError, ErrorCode } from './frames.ts';

/** How many bits each symbol takes (RFC 7541, B); 256 is the end of a string. */
export const CODE_LENGTHS = (
  '13 23 28 28 28 28 28 28 28 24 30 28 28 30 28 28 28 28 28 28 28 28 30 28 28 28 28 28 28 28 28 28 ' +
  '6 10 10 12 13 6 8 11 10 10 8 11 8 6 6 6 5 5 5 6 6 6 6 6 6 6 7 8 15 6 12 10 ' +
  '13 6 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 8 7 8 13 19 13 14 6 ' +
  '15 5 6 5 6 5 6 6 6 5 7 7 6 6 6 5 6 7 6 5 5 6 7 7 7 7 7 15 11 14 13 28 ' +
  '20 22 20 20 22 22 22 23 22 23 23 23 23 23 24 23 24 24 22 23 24 23 23 23 23 21 22 23 22 23 23 24 ' +
  '22 21 20 22 22 23 23 21 23 22 22 24 21 22 23 23 21 21 22 21 23 22 23 23 20 22 22 22 23 22 22 23 ' +
  '26 26 20 19 22 23 22 25 26 26 26 27 27 26 24 25 19 21 26 27 27 26 27 24 21 21 26 26 28 27 27 27 ' +
  '20 24 20 21 22 21 21 23 22 22 25 25 24 24 26 23 26 27 26 26 27 27 27 27 27 28 27 27 27 27 27 26 ' +
  '30 '
)
  .trim()
  .split(' ')
  .map(Number);
const END = 256;

// What the table says of a node and four more bits: the node behind them, and the symbol that they end, if they end one.
const SYMBOL = 0x100;
const FAILURE = 0x4000_0000;
const table = new Uint32Array(256 * 16);
/** Nodes in which a string may end: what is left is the beginning of the end symbol, and shorter than a byte (RFC 7541, 5.2). */
const isFinal = new Uint8Array(256);
fill();

/** The code is canonical: within a length, and from one to the next, codes are counted up. */
function fill(): void {
  const children: [number, number][] = [[0, 0]];
  const leaf = (symbol: number): number => -1 - symbol;
  let code = 0;
  let length = 0;
  for (const [symbol, bits] of [...CODE_LENGTHS.entries()].toSorted(([a, m], [b, n]) => m - n || a - b)) {
    code <<= bits - length;
    length = bits;
    let node = 0;
    for (let at = bits - 1; at > 0; at -= 1) {
      const bit = (code >>> at) & 1;
      if (children[node]![bit] === 0) children[node]![bit] = children.push([0, 0]) - 1;
      node = children[node]![bit]!;
    }
    children[node]![code & 1] = leaf(symbol);
    code += 1;
  }
  let padding = 0;
  for (let ones = 0; ones < 8; ones += 1) {
    isFinal[padding] = 1;
    padding = children[padding]![1];
  }
  for (let node = 0; node < 256; node += 1) {
    for (let nibble = 0; nibble < 16; nibble += 1) {
      let at = node;
      let entry = 0;
      for (let bit = 3; bit >= 0; bit -= 1) {
        at = children[at]![(nibble >>> bit) & 1]!;
        if (at >= 0) continue;
        // No code is shorter than five bits, so there is one symbol at most.
        entry = at === leaf(END) ? FAILURE : (SYMBOL | leaf(at)) << 8;
        at = 0;
      }
      table[node * 16 + nibble] = (entry | at) >>> 0;
    }
  }
}

/** For strings that are not too long to be sent in one HEADERS frame; longer ones get their own. */
const scratch = Buffer.allocUnsafeSlow(32_768);

/**
 * Decodes a Huffman-coded string (RFC 7541, 5.2) to latin1.
 * @throws ConnectionError COMPRESSION_ERROR for the end symbol, and for padding that is no beginning of it or a whole byte
 */
export function decodeHuffman(bytes: Buffer, start: number, end: number): string {
  // Five bits are the shortest code.
  const longest = Math.ceil(((end - start) * 8) / 5);
  const output = longest > scratch.length ? Buffer.allocUnsafe(longest) : scratch;
  let length = 0;
  let node = 0;
  for (let at = start; at < end; at += 1) {
    const byte = bytes[at]!;
    const high = table[node * 16 + (byte >>> 4)]!;
    if (high >= 0x100) {
      if (high >= FAILURE) throw new ConnectionError(ErrorCode.COMPRESSION_ERROR, 'the end symbol within a string');
      output[length] = (high >>> 8) & 0xff;
      length += 1;
    }
    const low = table[(high & 0xff) * 16 + (byte & 0xf)]!;
    if (low >= 0x100) {
      if (low >= FAILURE) throw new ConnectionError(ErrorCode.COMPRESSION_ERROR, 'the end symbol within a string');
      output[length] = (low >>> 8) & 0xff;
      length += 1;
    }
    node = low & 0xff;
  }
  if (isFinal[node] !== 1) throw new ConnectionError(ErrorCode.COMPRESSION_ERROR, 'a string with wrong padding');
  return output.toString('latin1', 0, length);
}
