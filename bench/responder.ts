import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import * as http from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { signResponse } from '../src/demo/ocsp-signer.ts';
import { certIdFor } from '../src/ocsp/cert-id.ts';
import { encodeRequest, getPath } from '../src/ocsp/request.ts';
import type { Material } from './material.ts';

/** What a responder answers with, signed beforehand, by the path of the GET. */
export async function signedAnswers({ authority, names, certificatesDir }: Material): Promise<Map<string, Buffer>> {
  const producedAt = new Date(Date.now() - 60_000);
  const answers = new Map<string, Buffer>();
  for (const name of names) {
    const leaf = new X509Certificate(await readFile(path.join(certificatesDir, `${name}.pem`)));
    const subject = { leaf, issuer: authority.certificate };
    const der = signResponse({ signer: authority, producedAt, entries: [{ certId: subject, thisUpdate: producedAt }] });
    answers.set(`/${getPath(encodeRequest(certIdFor(subject)))}`, der);
  }
  return answers;
}

/** A responder whose answers are signed beforehand. */
export class SignedResponder {
  #answers = new Map<string, Buffer>();
  readonly #server = http.createServer((req, res) => this.#answer(req, res));
  /** Requests are taken and never answered. */
  hangs = false;

  async listen(): Promise<string> {
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/`;
  }

  async sign(material: Material): Promise<void> {
    this.#answers = await signedAnswers(material);
  }

  #answer(req: http.IncomingMessage, res: http.ServerResponse): void {
    if (this.hangs) return;
    res.setHeader('Content-Type', 'application/ocsp-response');
    res.end(this.#answers.get(req.url ?? ''));
  }

  close(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }
}
