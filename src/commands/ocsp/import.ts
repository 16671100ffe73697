import { stat } from 'node:fs/promises';
import { askSupervisor, NotRunning } from '../../admin/control.ts';
import { importedFrom } from '../../admin/staples.ts';
import { loadConfig } from '../../config/load.ts';
import type { Config } from '../../config/schema.ts';
import type { StapleStatus } from '../../ocsp/staple-status.ts';
import { readOcspMessage } from './input.ts';
import { CommandError, isoTime, type Outcome } from './outcome.ts';
import { StoppedStapler } from './stopped-stapler.ts';

/**
 * Puts in a response that was got by hand, for hosts with no way out: into the running Staplegate, which serves it at once, or else
 * where the next start finds it. Good when it says good about a certificate of the configuration.
 *
 * @throws ConfigError; CertificateError `file_*`; OcspRefusal or ControlError with the code of the refusal; FolderInUse; CommandError `cache_not_writable`
 */
export async function importFile(file: string, configFile: string): Promise<Outcome> {
  const config = await loadConfig(configFile);
  const der = await readOcspMessage(file);
  const { imported, running } = await put(der, config);
  const where = running ? 'served from now on' : `kept in ${config.stateDir} for the next start`;
  const lines = imported.map(({ names: [name], state, validUntil }) => {
    if (state === 'revoked') return `REVOKED: ${name}: replace the certificate; the response is remembered`;
    return `good: ${name} until ${validUntil === undefined ? 'unknown' : isoTime(validUntil)}, ${where}`;
  });
  return { ok: imported.every(({ state }) => state === 'good'), lines, json: { running, imported } };
}

async function put(der: Buffer, config: Config): Promise<{ imported: StapleStatus[]; running: boolean }> {
  try {
    return { imported: (await askSupervisor(config.stateDir, 'POST', '/ocsp/import', der)) as StapleStatus[], running: true };
  } catch (error) {
    if (!(error instanceof NotRunning)) throw error;
    return { imported: await keep(der, config), running: false };
  }
}

async function keep(der: Buffer, config: Config): Promise<StapleStatus[]> {
  const stopped = new StoppedStapler(config);
  await stopped.readCertificates();
  await becomeOwner(config.stateDir);
  await stopped.stapler.open();
  try {
    await stopped.readResponses();
    const imported = stopped.stapler.offer(der, importedFrom);
    await stopped.stapler.idle();
    const [trouble] = stopped.troubles;
    if (stopped.stapler.counters.cacheWriteFailures > 0) throw new CommandError('cache_not_writable', trouble ?? `${config.stateDir} cannot be written`);
    return imported;
  } finally {
    await stopped.stapler.close();
  }
}

/** Files that root writes with mode 0600 would be closed to the service's own user. */
async function becomeOwner(folder: string): Promise<void> {
  if (process.geteuid?.() !== 0) return;
  const owner = await stat(folder).catch(() => undefined);
  if (owner === undefined) return;
  process.setegid?.(owner.gid);
  process.seteuid?.(owner.uid);
}
