import { mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { withSettings } from '../config/edit.ts';
import { startBackend } from '../demo/backend.ts';
import { prepareMaterial } from '../demo/material.ts';
import { startOcspResponder } from '../demo/ocsp-responder.ts';
import { run } from './run.ts';

export interface DemoOptions {
  httpsPort: number;
  httpPort: number;
  responderPort: number;
  backendPort: number;
  /** Where certificates, staples and the adapted configuration are kept. */
  state: string;
}

const sample = fileURLToPath(new URL('../../config.yaml', import.meta.url));

/**
 * Runs the real program with the annotated sample configuration, its addresses turned to loopback, in front of a small
 * backend and beside a small OCSP responder of its own authority.
 * @throws Error naming the port and the option when a port is taken
 */
export async function demo(options: DemoOptions): Promise<void> {
  const { httpsPort, httpPort, responderPort, backendPort } = options;
  const folder = path.resolve(options.state);
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const authority = await prepareMaterial(folder, `http://127.0.0.1:${responderPort}/`);
  const responder = await startOcspResponder({ authority, port: responderPort }).catch(taken(responderPort, '--responder-port'));
  const backend = await startBackend(backendPort).catch(taken(backendPort, '--backend-port'));

  const backends = [`http://127.0.0.1:${backendPort}`];
  const file = path.join(folder, 'config.yaml');
  const settings = [
    { path: ['listen', 0, 'address'], value: `127.0.0.1:${httpsPort}` },
    { path: ['listen', 1, 'address'], value: `127.0.0.1:${httpPort}` },
    { path: ['state_dir'], value: 'state' },
    { path: ['virtual_hosts', 0, 'aliases'], value: ['www.shop.example.org', '*.shop.example.org', 'localhost'] },
    { path: ['virtual_hosts', 0, 'backends'], value: backends },
    { path: ['virtual_hosts', 0, 'routes', 0, 'backends'], value: backends },
    { path: ['virtual_hosts', 1, 'backends'], value: backends },
  ];
  await writeFile(file, withSettings(await readFile(sample, 'utf8'), settings), { mode: 0o600 });

  try {
    await run(file, () => console.log(instructions(options, shown(folder))));
  } finally {
    await responder.close();
    backend.close();
    backend.closeAllConnections();
  }
}

function taken(port: number, option: string) {
  return (error: NodeJS.ErrnoException): never => {
    throw error.code === 'EADDRINUSE' ? new Error(`port ${port} is taken by another program; choose another with ${option}`) : error;
  };
}

/** As short as can be typed from here. */
function shown(folder: string): string {
  const relative = path.relative('', folder);
  return relative.startsWith('..') ? folder : relative || '.';
}

function instructions({ httpsPort, httpPort, responderPort, backendPort }: DemoOptions, folder: string): string {
  return `
Staplegate is running, with ${folder}/config.yaml, which each start writes anew from the sample:

  https://localhost:${httpsPort}   TLS, ECDSA and RSA certificates, each with its OCSP staple
  http://localhost:${httpPort}    redirects to https
  behind it: a plain HTTP backend on port ${backendPort}; an OCSP responder on port ${responderPort}

See the staple and the page:

  openssl s_client -connect localhost:${httpsPort} -servername localhost -status -CAfile ${folder}/ca.pem </dev/null
  curl --cacert ${folder}/ca.pem --cert-status https://localhost:${httpsPort}/
  gnutls-cli --ocsp --x509cafile=${folder}/ca.pem --port ${httpsPort} localhost </dev/null

Ctrl-C ends it. Staples and certificates stay in ${folder}/ for the next time.
`;
}
