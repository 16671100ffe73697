import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import type { Log } from '../log.ts';

const run = promisify(execFile);

/**
 * Tells systemd what we are doing (sd_notify(3)). Node has no datagram unix sockets, so systemd's own program does it;
 * the unit says `NotifyAccess=all` for that. Without NOTIFY_SOCKET nothing is done.
 */
export async function notifyServiceManager(log: Log, ...states: string[]): Promise<void> {
  if (process.env['NOTIFY_SOCKET'] === undefined) return;
  try {
    await run('systemd-notify', states, { timeout: 5_000 });
  } catch (error) {
    log.warn(`systemd-notify failed: ${error instanceof Error ? error.message : String(error)}`, { code: 'notify_failed' });
  }
}

/**
 * Sockets passed by systemd, by name (sd_listen_fds(3)): descriptors 3 and up, meant for this process only. Those of one
 * socket unit share a name. The variables are removed so that no child takes them for its own.
 */
export function activatedSockets(environment: NodeJS.ProcessEnv, pid: number): Map<string, number[]> {
  const { LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES } = environment;
  delete environment['LISTEN_PID'];
  delete environment['LISTEN_FDS'];
  delete environment['LISTEN_FDNAMES'];
  if (Number(LISTEN_PID) !== pid) return new Map();
  const names = (LISTEN_FDNAMES ?? '').split(':');
  const count = Math.min(Number(LISTEN_FDS) || 0, 1024);
  const descriptors = Array.from({ length: Math.max(count, 0) }, (_, i) => ({ name: names[i] || `${i}`, fd: 3 + i }));
  return new Map(
    Array.from(
      Map.groupBy(descriptors, ({ name }) => name),
      ([name, own]) => [name, own.map(({ fd }) => fd)],
    ),
  );
}
