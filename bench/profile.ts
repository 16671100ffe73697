import { readFileSync } from 'node:fs';

/** Where the time of a CPU profile went, by function: `node bench/profile.ts FILE…`, for what `--cpu-prof` left. */

interface Profile {
  nodes: { id: number; callFrame: { functionName: string; url: string; lineNumber: number } }[];
  samples: number[];
  /** Microseconds before each sample. */
  timeDeltas: number[];
}

const shown = 30;

for (const file of process.argv.slice(2)) {
  const { nodes, samples, timeDeltas } = JSON.parse(readFileSync(file, 'utf8')) as Profile;
  const places = new Map(
    nodes.map(({ id, callFrame: { functionName, url, lineNumber } }) => [
      id,
      `${functionName || '(anonymous)'} ${url.replace(/.*\/(?=(?:src|node_modules|bench)\/)/, '')}${lineNumber < 0 ? '' : `:${lineNumber + 1}`}`,
    ]),
  );
  const times = new Map<string, number>();
  for (const [i, id] of samples.entries()) {
    const place = places.get(id)!;
    if (!place.startsWith('(idle)')) times.set(place, (times.get(place) ?? 0) + timeDeltas[i]!);
  }
  const busy = [...times.values()].reduce((sum, time) => sum + time, 0);
  console.log(`${file}: busy for ${(busy / 1e6).toFixed(2)} s`);
  for (const [place, time] of [...times].toSorted(([, a], [, b]) => b - a).slice(0, shown))
    console.log(`${((100 * time) / busy).toFixed(1).padStart(6)} %  ${place}`);
}
