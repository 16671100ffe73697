import { isDeepStrictEqual } from 'node:util';
import { compare, type Verdict } from './compare.ts';
import { Dice } from './dice.ts';
import { requestDifferences, responseDifferences } from './differences.ts';
import { requests, responses } from './grammar.ts';
import { headerBlocks, ourBlocks } from './hpack.ts';
import { llhttpRequests, llhttpResponses } from './llhttp-reading.ts';
import { nghttp2Blocks } from './nghttp2-reading.ts';
import { ourRequests, ourResponses } from './our-reading.ts';

/** One case: bytes made from a number, read by both. */
export interface Case extends Verdict {
  /** The bytes, as latin1. */
  text: string;
}

export async function requestCase(number: number): Promise<Case> {
  const dice = new Dice(number);
  const text = requests(dice);
  const ours = ourRequests(dice.cut(text));
  return { text, ...compare(ours, await llhttpRequests(text), text, requestDifferences) };
}

export async function responseCase(number: number): Promise<Case> {
  const dice = new Dice(number);
  const text = responses(dice);
  const method = dice.pick(['GET', 'GET', 'HEAD']);
  const ours = ourResponses(dice.cut(text), method);
  // A client does not show how many bytes an answer took; but it shows whether the answer was complete before the last of them.
  const { end, bounded } = ours;
  let early = 0;
  const theirs = await llhttpResponses(bounded ? [text.slice(0, end - 1), text.slice(end - 1, end)] : [text], method, ({ messages }) => {
    early = messages.filter(({ complete }) => complete).length;
  });
  const verdict = compare(ours, theirs, text, responseDifferences);
  if (bounded && early >= ours.messages.length) verdict.finding ??= `llhttp needs less than ${end} bytes`;
  return { text, ...verdict };
}

/** A field that may not be there makes the request malformed (RFC 9113, 8.2.1); nghttp2 leaves it out. */
const LEFT_OUT = 'malformed field';

/** Header blocks of HTTP/2, read by nghttp2: their text is in hexadecimal digits. */
export async function headerBlockCase(number: number): Promise<Case> {
  const blocks = headerBlocks(new Dice(number));
  const text = blocks.map((block) => block.toString('hex')).join(' ');
  const ours = ourBlocks(blocks);
  const theirs = await nghttp2Blocks(blocks);
  const verdict: Case = { text, alike: 0 };
  for (const [i, { reading, proper }] of ours.entries()) {
    const their = theirs[i];
    if (isDeepStrictEqual(reading, their)) verdict.alike += 1;
    else if (reading === 'malformed' && isDeepStrictEqual(proper, their)) verdict.rule = LEFT_OUT;
    else return { ...verdict, finding: `block ${i}: we read ${JSON.stringify(reading)}, nghttp2 ${JSON.stringify(their)}` };
  }
  return theirs.length > ours.length ? { ...verdict, finding: 'only nghttp2 reads on' } : verdict;
}
