import { X509Certificate } from 'node:crypto';
import * as http from 'node:http';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { signResponse } from '../src/demo/ocsp-signer.ts';
import { certIdFor } from '../src/ocsp/cert-id.ts';
import { parseRequest } from '../src/ocsp/request.ts';
import type { Material } from './material.ts';

/** A responder that signed everything beforehand, so that it costs next to nothing while something else is measured. */
export async function startSignedResponder({
  authority,
  names,
  certificatesDir,
}: Material): Promise<{ listen(port: number): Promise<number>; most: () => number; asked: () => number; close(): void }> {
  const answers = new Map<string, Buffer>();
  const producedAt = new Date(Date.now() - 60_000);
  for (const name of names) {
    const leaf = new X509Certificate(await readFile(path.join(certificatesDir, `${name}.pem`)));
    const subject = { leaf, issuer: authority.certificate };
    const der = signResponse({ signer: authority, producedAt, entries: [{ certId: subject, thisUpdate: producedAt }] });
    answers.set(certIdFor(subject).serialNumber.toString('hex'), der);
  }
  let asked = 0;
  let open = 0;
  let most = 0;
  const server = http.createServer((req, res) => {
    asked += 1;
    open += 1;
    most = Math.max(most, open);
    res.once('close', () => (open -= 1));
    const request = Buffer.from(decodeURIComponent((req.url ?? '').slice(1)), 'base64');
    const serial = parseRequest(request).certIds[0]?.serialNumber.toString('hex') ?? '';
    res.setHeader('Content-Type', 'application/ocsp-response');
    res.end(answers.get(serial));
  });
  return {
    listen: (port) => new Promise((resolve) => server.listen(port, '127.0.0.1', () => resolve((server.address() as { port: number }).port))),
    most: () => most,
    asked: () => asked,
    close: () => {
      server.close();
      server.closeAllConnections();
    },
  };
}
