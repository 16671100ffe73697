import { createPrivateKey, createPublicKey, X509Certificate } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { Authority } from './authority.ts';

/** The demo's certificates, by file: what config.yaml names, made for the names that it names. */
const leaves = [
  {
    certificate: 'certs/shop/fullchain.pem',
    key: 'certs/shop/privkey.pem',
    keyType: 'ecdsa',
    names: ['shop.example.org', 'www.shop.example.org', '*.shop.example.org', 'localhost', '127.0.0.1'],
  },
  {
    certificate: 'certs/shop/rsa.pem',
    key: 'certs/shop/rsa.key',
    keyType: 'rsa',
    names: ['shop.example.org', 'www.shop.example.org', '*.shop.example.org', 'localhost', '127.0.0.1'],
  },
  { certificate: 'certs/intranet/fullchain.pem', key: 'certs/intranet/privkey.pem', keyType: 'ecdsa', names: ['intranet.example.org'] },
] as const;

const name = 'Staplegate demo issuer';
const day = 86_400_000;

/**
 * Makes the demo's authority and certificates in a folder, or takes those of an earlier run while they are good, so that
 * the responses cached then are still worth something.
 * @returns the issuing authority; the root that clients are to trust is `ca.pem` in the folder
 */
export async function prepareMaterial(folder: string, responderUrl: string): Promise<Authority> {
  const earlier = await load(folder, responderUrl).catch(() => undefined); // nothing there, or nothing usable: it is made anew
  if (earlier) return earlier;

  const notAfter = new Date(Date.now() + 365 * day);
  const root = await Authority.root('Staplegate demo root', { notAfter });
  const authority = await root.subordinate(name, { notAfter });
  await write(folder, 'ca.pem', root.pem);
  await write(folder, 'issuer.pem', authority.pem);
  await write(folder, 'issuer.key', authority.keyPem);
  for (const { certificate, key, keyType, names } of leaves) {
    const leaf = await authority.issue({ names: [...names], keyType, ocsp: responderUrl });
    await write(folder, certificate, leaf.chainPem);
    await write(folder, key, leaf.keyPem);
  }
  return authority;
}

async function load(folder: string, responderUrl: string): Promise<Authority | undefined> {
  const read = (file: string) => readFile(path.join(folder, file), 'utf8');
  const privateKey = createPrivateKey(await read('issuer.key'));
  const authority = Authority.of(name, new X509Certificate(await read('issuer.pem')), { privateKey, publicKey: createPublicKey(privateKey) });
  for (const { certificate } of leaves) {
    const leaf = new X509Certificate(await read(certificate));
    const isGood =
      leaf.verify(authority.certificate.publicKey) && leaf.validToDate.getTime() > Date.now() + day && leaf.infoAccess === `OCSP - URI:${responderUrl}`;
    if (!isGood) return undefined;
  }
  return authority;
}

async function write(folder: string, file: string, text: string): Promise<void> {
  const target = path.join(folder, file);
  await mkdir(path.dirname(target), { recursive: true, mode: 0o700 });
  await writeFile(target, text, { mode: 0o600 });
}
