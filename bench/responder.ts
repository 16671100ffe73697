import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import * as http from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { signResponse } from '../src/demo/ocsp-signer.ts';
import { certIdFor } from '../src/ocsp/cert-id.ts';
import { parseRequest } from '../src/ocsp/request.ts';
import type { Material } from './material.ts';

/** A responder whose answers are signed beforehand, so that it costs next to nothing while something else is measured. */
export class SignedResponder {
  readonly #answers = new Map<string, Buffer>();
  readonly #server = http.createServer((req, res) => this.#answer(req, res));
  #open = 0;
  /** Connections that were open at the same time, at the most. */
  most = 0;
  asked = 0;
  /** Requests are taken and never answered. */
  hangs = false;

  async listen(): Promise<string> {
    this.#server.on('connection', (socket) => {
      this.#open += 1;
      this.most = Math.max(this.most, this.#open);
      socket.once('close', () => (this.#open -= 1));
    });
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/`;
  }

  async sign({ authority, names, certificatesDir }: Material): Promise<void> {
    const producedAt = new Date(Date.now() - 60_000);
    for (const name of names) {
      const leaf = new X509Certificate(await readFile(path.join(certificatesDir, `${name}.pem`)));
      const subject = { leaf, issuer: authority.certificate };
      const der = signResponse({ signer: authority, producedAt, entries: [{ certId: subject, thisUpdate: producedAt }] });
      this.#answers.set(certIdFor(subject).serialNumber.toString('hex'), der);
    }
  }

  #answer(req: http.IncomingMessage, res: http.ServerResponse): void {
    this.asked += 1;
    if (this.hangs) return;
    const request = Buffer.from(decodeURIComponent((req.url ?? '').slice(1)), 'base64');
    res.setHeader('Content-Type', 'application/ocsp-response');
    res.end(this.#answers.get(parseRequest(request).certIds[0]?.serialNumber.toString('hex') ?? ''));
  }

  close(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }
}
