import type { KeyObject, X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import http, { type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type CertIdHash, certIdFor, sameCertId } from '../ocsp/cert-id.ts';
import { OcspRefusal } from '../ocsp/refusal.ts';
import { type OcspRequest, parseRequest } from '../ocsp/request.ts';
import { type EntryToSign, errorResponse, signResponse } from './ocsp-signer.ts';

export interface OcspResponderOptions {
  /** Answers for the certificates it has issued, with its own key. */
  authority: { certificate: X509Certificate; key: KeyObject };
  /** Default: any free port. */
  port?: number;
  host?: string;
  /** From thisUpdate to nextUpdate, in milliseconds. Default one day. */
  lifetime?: number;
  /** Milliseconds since the epoch. */
  now?: () => number;
}

export interface OcspResponder {
  /** For the certificates' authorityInfoAccess. */
  url: string;
  port: number;
  /** From now on the certificate with this serial number (hexadecimal, as X509Certificate gives it) is revoked. */
  revoke(serialNumber: string): void;
  close(): Promise<void>;
}

const largestRequest = 65_536;

/**
 * A real OCSP responder over HTTP (RFC 6960 appendix A), for the demo and for tests: it signs an answer to every
 * request. It says good for every serial number that was not revoked; not for production use.
 *
 * @throws the system's error when the port is taken
 */
export async function startOcspResponder(options: OcspResponderOptions): Promise<OcspResponder> {
  const { host = '127.0.0.1', port = 0 } = options;
  const revoked = new Map<bigint, Date>();
  const server = http.createServer({ requestTimeout: 10_000 }, (request, response) => {
    void answer(request, response, (der) => respond(der, options, revoked)).catch(() => response.destroy());
  });
  server.listen(port, host);
  await once(server, 'listening');
  const { port: bound } = server.address() as AddressInfo;
  return {
    url: `http://${host.includes(':') ? `[${host}]` : host}:${bound}/`,
    port: bound,
    revoke: (serialNumber) => void revoked.set(BigInt(`0x${serialNumber}`), new Date((options.now ?? Date.now)())),
    close: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

interface Response {
  der: Buffer;
  /** Milliseconds; undefined for what caches must not keep. */
  maxAge?: number;
}

async function answer(request: IncomingMessage, response: ServerResponse, responseTo: (der: Buffer) => Response): Promise<void> {
  const question = await readQuestion(request);
  if (typeof question === 'number') {
    response.writeHead(question, { connection: 'close' }).end();
    return;
  }
  const { der, maxAge } = responseTo(question);
  response.writeHead(200, {
    'content-type': 'application/ocsp-response',
    'content-length': der.length,
    // RFC 9919, before it RFC 5019 6.2: what GET answers is for caches too.
    ...(maxAge === undefined || request.method === 'POST'
      ? { 'cache-control': 'no-store' }
      : {
          'cache-control': `max-age=${Math.floor(maxAge / 1000)}, public, no-transform, must-revalidate`,
          expires: new Date(Date.now() + maxAge).toUTCString(),
        }),
  });
  response.end(der);
}

/** The DER of an OCSPRequest, or the HTTP status that refuses what came instead. */
async function readQuestion(request: IncomingMessage): Promise<Buffer | number> {
  if (request.method === 'GET') {
    const path = request.url?.slice(1) ?? '';
    // Some clients do not encode the slashes of base64.
    return /^(?:[\w+/=-]|%[0-9a-f]{2})+$/i.test(path) ? Buffer.from(percentDecoded(path), 'base64') : 400;
  }
  if (request.method !== 'POST') return 405;
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > largestRequest) return 413;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

function percentDecoded(text: string): string {
  return text.replace(/%([0-9a-f]{2})/gi, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
}

function respond(der: Buffer, { authority, lifetime = 86_400_000, now = Date.now }: OcspResponderOptions, revoked: Map<bigint, Date>): Response {
  let request: OcspRequest;
  try {
    request = parseRequest(der);
  } catch (error) {
    if (error instanceof OcspRefusal) return { der: errorResponse('malformedRequest') };
    throw error;
  }
  const thisUpdate = new Date(now());
  const entries: EntryToSign[] = [];
  for (const { hashAlgorithm, ...asked } of request.certIds) {
    const own = isKnownHash(hashAlgorithm) ? certIdFor({ leaf: authority.certificate, issuer: authority.certificate }, hashAlgorithm) : undefined;
    const certId = own && { ...own, serialNumber: asked.serialNumber };
    // RFC 6960 2.3: unauthorized is the answer about other CAs' certificates.
    if (certId === undefined || !sameCertId(certId, { hashAlgorithm, ...asked })) return { der: errorResponse('unauthorized') };
    const revokedAt = revoked.get(BigInt(`0x${asked.serialNumber.toString('hex')}`));
    entries.push({ certId, certStatus: revokedAt ? { revokedAt } : 'good', thisUpdate, nextUpdate: new Date(now() + lifetime) });
  }
  const { nonce } = request;
  return { der: signResponse({ signer: authority, entries, producedAt: thisUpdate, nonce }), ...(nonce === undefined && { maxAge: lifetime / 2 }) };
}

function isKnownHash(name: string): name is CertIdHash {
  return name === 'sha1' || name === 'sha256';
}
