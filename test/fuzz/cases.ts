import { compare, type Verdict } from './compare.ts';
import { Dice } from './dice.ts';
import { requestDifferences, responseDifferences } from './differences.ts';
import { requests, responses } from './grammar.ts';
import { llhttpRequests, llhttpResponses } from './llhttp-reading.ts';
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
