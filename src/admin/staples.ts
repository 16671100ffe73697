import { OcspRefusal } from '../ocsp/refusal.ts';
import type { Stapler } from '../ocsp/stapler.ts';
import { ControlError, type ControlHandlers } from './control.ts';
import { type CertificateStatus, distinctCertificates, type Status } from './status.ts';

/** What stands for the responder of a response that came through `POST /ocsp/import`. */
export const importedFrom = 'ocsp import';

/** What `POST /ocsp/refresh` yields for each certificate when its attempt has ended. */
export interface Refreshed {
  certificate: CertificateStatus;
  /** How many have ended, of how many. */
  done: number;
  total: number;
}

/** What the control socket lets an administrator do with staples. */
export function stapleHandlers(stapler: Pick<Stapler, 'refresh' | 'offer'>, status: () => Pick<Status, 'virtualHosts'>): ControlHandlers {
  return {
    'POST /ocsp/refresh': (parameters) => refreshAll(named(status(), parameters.get('name') ?? ''), stapler),
    'POST /ocsp/import': (_, body) => {
      try {
        return stapler.offer(body, importedFrom);
      } catch (error) {
        throw error instanceof OcspRefusal ? new ControlError(error.message, error.code) : error;
      }
    },
  };
}

/** The certificates that `name` means: a virtual host, a name in a certificate, a fingerprint, or `all`. */
function named({ virtualHosts }: Pick<Status, 'virtualHosts'>, name: string): CertificateStatus[] {
  const wanted = name.toLowerCase();
  if (wanted === 'all') return distinctCertificates(virtualHosts);
  const matching = virtualHosts.map(({ serverName, aliases, certificates }) => {
    if ([serverName, ...aliases].includes(wanted)) return { certificates };
    return { certificates: certificates.filter(({ fingerprint, staple }) => fingerprint === wanted || staple?.names.includes(wanted)) };
  });
  const found = distinctCertificates(matching);
  if (found.length === 0) throw new ControlError(`no certificate in service has the name ${name}; staplegate ocsp status lists them`, 'unknown_name');
  return found;
}

async function* refreshAll(certificates: readonly CertificateStatus[], stapler: Pick<Stapler, 'refresh'>): AsyncGenerator<Refreshed> {
  const ended: CertificateStatus[] = [];
  let wake = (): void => {};
  for (const certificate of certificates) {
    const end = (staple = certificate.staple): void => {
      ended.push({ ...certificate, staple });
      wake();
    };
    void stapler.refresh(certificate.fingerprint).then(end, () => end());
  }
  for (let done = 1; done <= certificates.length; done += 1) {
    while (ended.length === 0) {
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
    yield { certificate: ended.shift()!, done, total: certificates.length };
  }
}
