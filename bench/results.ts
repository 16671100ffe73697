import { execFileSync } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import * as os from 'node:os';
import { median } from './material.ts';
import { peerVersion } from './peers.ts';
import type { Figures } from './round-robin.ts';
import type { Goal } from './rows.ts';

/** A row as it was measured. */
export interface Measured {
  /** ISO 8601, date only. */
  date: string;
  /** The last one that changed src/. */
  commit: string;
  machine: string;
  /** Versions of the peers. */
  versions: Record<string, string>;
  /** Each round's figures. */
  peers: Record<string, Figures[]>;
  absent: Record<string, string>;
}

export type Results = Record<string, Measured>;

export async function readResults(file: string): Promise<Results> {
  try {
    return JSON.parse(await readFile(file, 'utf8')) as Results;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return {};
    throw error;
  }
}

/** Replaces the rows of `results` in the file, and leaves its others. */
export async function mergeResults(file: string, results: Results): Promise<Results> {
  const merged = { ...(await readResults(file)), ...results };
  await writeFile(file, `${JSON.stringify(merged, undefined, 1)}\n`);
  return merged;
}

/** Where and of what a row is measured now. */
export function circumstances(peers: readonly string[]): Pick<Measured, 'date' | 'commit' | 'machine' | 'versions'> {
  const git = (...args: string[]): string => execFileSync('git', args, { encoding: 'utf8', cwd: import.meta.dirname }).trim();
  const changed = git('status', '--porcelain', '--', '../src') === '' ? '' : ' and changes';
  return {
    date: new Date().toISOString().slice(0, 10),
    commit: git('log', '-1', '--format=%h', '--', '../src') + changed,
    machine: `${os.cpus().length} cores, ${os.cpus()[0]?.model.trim()}, Linux ${os.release().split('-')[0]}`,
    versions: Object.fromEntries(peers.map((name) => [name, peerVersion(name) ?? 'not installed'])),
  };
}

/** The median of all rounds. */
export function figure(row: Measured, peer: string, name: string): number | undefined {
  const all = row.peers[peer]?.flatMap((figures) => figures[name] ?? []) ?? [];
  return all.length === 0 ? undefined : median(all);
}

/** The median of the ratios of each round: what disturbs a round disturbs both of its figures. */
export function ratio(row: Measured, peer: string, to: string, name: string): number | undefined {
  const ratios = row.peers[peer]?.flatMap((figures, round) => {
    const other = row.peers[to]?.[round]?.[name];
    return figures[name] === undefined || other === undefined ? [] : [figures[name] / other];
  });
  return ratios === undefined || ratios.length === 0 ? undefined : median(ratios);
}

/** Staplegate's figure in the terms of the goal, and whether it meets it; undefined when it was not measured. */
export function judged(row: Measured, { figure: name, times, most, least }: Goal): { reached: number; met: boolean } | undefined {
  const reached = times === undefined ? figure(row, 'staplegate', name) : ratio(row, 'staplegate', times, name);
  if (reached === undefined) return undefined;
  return { reached, met: reached <= (most ?? Infinity) && reached >= (least ?? 0) };
}
