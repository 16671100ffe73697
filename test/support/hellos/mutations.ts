import { inRecordsOf } from '../hello.ts';
import { recordings } from './recordings.ts';

/** Changes a copy; `random` gives a whole number below its argument. */
type Mutation = (bytes: Buffer, random: (below: number) => number) => Buffer;

/** Ways in which a hello goes wrong: on the line, in a bad client, in the hands of somebody who means harm. */
const mutations: Mutation[] = [
  (bytes, random) => {
    bytes[random(bytes.length)] = random(256);
    return bytes;
  },
  (bytes, random) => {
    bytes[random(bytes.length)]! ^= 1 << random(8);
    return bytes;
  },
  // A length that is one off, nothing or everything.
  (bytes, random) => {
    const at = random(bytes.length - 1);
    const lengths = [bytes.readUInt16BE(at) + 1, bytes.readUInt16BE(at) - 1, 0, 0xffff, 0x4001];
    bytes.writeUInt16BE(lengths[random(lengths.length)]! & 0xffff, at);
    return bytes;
  },
  (bytes, random) => bytes.subarray(0, random(bytes.length + 1)),
  (bytes, random) => {
    const at = random(bytes.length);
    return Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + 1 + random(40))]);
  },
  // A piece twice, or of another client's hello.
  (bytes, random) => {
    const [from, at] = [random(bytes.length), random(bytes.length)];
    return Buffer.concat([bytes.subarray(0, at), bytes.subarray(from, from + random(60)), bytes.subarray(at)]);
  },
  (bytes, random) => {
    const { hello } = recordings[random(recordings.length)]!;
    return Buffer.concat([bytes.subarray(0, random(bytes.length)), hello.subarray(random(hello.length))]);
  },
  (bytes, random) => (bytes.length > 5 ? inRecordsOf(1 + random(bytes.length), bytes) : bytes),
];

/** A hello with one to three of these things done to it; `random` is of support/random.ts. */
export function mutated(hello: Buffer, random: () => number): Buffer {
  const below = (limit: number) => Math.floor(random() * Math.max(1, limit));
  let mutant: Buffer = Buffer.from(hello);
  for (let edits = 1 + below(3); edits > 0 && mutant.length > 1; edits--) mutant = mutations[below(mutations.length)]!(Buffer.from(mutant), below);
  return mutant;
}
