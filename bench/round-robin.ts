import type { Credentials, KeyType } from './credentials.ts';
import { type PeerOptions, startPeer } from './peers.ts';
import { cpuMicroseconds } from './process-tree.ts';
import type { ServerProcess } from './server-process.ts';

/** What all measurements of one run share. */
export interface Bench {
  /** For everybody's files. */
  folder: string;
  credentials: Record<KeyType, Credentials>;
  /** Ports of the backends: nginx with files and fixed answers, over HTTP/1.1 and HTTP/2, and Node that reads uploads and echoes WebSockets. */
  backends: { files: number; http2: number; application: number };
  rounds: number;
  /** About the length of one measurement. */
  seconds: number;
  options: PeerOptions;
  say(text: string): void;
}

/** What one round shows of one peer, by the name of the figure. */
export type Figures = Record<string, number>;

/** What all rounds show. */
export interface Outcome {
  peers: Record<string, Figures[]>;
  /** Why a peer has no figures. */
  absent: Record<string, string>;
}

/** How a row is measured. */
export type Measure = (bench: Bench, peers: readonly string[]) => Promise<Outcome>;

/** Work that all peers do in turn, round after round, so that what disturbs the machine disturbs all of them. */
export interface Work<Plan> {
  backend?: keyof Bench['backends'];
  keyType?: KeyType;
  staple?: boolean;
  workers?: number;
  /** Heats a peer up, once, and says how much it shall do in a round. */
  warmUp(server: ServerProcess, bench: Bench): Promise<Plan>;
  round(server: ServerProcess, plan: Plan, bench: Bench): Promise<Figures>;
}

export function inTurn<Plan>(bench: Bench, names: readonly string[], work: Work<Plan>): Promise<Outcome> {
  return inRounds(bench, names, async (name, resources) => {
    const server = resources.use(await startWith(bench, name, work));
    const plan = await work.warmUp(server, bench);
    return () => work.round(server, plan, bench);
  });
}

/** Work for which every round starts each peer anew; `round` gets the newly started server. */
export function startedAnew(
  bench: Bench,
  names: readonly string[],
  start: (name: string) => Promise<ServerProcess>,
  round: (server: ServerProcess) => Promise<Figures>,
): Promise<Outcome> {
  return inRounds(bench, names, async (name) => async () => {
    await using server = await start(name);
    return await round(server); // the server is to live that long
  });
}

/**
 * Prepares every peer, then measures all of them in turn, round after round. One that fails is absent from the outcome.
 * @param prepare returns what measures one round; `resources` live until the last round is over
 */
export async function inRounds(
  bench: Bench,
  names: readonly string[],
  prepare: (name: string, resources: AsyncDisposableStack) => Promise<() => Promise<Figures>>,
): Promise<Outcome> {
  const outcome: Outcome = { peers: {}, absent: {} };
  await using resources = new AsyncDisposableStack();
  const rounds = new Map<string, () => Promise<Figures>>();
  const absent = (name: string, { message }: Error): void => {
    rounds.delete(name);
    delete outcome.peers[name];
    outcome.absent[name] = message.split('\n')[0]!;
    bench.say(`  ${name}: ${message}`);
  };
  for (const name of names) {
    try {
      rounds.set(name, await prepare(name, resources));
      outcome.peers[name] = [];
    } catch (error) {
      absent(name, error as Error);
    }
  }
  for (let n = 0; n < bench.rounds; n += 1) {
    for (const [name, round] of rounds) {
      try {
        const figures = await round();
        outcome.peers[name]!.push(figures);
        bench.say(`  ${name}: ${shown(figures)}`);
      } catch (error) {
        absent(name, error as Error);
      }
    }
  }
  return outcome;
}

export function startWith(bench: Bench, name: string, work: Pick<Work<never>, 'backend' | 'keyType' | 'staple' | 'workers'>): Promise<ServerProcess> {
  return startPeer(name, {
    folder: bench.folder,
    backend: bench.backends[work.backend ?? 'files'],
    http2: work.backend === 'http2',
    workers: work.workers ?? 1,
    credentials: bench.credentials[work.keyType ?? 'ecdsa'],
    staple: work.staple ?? false,
    options: bench.options,
  });
}

/** Does something and says what it cost the server: CPU microseconds per operation. */
export async function cpuOf(server: ServerProcess, something: () => Promise<number>): Promise<number> {
  const before = server.cpuTimes();
  const operations = await something();
  return cpuMicroseconds(before, server.cpuTimes()) / operations;
}

function shown(figures: Figures): string {
  return Object.entries(figures)
    .map(([name, figure]) => `${name} ${figure.toPrecision(4)}`)
    .join(', ');
}
