import { askSupervisorForEach } from '../../admin/control.ts';
import type { Refreshed } from '../../admin/staples.ts';
import type { CertificateStatus } from '../../admin/status.ts';
import { loadConfig } from '../../config/load.ts';
import type { StapleState } from '../../ocsp/staple-status.ts';
import { isoTime, type Outcome } from './outcome.ts';
import { Progress } from './progress.ts';

/** Fewer are over before a progress line could be read. */
const worthProgress = 4;

/**
 * Has the running Staplegate ask for newer responses now, and waits for what comes. Good when at least one was asked for and none failed.
 *
 * @param name a virtual host, a name in a certificate, a fingerprint, or `all`
 * @throws ConfigError; NotRunning; ControlError when there is nothing of that name
 */
export async function refresh(file: string, name: string): Promise<Outcome> {
  const { stateDir } = await loadConfig(file);
  const progress = new Progress();
  const refreshed: CertificateStatus[] = [];
  for await (const item of askSupervisorForEach(stateDir, 'POST', `/ocsp/refresh?name=${encodeURIComponent(name)}`)) {
    const { certificate, done, total } = item as Refreshed;
    refreshed.push(certificate);
    if (total >= worthProgress) progress.show(`${done} of ${total}`);
  }
  progress.end();
  const certificates = refreshed.map((certificate) => ({ ...certificate, result: results[certificate.staple?.state ?? 'off'] }));
  const ok = certificates.every(({ result }) => result !== 'failed' && result !== 'revoked') && certificates.some(({ result }) => result === 'good');
  return { ok, lines: certificates.map(line), json: { certificates } };
}

type Result = 'good' | 'revoked' | 'failed' | 'not asked';

const results: Record<StapleState, Result> = {
  good: 'good',
  revoked: 'revoked',
  failing: 'failed',
  pending: 'failed',
  expired: 'not asked',
  no_responder: 'not asked',
  off: 'not asked',
};

function line({ staple, keyType, file, result }: CertificateStatus & { result: Result }): string {
  const who = `${staple?.names[0] ?? file} (${keyType})`;
  if (result === 'good' && staple?.validUntil !== undefined) return `${who}: good until ${isoTime(staple.validUntil)}, from ${staple.responder}`;
  if (result === 'failed') return `${who}: failed: ${staple?.lastError === undefined ? 'no answer' : `${staple.lastError.code}: ${staple.lastError.message}`}`;
  return result === 'revoked' ? `${who}: REVOKED: replace the certificate` : `${who}: not asked: ${staple?.state ?? 'no staple'}`;
}
