import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { h2load, type Load } from './h2load.ts';
import { quantile } from './material.ts';
import { type Bench, cpuOf, inTurn, type Measure, type Work } from './round-robin.ts';

const warmUpSeconds = 2;

/** Clients that ask again as soon as they have an answer: CPU per request, and the rate that came with it. */
function closedLoop(load: Load, files: 'files' | 'http2' = 'files'): Work<number> {
  const uploadOf = ({ folder }: Bench): string[] => (load.upload === undefined ? [] : [`--data=${path.join(folder, 'upload')}`]);
  return {
    backend: load.upload === undefined ? files : 'application',
    async warmUp({ port }, bench) {
      if (load.upload !== undefined) await writeFile(path.join(bench.folder, 'upload'), Buffer.alloc(load.upload, 'x'));
      const { perSecond } = await h2load(port, load, { seconds: warmUpSeconds }, uploadOf(bench));
      return Math.ceil(perSecond * bench.seconds);
    },
    async round(server, count, bench) {
      let rate = 0;
      const cpu = await cpuOf(server, async () => {
        const loaded = await h2load(server.port, load, { requests: count }, uploadOf(bench));
        rate = loaded.perSecond;
        return loaded.requests;
      });
      return { cpu, rate };
    },
  };
}

export const requests =
  (load: Load, files?: 'http2'): Measure =>
  (bench, peers) =>
    inTurn(bench, peers, closedLoop(load, files));

/** How long answers take while requests come at half the rate that the first peer can serve in the same run. */
export function latency(load: Load): Measure {
  return (bench, peers) => {
    let rate = 0;
    return inTurn<void>(bench, peers, {
      async warmUp({ port }) {
        const { perSecond } = await h2load(port, load, { seconds: warmUpSeconds });
        rate ||= perSecond / 2;
      },
      async round({ port }, _plan, { folder, seconds }) {
        const log = path.join(folder, 'latency.log');
        await writeFile(log, '');
        const pace = `--rps=${Math.round(rate / load.clients)}`;
        const { perSecond } = await h2load(port, load, { requests: Math.ceil(rate * seconds) }, [pace, `--log-file=${log}`]);
        // Third column: microseconds from the request to the end of its response.
        const lines = (await readFile(log, 'latin1')).trimEnd().split('\n');
        const times = lines.map((line) => Number(line.split('\t')[2])).toSorted((a, b) => a - b);
        return { p50: quantile(times, 0.5), p99: quantile(times, 0.99), rate: perSecond };
      },
    });
  };
}
