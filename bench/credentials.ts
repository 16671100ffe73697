import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { Authority } from '../src/demo/authority.ts';
import { signResponse } from '../src/demo/ocsp-signer.ts';

/** The name that every server here is asked for. */
export const serverName = 'bench.test';

/** Files of one certificate, in each form that a server wants. */
export interface Credentials {
  certificate: string;
  key: string;
  /** Key and chain in one file, for haproxy and hitch. */
  combined: string;
  /** DER, for the one server that staples what it is given. */
  ocspResponse: string;
}

export type KeyType = 'ecdsa' | 'rsa';

/** A certificate of P-256 or RSA-2048 from an intermediate authority, as public ones are, with a staple. */
export async function makeCredentials(folder: string, keyType: KeyType): Promise<Credentials> {
  const root = await Authority.root('Bench root', { keyType });
  const issuer = await root.subordinate('Bench issuer');
  const leaf = await issuer.issue({ names: [serverName], keyType });
  const file = (name: string) => path.join(folder, `${keyType}-${name}`);
  const files = { certificate: file('chain.pem'), key: file('key.pem'), combined: file('combined.pem'), ocspResponse: file('response.der') };
  const staple = signResponse({ signer: issuer, entries: [{ certId: { leaf: leaf.certificate, issuer: issuer.certificate } }] });
  await Promise.all([
    writeFile(files.certificate, leaf.chainPem),
    writeFile(files.key, leaf.keyPem, { mode: 0o600 }),
    writeFile(files.combined, `${leaf.keyPem}${leaf.chainPem}`, { mode: 0o600 }),
    writeFile(files.ocspResponse, staple),
  ]);
  return files;
}
