import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { makeMaterial } from './material.ts';
import { Program } from './program.ts';
import { SignedResponder } from './responder.ts';

/** Ten responders, one of which never answers: when do the certificates of the other nine have their staples? With it and without. */

const count = Number(process.argv[2] ?? 1_000);
const folder = await mkdtemp(path.join(tmpdir(), 'staplegate-bench-'));
const responders = Array.from({ length: 10 }, () => new SignedResponder());
const material = await makeMaterial(folder, count, await Promise.all(responders.map((responder) => responder.listen())));
for (const responder of responders) await responder.sign(material);
const sick = material.names.filter((_, i) => i % 10 === 0);

const finished: Record<string, number> = {};
for (const hangs of [false, true, false, true]) {
  responders[0]!.hangs = hangs;
  let good = 0;
  const done = Promise.withResolvers<number>();
  const program = await Program.start(folder, material, (line, after) => {
    const name = /certificate=(\S+) .*result=good/.exec(line)?.[1];
    if (name !== undefined && !sick.includes(name) && ++good === count - sick.length) done.resolve(after);
  });
  const after = await done.promise;
  const key = hangs ? 'one_hangs_ms' : 'all_answer_ms';
  finished[key] = Math.round(Math.min(finished[key] ?? Infinity, after));
  await program.stop();
  await rm(path.join(folder, 'state'), { recursive: true });
}
console.log(JSON.stringify({ bench: 'ocsp-hanging', certificates: count, ...finished, later_ms: finished['one_hangs_ms']! - finished['all_answer_ms']! }));
for (const responder of responders) responder.close();
await rm(folder, { recursive: true });
