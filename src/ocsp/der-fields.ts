import { explicit, malformed, Tag } from './der.ts';
import type { DerNode } from './der.ts';

/** Reads the components of one SEQUENCE in their order; each must be where its definition says, and none may be left over. */
export class Fields {
  readonly #what: string;
  readonly #nodes: DerNode[];
  #next = 0;

  /** @param tag of a SEQUENCE that is tagged IMPLICIT */
  constructor(sequence: DerNode, what: string, tag: number = Tag.sequence) {
    if (sequence.tag !== tag) throw malformed(`${what} is not a SEQUENCE`);
    this.#what = what;
    this.#nodes = sequence.children;
  }

  /** The next component, which must have this tag. */
  take(tag: number, name: string): DerNode {
    const node = this.optional(tag);
    if (node === undefined) throw malformed(`${this.#what} lacks its ${name}`);
    return node;
  }

  /** The next component if it has this tag. */
  optional(tag: number): DerNode | undefined {
    const node = this.#nodes[this.#next];
    if (node?.tag !== tag) return undefined;
    this.#next++;
    return node;
  }

  /** The next component if there is one, whatever it is. */
  any(): DerNode | undefined {
    return this.#nodes[this.#next++];
  }

  /** What an EXPLICIT `[number]` holds, if it comes next. */
  explicit(number: number): DerNode | undefined {
    const wrapper = this.optional(explicit(number));
    if (wrapper === undefined) return undefined;
    const [inner, ...rest] = wrapper.children;
    if (inner === undefined || rest.length > 0) throw malformed(`[${number}] of ${this.#what} does not hold one value`);
    return inner;
  }

  end(): void {
    if (this.#next < this.#nodes.length) throw malformed(`${this.#what} has a component too many`);
  }
}

export function expect(node: DerNode, tag: number, what: string): DerNode {
  if (node.tag !== tag) throw malformed(`${what} has the wrong type`);
  return node;
}

/** Dotted decimal. */
export function oid(node: DerNode): string {
  // Real ones have a dozen octets; the arithmetic below is quadratic, and the text goes into messages.
  if (node.content.length > 64) throw malformed('an OBJECT IDENTIFIER is too long');
  const arcs: bigint[] = [];
  let value = 0n;
  for (const octet of expect(node, Tag.oid, 'an OBJECT IDENTIFIER').content) {
    value = (value << 7n) | BigInt(octet & 0x7f);
    if (octet >= 0x80) continue;
    arcs.push(value);
    value = 0n;
  }
  const [head = 0n, ...tail] = arcs;
  const first = head < 80n ? head / 40n : 2n;
  return [first, head - first * 40n, ...tail].join('.');
}

/** An INTEGER or ENUMERATED from 0 to 32767. */
export function smallInteger({ content }: DerNode, what: string): number {
  if (content.length > 2 || content.readInt8(0) < 0) throw malformed(`${what} is out of range`);
  return content.readUIntBE(0, content.length);
}

/** The octets of a BIT STRING that has no unused bits, as signatures and keys have none. */
export function octetsOfBits(node: DerNode, what: string): Buffer {
  if (node.content[0] !== 0) throw malformed(`${what} is not a whole number of octets`);
  return node.content.subarray(1);
}

/** Milliseconds since the epoch. Only the form of RFC 5280 4.1.2.5.2: YYYYMMDDHHMMSSZ, no fraction, no offset. */
export function generalizedTime(node: DerNode, what: string): number {
  return instant(expect(node, Tag.generalizedTime, what).content.toString('latin1'), what);
}

/** Time of RFC 5280 4.1.2.5: UTCTime stands for 1950 to 2049, GeneralizedTime for later years. */
export function certificateTime(node: DerNode | undefined, what: string): number {
  if (node === undefined) throw malformed(`${what} is missing`);
  if (node.tag !== Tag.utcTime) return generalizedTime(node, what);
  const text = node.content.toString('latin1');
  return instant((text < '50' ? '20' : '19') + text, what);
}

function instant(text: string, what: string): number {
  const iso = /^\d{14}Z$/.test(text) ? text.replace(/^(....)(..)(..)(..)(..)(..)Z$/, '$1-$2-$3T$4:$5:$6.000Z') : '';
  const time = Date.parse(iso);
  // Date.parse accepts 24:00:00 and, on some engines, 30 February: only what comes back unchanged is a date.
  if (Number.isNaN(time) || new Date(time).toISOString() !== iso) throw malformed(`${what} is not a time of the form YYYYMMDDHHMMSSZ`);
  return time;
}

export interface Extension {
  /** Dotted. */
  extnId: string;
  critical: boolean;
  /** Content of the OCTET STRING, usually DER of its own. */
  extnValue: Buffer;
}

/** Extensions of RFC 5280 4.1; two of one kind are refused there, and are a way to say two things at once. */
export function extensions(node: DerNode | undefined, what: string): Extension[] {
  if (node === undefined) return [];
  const list = expect(node, Tag.sequence, what).children.map((child): Extension => {
    const fields = new Fields(child, what);
    const extnId = oid(fields.take(Tag.oid, 'extnID'));
    const critical = fields.optional(Tag.boolean)?.content[0] === 0xff;
    const extnValue = fields.take(Tag.octetString, 'extnValue').content;
    fields.end();
    return { extnId, critical, extnValue };
  });
  if (new Set(list.map(({ extnId }) => extnId)).size !== list.length) throw malformed(`${what} hold two of one kind`);
  return list;
}

export interface AlgorithmIdentifier {
  /** Dotted. */
  algorithm: string;
  parameters: DerNode | undefined;
  /** Whole encoding. */
  der: Buffer;
}

export function algorithmIdentifier(node: DerNode, what: string): AlgorithmIdentifier {
  const fields = new Fields(node, what);
  const algorithm = oid(fields.take(Tag.oid, 'algorithm'));
  const parameters = fields.any();
  fields.end();
  return { algorithm, parameters, der: node.der };
}
