import { generateKeyPairSync } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { Authority } from '../src/demo/authority.ts';

export interface Material {
  authority: Authority;
  root: Authority;
  names: string[];
  /** Holds NAME.pem and NAME.key for every name. */
  certificatesDir: string;
}

/**
 * Certificates for `count` names, all with one key: making ten thousand keys would be the most of the work.
 * @param responders their URLs, given to the certificates in turn
 */
export async function makeMaterial(folder: string, count: number, responders: readonly string[]): Promise<Material> {
  const notAfter = new Date(Date.now() + 365 * 86_400_000);
  const root = await Authority.root('Bench root', { notAfter });
  const authority = await root.subordinate('Bench issuer', { notAfter });
  const key = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const certificatesDir = path.join(folder, 'certs');
  await mkdir(certificatesDir, { recursive: true });
  const names = Array.from({ length: count }, (_, i) => `n${i}.bench.test`);
  for (const [i, name] of names.entries()) {
    const ocsp = responders[i % responders.length];
    const leaf = await authority.issue({ names: [name], key, ...(ocsp !== undefined && { ocsp }) });
    await writeFile(path.join(certificatesDir, `${name}.pem`), leaf.chainPem);
    await writeFile(path.join(certificatesDir, `${name}.key`), leaf.keyPem, { mode: 0o600 });
  }
  await writeFile(path.join(folder, 'ca.pem'), root.pem);
  return { authority, root, names, certificatesDir };
}

/** A configuration that serves all names; JSON is YAML. */
export function configOf(names: readonly string[], certificatesDir: string, folder: string, workers: number): string {
  return JSON.stringify({
    listen: [{ address: '127.0.0.1:0' }],
    workers,
    state_dir: path.join(folder, 'state'),
    certificates_dir: certificatesDir,
    virtual_hosts: names.map((name) => ({ server_name: name, backends: ['http://127.0.0.1:1'] })),
  });
}

export function quantile(sorted: readonly number[], q: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? Number.NaN;
}

export function median(values: readonly number[]): number {
  return quantile(
    values.toSorted((a, b) => a - b),
    0.5,
  );
}
