import { askSupervisor } from '../admin/control.ts';
import { isHealthy, type Status, statusText } from '../admin/status.ts';
import { loadConfig } from '../config/load.ts';

/**
 * Asks the running Staplegate how it is.
 * @returns text for standard output, and whether nothing needs an administrator
 * @throws ConfigError, NotRunning
 */
export async function status(file: string, asJson: boolean): Promise<{ text: string; ok: boolean }> {
  const { stateDir } = await loadConfig(file);
  const answer = (await askSupervisor(stateDir, 'GET', '/status')) as Status;
  const now = Date.now();
  return { text: asJson ? JSON.stringify(answer, undefined, 2) : statusText(answer, now), ok: isHealthy(answer, now) };
}
