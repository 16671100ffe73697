import { headerBlockCase, requestCase, responseCase } from '../test/fuzz/cases.ts';

/**
 * Generated requests and responses, read by the engine and by llhttp, and header blocks of HTTP/2, read by nghttp2: `npm run fuzz -- [SECONDS [SEED]]`. Ends with status 1 and the bytes of
 * the cases in which they disagree. `npm run fuzz -- 0 NUMBER` repeats one case.
 */

const [seconds, seed] = [Number(process.argv[2] ?? 60), Number(process.argv[3] ?? Math.floor(Math.random() * 1e9))];
if (!(seconds >= 0) || !Number.isSafeInteger(seed)) throw new Error('usage: npm run fuzz -- [SECONDS [SEED]]');

const started = performance.now();
const rules = new Map<string, number>();
let findings = 0;
let alike = 0;
let number = seed;
do {
  for (const [kind, read] of [['request', requestCase] as const, ['response', responseCase] as const, ['header blocks', headerBlockCase] as const]) {
    const { text, finding, rule, ...verdict } = await read(number);
    alike += verdict.alike;
    if (rule !== undefined) rules.set(rule, (rules.get(rule) ?? 0) + 1);
    if (finding !== undefined) findings += 1;
    if (finding !== undefined || seconds === 0) {
      console.log(`${kind} ${number}: ${finding ?? rule ?? 'read alike'}\n  ${JSON.stringify(text)}\n  ${Buffer.from(text, 'latin1').toString('hex')}`);
      if (finding !== undefined) console.log(`  again: npm run fuzz -- 0 ${number}`);
    }
  }
  number += 1;
  if (process.stderr.isTTY && number % 500 === 0) process.stderr.write(`\r${number - seed} cases, ${findings} findings `);
} while (performance.now() - started < seconds * 1_000 && findings < 20);

if (process.stderr.isTTY) process.stderr.write('\n');
for (const [rule, count] of [...rules].toSorted(([, a], [, b]) => b - a)) console.log(`${String(count).padStart(8)} ${rule}`);
console.log(`${number - seed} cases from ${seed} on: ${alike} messages read alike, ${findings} findings`);
process.exitCode = findings > 0 ? 1 : 0;
