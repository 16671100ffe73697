import { setFlagsFromString } from 'node:v8';
import { loadConfig } from '../config/load.ts';
import { createLog } from '../log.ts';
import { warnBelowSecurityFloor } from '../runtime.ts';
import { activatedSockets } from '../supervisor/service-manager.ts';
import { Sockets } from '../supervisor/sockets.ts';
import { Supervisor } from '../supervisor/supervisor.ts';

/**
 * Serves until SIGTERM or SIGINT; SIGHUP reloads.
 * @param onServing called once connections are accepted
 * @throws what makes a start impossible
 */
export async function run(file: string, onServing = () => {}): Promise<void> {
  const sockets = new Sockets(activatedSockets(process.env, process.pid));
  const config = await loadConfig(file);
  const log = createLog(config.log);
  // A log that nobody takes any more (a closed pipe, a journal that was restarted) must not end the service.
  process.stderr.on('error', () => {});
  process.on('uncaughtException', (error) => {
    log.error(`ended by an internal error: ${error.message}`, { code: 'internal_error', at: error.stack?.split('\n')[1]?.trim() });
    process.exit(1);
  });
  warnBelowSecurityFloor(log);
  // With workers of their own, nothing here is in a hurry: collecting garbage more often costs a tenth of the start, and keeps
  // the memory that ten thousand virtual hosts take at two thirds. (The young generation is bounded in scripts/staplegate.)
  if (config.workers !== 0) setFlagsFromString('--heap-growing-percent=40');
  const supervisor = new Supervisor(config, sockets, log);
  // From here on a signal is an order, not the end: one that comes during the start is obeyed after it.
  process.on('SIGHUP', () => void supervisor.reload());
  const stop = new Promise<string>((resolve) => {
    process.once('SIGTERM', resolve);
    process.once('SIGINT', resolve);
  });
  await supervisor.start();
  // What the start has left behind, and every reload will, goes back to the system within seconds, instead of never.
  if (config.workers !== 0) setFlagsFromString('--memory-saver-mode');
  onServing();

  const signal = await stop;
  log.info(`${signal}: finishing open requests, at most ${config.shutdownGrace / 1000} s (shutdown_grace)`);
  await supervisor.close();
  log.info('stopped');
}
