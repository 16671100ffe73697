import { askSupervisor, NotRunning } from '../../admin/control.ts';
import { type CertificateStatus, distinctCertificates, isStapleHealthy, span, type Status } from '../../admin/status.ts';
import { loadConfig } from '../../config/load.ts';
import type { Config } from '../../config/schema.ts';
import type { Outcome } from './outcome.ts';
import { StoppedStapler } from './stopped-stapler.ts';

interface Staples {
  certificates: CertificateStatus[];
  /** Why this is not the live state; undefined when it is. */
  notRunning?: string;
  /** With the folder of the responses. */
  troubles: string[];
}

/**
 * How the staples are: live, or else as Staplegate left them on disk. Good when none needs an administrator.
 *
 * @throws ConfigError, ControlError
 */
export async function status(file: string, now = Date.now()): Promise<Outcome> {
  const { certificates, notRunning, troubles } = await read(await loadConfig(file));
  const ok = troubles.length === 0 && certificates.every((certificate) => isFine(certificate, notRunning === undefined, now));
  const note = notRunning === undefined ? [] : [`not running: this is what is kept on disk (${notRunning})`];
  const running = { running: notRunning === undefined, ...(notRunning !== undefined && { reason: notRunning }) };
  return { ok, lines: [...note, ...table(certificates, now), ...troubles], json: { ...running, certificates, troubles } };
}

async function read(config: Config): Promise<Staples> {
  try {
    const { virtualHosts } = (await askSupervisor(config.stateDir, 'GET', '/status')) as Status;
    return { certificates: distinctCertificates(virtualHosts), troubles: [] };
  } catch (error) {
    if (!(error instanceof NotRunning)) throw error;
    const kept = new StoppedStapler(config);
    await kept.readCertificates();
    await kept.readResponses();
    const certificates = kept.certificates();
    await kept.stapler.close();
    return { certificates, notRunning: error.message, troubles: kept.troubles };
  }
}

/** What a running supervisor still waits for may come; without one, what is not there is missing. */
function isFine({ staple }: CertificateStatus, running: boolean, now: number): boolean {
  return staple !== undefined && isStapleHealthy(staple, now) && (running || staple.state !== 'pending');
}

const heads = ['NAME', 'KEY', 'STATE', 'AGE', 'VALID FOR', 'REFRESH IN', 'RESPONDER'];

function table(certificates: readonly CertificateStatus[], now: number): string[] {
  if (certificates.length === 0) return ['no virtual host has a usable certificate; staplegate check says why'];
  const rows = certificates.map(({ staple, keyType, file }) => {
    const { names: [name = file] = [], state = 'no staple', thisUpdate, validUntil, nextRefresh, responder = '-', lastError } = staple ?? {};
    const since = thisUpdate === undefined ? '-' : span(now - thisUpdate);
    const left = (time: number | undefined): string => (time === undefined ? '-' : span(Math.max(0, time - now)));
    const error = lastError && `  last error ${span(now - lastError.at)} ago: ${lastError.code}: ${lastError.message}`;
    return { cells: [name, keyType, state, since, left(validUntil), left(nextRefresh), responder], error };
  });
  const widths = heads.map((head, i) => Math.max(head.length, ...rows.map(({ cells }) => cells[i]!.length)));
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, i) => cell.padEnd(widths[i]!))
      .join('  ')
      .trimEnd();
  return [line(heads), ...rows.flatMap(({ cells, error }) => (error === undefined ? [line(cells)] : [line(cells), error]))];
}
