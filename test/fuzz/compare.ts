import { isDeepStrictEqual } from 'node:util';
import type { Differences } from './differences.ts';
import type { OurReading } from './our-reading.ts';
import type { Message, Reading } from './reading.ts';

/** What comes out when two readings of the same bytes are compared. */
export interface Verdict {
  /** Complete messages that both read alike. */
  alike: number;
  /** The rule that explains their difference, if there is one. */
  rule?: string;
  /** Their difference, if no rule explains it. */
  finding?: string;
}

/**
 * What we accept, llhttp must accept and mean the same, up to the byte where one of us reads no further; what llhttp accepts and we refuse
 * must be explained by a rule.
 * @param text the bytes of the connection, as latin1
 */
export function compare(ours: OurReading, theirs: Reading, text: string, { stricter, wider, followed }: Differences): Verdict {
  let alike = 0;
  const end = (name: string | undefined, finding: string): Verdict => (name === undefined ? { alike, finding } : { alike, rule: name });
  const show = (message: Message | undefined): string => (message ? JSON.stringify(message) : `nothing but ${theirs.refusal}`);
  const explained = (their: Message, from: string): Verdict => {
    const rule = stricter.find(({ code, applies }) => code === ours.refusal && applies(their, from));
    return end(rule?.name, `we say ${ours.refusal}, llhttp accepts ${show(their)}`);
  };
  let last: Message | undefined;
  for (const [i, our] of ours.messages.entries()) {
    const from = text.slice(ours.begins[i]);
    const their = theirs.messages[i];
    const isRefused = ours.refusal !== undefined && !our.complete;
    if (!their) {
      const rule = wider.find(({ applies }) => applies(our, from)) ?? followed.find(({ applies }) => last && applies(last, text));
      return end(rule?.name, `we accept ${show(our)}, llhttp says ${theirs.refusal}`);
    }
    const same = isDeepStrictEqual(our, isRefused ? { ...their, body: our.body, trailers: [], complete: false } : their);
    if (!same) return end(undefined, `we read ${show(our)}, llhttp ${show(their)}, then ${theirs.refusal}`);
    // How much of a body is given out before a fault in it is seen depends on the segments.
    if (isRefused) return their.complete ? explained(their, from) : { alike };
    if (our.complete) alike += 1;
    last = our;
  }
  const further = theirs.messages[ours.messages.length];
  if (!further) return { alike };
  if (ours.refusal !== undefined) return explained(further, text.slice(ours.end));
  return end(followed.find(({ applies }) => last && applies(last, text))?.name, `only llhttp reads ${show(further)}`);
}
