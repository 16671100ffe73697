import { rmSync } from 'node:fs';
import { mkdtemp, readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { startApplication, startFiles } from './backend.ts';
import { chart } from './chart.ts';
import { makeCredentials } from './credentials.ts';
import { withFigures } from './page.ts';
import { peers, peerVersion } from './peers.ts';
import { circumstances, figure, judged, type Measured, mergeResults, ratio, type Results } from './results.ts';
import type { Bench } from './round-robin.ts';
import { type Row, rows } from './rows.ts';

const floors = Object.keys(peers).filter((name) => name.startsWith('floor-'));
const help = `Usage: npm run bench -- [options]

CPU time per operation of Staplegate and its peers: same backend, same client, in turn. scripts/debian-packages.sh bench
installs the peers; one that is missing is left out.

  --only ROW,…       of: ${Object.keys(rows).join(', ')}
  --peers PEER,…     of: ${Object.keys(peers).join(', ')}
  --rounds N         measurements of each peer; the median counts (default 3)
  --seconds N        about the length of one measurement (default 3)
  --engine NAME      Staplegate's forwarding engine
  --floor            also what Node's TLS costs alone: ${floors.join(', ')}
  --cpu-prof FOLDER  CPU profiles of Staplegate's processes, for bench/profile.ts
  --json FILE        puts the results there, beside those of other rows
  --write-docs       puts them into docs/benchmarks.json, and from there into docs/benchmarks.md and docs/benchmarks.svg
`;

const { values } = parseArgs({
  options: {
    only: { type: 'string' },
    peers: { type: 'string' },
    rounds: { type: 'string', default: '3' },
    seconds: { type: 'string', default: '3' },
    engine: { type: 'string' },
    floor: { type: 'boolean' },
    'cpu-prof': { type: 'string' },
    json: { type: 'string' },
    'write-docs': { type: 'boolean' },
    help: { type: 'boolean' },
  },
});
if (values.help) {
  process.stdout.write(help);
  process.exit();
}

function names(list: string | undefined, known: object, what: string): string[] | undefined {
  const given = list?.split(',');
  const unknown = given?.find((name) => !Object.hasOwn(known, name));
  if (unknown === undefined) return given;
  process.stderr.write(`no ${what} ${unknown}: there are ${Object.keys(known).join(', ')}\n`);
  process.exit(2);
}

const chosenRows = names(values.only, rows, 'row') ?? Object.keys(rows);
const asked = names(values.peers, peers, 'peer') ?? Object.keys(peers).filter((name) => !floors.includes(name));
const installed = (name: string): boolean => peerVersion(name) !== undefined;

const say = (text: string): void => void process.stderr.write(`${text}\n`);
const folder = await mkdtemp(path.join(tmpdir(), 'staplegate-bench-'));
process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
{
  await using files = await startFiles(folder);
  await using http2 = await startFiles(folder, 'h2');
  await using application = await startApplication();
  const bench: Bench = {
    folder,
    credentials: { ecdsa: await makeCredentials(folder, 'ecdsa'), rsa: await makeCredentials(folder, 'rsa') },
    backends: { files: files.port, http2: http2.port, application: application.port },
    rounds: Number(values.rounds),
    seconds: Number(values.seconds),
    options: {
      ...(values.engine !== undefined && { engine: values.engine }),
      ...(values['cpu-prof'] !== undefined && { cpuProfiles: path.resolve(values['cpu-prof']) }),
    },
    say,
  };
  const results: Results = {};
  for (const name of chosenRows) {
    const row = rows[name]!;
    say(name);
    const speaking = asked.filter((peer) => peers[peer]!.speaks.includes(row.protocol));
    const taking = [...speaking, ...(values.floor ? (row.floors ?? []) : [])].filter(installed);
    results[name] = { ...circumstances(taking), ...(await row.measure(bench, taking)) };
    print(row, results[name]);
  }
  if (values.json !== undefined) await mergeResults(values.json, results);
  if (values['write-docs']) await writeDocs(results);
}

async function writeDocs(results: Results): Promise<void> {
  const docs = (name: string): string => fileURLToPath(new URL(`../docs/${name}`, import.meta.url));
  const all = await mergeResults(docs('benchmarks.json'), results);
  await writeFile(docs('benchmarks.md'), withFigures(await readFile(docs('benchmarks.md'), 'utf8'), all));
  await writeFile(docs('benchmarks.svg'), chart(all));
}

function print(row: Row, measured: Measured): void {
  console.log(`\n${row.title}`);
  const [first = ''] = Object.keys(row.figures);
  for (const peer of Object.keys(measured.peers)) {
    const figures = Object.entries(row.figures).map(([name, unit]) => `${figure(measured, peer, name)?.toPrecision(4)} ${unit}`);
    const times = ratio(measured, peer, 'nginx', first);
    console.log(`  ${peer.padEnd(13)} ${(times === undefined ? '' : `${times.toFixed(2)} × nginx`).padEnd(14)} ${figures.join('   ')}`);
  }
  for (const [peer, reason] of Object.entries(measured.absent)) console.log(`  ${peer.padEnd(13)} ${reason}`);
  for (const goal of row.goals) {
    const judgement = judged(measured, goal);
    if (!judgement) continue;
    const limit = goal.most === undefined ? `at least ${goal.least}` : `at most ${goal.most}`;
    console.log(
      `  ${judgement.met ? 'met   ' : 'missed'} ${goal.figure} ${limit}${goal.times === undefined ? '' : ` × ${goal.times}`}: ${judgement.reached.toFixed(2)}`,
    );
  }
}
