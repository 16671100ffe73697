import type { Credentials, KeyType } from './credentials.ts';
import { type PeerOptions, startPeer } from './peers.ts';
import { cpuMicroseconds } from './process-tree.ts';
import type { ServerProcess } from './server-process.ts';

/** What all measurements of one run share. */
export interface Bench {
  /** For everybody's files. */
  folder: string;
  credentials: Record<KeyType, Credentials>;
  /** Ports of the backends: nginx with files and fixed answers, and Node that reads uploads and echoes WebSockets. */
  backends: { files: number; application: number };
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

export async function inTurn<Plan>(bench: Bench, names: readonly string[], work: Work<Plan>): Promise<Outcome> {
  const outcome: Outcome = { peers: {}, absent: {} };
  await using servers = new AsyncDisposableStack();
  const ready: { name: string; server: ServerProcess; plan: Plan }[] = [];
  for (const name of names) {
    try {
      const server = servers.use(await startWith(bench, name, work));
      ready.push({ name, server, plan: await work.warmUp(server, bench) });
      outcome.peers[name] = [];
    } catch (error) {
      absent(bench, outcome, name, error);
    }
  }
  for (let round = 0; round < bench.rounds; round += 1) {
    for (const { name, server, plan } of ready) {
      if (outcome.absent[name] !== undefined) continue;
      try {
        const figures = await work.round(server, plan, bench);
        outcome.peers[name]!.push(figures);
        bench.say(`  ${name}: ${shown(figures)}`);
      } catch (error) {
        delete outcome.peers[name];
        absent(bench, outcome, name, error);
      }
    }
  }
  return outcome;
}

/** Work for which every round starts each peer anew; `round` gets the newly started server. */
export async function startedAnew(
  bench: Bench,
  names: readonly string[],
  start: (name: string) => Promise<ServerProcess>,
  round: Work<void>['round'],
): Promise<Outcome> {
  const outcome: Outcome = { peers: {}, absent: {} };
  for (let n = 0; n < bench.rounds; n += 1) {
    for (const name of names.filter((peer) => outcome.absent[peer] === undefined)) {
      try {
        await using server = await start(name);
        const figures = await round(server, undefined, bench);
        (outcome.peers[name] ??= []).push(figures);
        bench.say(`  ${name}: ${shown(figures)}`);
      } catch (error) {
        delete outcome.peers[name];
        absent(bench, outcome, name, error);
      }
    }
  }
  return outcome;
}

export function startWith(bench: Bench, name: string, work: Pick<Work<never>, 'backend' | 'keyType' | 'staple' | 'workers'>): Promise<ServerProcess> {
  return startPeer(name, {
    folder: bench.folder,
    backend: bench.backends[work.backend ?? 'files'],
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

function absent(bench: Bench, outcome: Outcome, name: string, error: unknown): void {
  const { message } = error as Error;
  outcome.absent[name] = message.split('\n')[0]!;
  bench.say(`  ${name}: ${message}`);
}

function shown(figures: Figures): string {
  return Object.entries(figures)
    .map(([name, figure]) => `${name} ${figure.toPrecision(4)}`)
    .join(', ');
}
