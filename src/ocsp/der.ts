import { OcspRefusal } from './refusal.ts';

/**
 * A reader of DER (X.690 chapter 10) that accepts nothing else. BER has many spellings of one value, and two parsers that disagree
 * about one of them are how a signed answer comes to mean something that was never signed; so what is not DER is refused before anything
 * is interpreted. The walk keeps its own stack: no input can overflow the call stack.
 */

/** Identifier octets: class, constructed bit and tag number. Numbers above 30 need more octets and occur in neither OCSP nor X.509. */
export const Tag = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  null: 0x05,
  oid: 0x06,
  enumerated: 0x0a,
  utcTime: 0x17,
  generalizedTime: 0x18,
  sequence: 0x30,
  set: 0x31,
} as const;

/** `[number]` holding one primitive value (IMPLICIT). */
export const implicit = (number: number): number => 0x80 | number;
/** `[number]` holding other values (EXPLICIT, or an IMPLICIT SEQUENCE). */
export const explicit = (number: number): number => 0xa0 | number;

/** Deepest nesting and largest count of values: a response of 64 KiB about hundreds of certificates stays far below. */
const MAX_DEPTH = 32;
const MAX_NODES = 50_000;

const CONSTRUCTED = 0x20;

export class DerNode {
  readonly tag: number;
  readonly children: DerNode[] = [];
  /** Offsets in `source`: the header, the content, and what follows. */
  readonly start: number;
  readonly contentStart: number;
  readonly end: number;
  readonly #source: Buffer;

  constructor(source: Buffer, start: number, contentStart: number, end: number) {
    this.tag = source[start] as number;
    this.start = start;
    this.contentStart = contentStart;
    this.end = end;
    this.#source = source;
  }

  /** The whole encoding, header included. A view, not a copy. */
  get der(): Buffer {
    return this.#source.subarray(this.start, this.end);
  }

  /** A view, not a copy. */
  get content(): Buffer {
    return this.#source.subarray(this.contentStart, this.end);
  }
}

export function malformed(message: string): OcspRefusal {
  return new OcspRefusal('malformed', message);
}

/**
 * Reads exactly one DER value and everything in it; the contents of OCTET STRINGs stay closed.
 *
 * @throws {OcspRefusal} `malformed`: not DER, bytes left over, nested too deeply or too many values.
 */
export function readDer(bytes: Uint8Array): DerNode {
  const source = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const root = readHeader(source, 0, source.length);
  if (root.end !== source.length) throw malformed(`${source.length - root.end} bytes follow the value`);
  const open: DerNode[] = [];
  let nodes = 1;
  let position = enter(root, open);
  for (let parent = open.at(-1); parent !== undefined; parent = open.at(-1)) {
    if (position === parent.end) {
      open.pop();
      continue;
    }
    const child = readHeader(source, position, parent.end);
    if (++nodes > MAX_NODES) throw malformed(`more than ${MAX_NODES} values`);
    parent.children.push(child);
    position = enter(child, open);
  }
  return root;
}

/** Where reading goes on: inside a constructed value, behind a primitive one. */
function enter(node: DerNode, open: DerNode[]): number {
  if ((node.tag & CONSTRUCTED) === 0) {
    checkPrimitive(node);
    return node.end;
  }
  if (open.push(node) > MAX_DEPTH) throw malformed(`values nested more than ${MAX_DEPTH} deep`);
  return node.contentStart;
}

function readHeader(source: Buffer, start: number, limit: number): DerNode {
  const tag = source[start];
  const first = source[start + 1];
  if (tag === undefined || first === undefined || start + 2 > limit) throw malformed(`the value at byte ${start} is cut off`);
  if ((tag & 0x1f) === 0x1f) throw malformed(`unexpected tag at byte ${start}`);
  checkForm(tag, start);
  if (first === 0x80) throw malformed(`indefinite length at byte ${start} (BER, not DER)`);
  const size = first < 0x80 ? 0 : first & 0x7f;
  const contentStart = start + 2 + size;
  if (size > 4 || contentStart > limit) throw malformed(`the value at byte ${start} is cut off`);
  const length = size === 0 ? first : source.readUIntBE(start + 2, size);
  if (size > 0 && (length < 0x80 || length < 2 ** (8 * (size - 1)))) throw malformed(`length at byte ${start} is not minimal (BER, not DER)`);
  if (contentStart + length > limit) throw malformed(`the value at byte ${start} is cut off`);
  return new DerNode(source, start, contentStart, contentStart + length);
}

/** Of the universal types only SEQUENCE, SET, EXTERNAL and EMBEDDED PDV are constructed; BER also allows strings in pieces. */
function checkForm(tag: number, start: number): void {
  if ((tag & 0xc0) !== 0) return;
  const number = tag & 0x1f;
  const constructed = number === 16 || number === 17 || number === 8 || number === 11;
  if (number === 0 || constructed !== ((tag & CONSTRUCTED) !== 0)) throw malformed(`unexpected form of a value at byte ${start} (BER, not DER)`);
}

function checkPrimitive(node: DerNode): void {
  const { tag, content } = node;
  const [first = 0, second = 0] = content;
  const last = content.at(-1) ?? 0;
  switch (tag) {
    case Tag.boolean:
      if (content.length !== 1 || (first !== 0x00 && first !== 0xff)) throw malformed('BOOLEAN is neither 00 nor FF');
      return;
    case Tag.integer:
    case Tag.enumerated:
      if (content.length === 0) throw malformed('empty INTEGER');
      if (content.length > 1 && ((first === 0x00 && second < 0x80) || (first === 0xff && second >= 0x80))) throw malformed('INTEGER is not minimal');
      return;
    case Tag.null:
      if (content.length !== 0) throw malformed('NULL with content');
      return;
    case Tag.bitString:
      if (content.length === 0 || first > 7 || (content.length === 1 && first !== 0)) throw malformed('BIT STRING without its bits');
      if ((last & ((1 << first) - 1)) !== 0 && content.length > 1) throw malformed('unused bits of a BIT STRING are not zero');
      return;
    case Tag.oid:
      if (content.length === 0 || last >= 0x80) throw malformed('OBJECT IDENTIFIER is cut off');
      if (content.some((octet, index) => octet === 0x80 && (index === 0 || (content[index - 1] as number) < 0x80)))
        throw malformed('OBJECT IDENTIFIER is not minimal');
      return;
    default:
  }
}
