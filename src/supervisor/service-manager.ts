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
