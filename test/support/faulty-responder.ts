import { once } from 'node:events';
import http, { type IncomingMessage, type ServerResponse } from 'node:http';
import net, { type AddressInfo } from 'node:net';
import { buffer } from 'node:stream/consumers';
import type { Authority } from '../../src/demo/authority.ts';
import { type EntryToSign, errorResponse, type ResponseToSign, signResponse } from '../../src/demo/ocsp-signer.ts';
import { parseRequest } from '../../src/ocsp/request.ts';

const hour = 3_600_000;

export interface ReceivedRequest {
  method: string;
  url: string;
  headers: http.IncomingHttpHeaders;
  /** DER of the OCSPRequest. */
  der: Buffer;
}

type Behaviour = (responder: FaultyResponder, request: ReceivedRequest, response: ServerResponse) => void;

const status =
  (code: number, headers: http.OutgoingHttpHeaders = {}): Behaviour =>
  (_, __, response) =>
    void response.writeHead(code, headers).end('<html>no</html>');

const body =
  (der: (responder: FaultyResponder, request: ReceivedRequest) => Buffer, type = 'application/ocsp-response'): Behaviour =>
  (responder, request, response) =>
    void response.writeHead(200, { 'content-type': type, ...responder.headers }).end(der(responder, request));

const good = body((responder, request) => responder.sign(request));

/** The same path elsewhere: without the leading slash it stays on this responder. */
const redirect =
  (location: (request: ReceivedRequest) => string): Behaviour =>
  (_, request, response) =>
    void response.writeHead(307, { location: location(request) }).end();

/** What is written before the silence: a head that promises more than comes. */
const startOf = (responder: FaultyResponder, request: ReceivedRequest, response: ServerResponse): Buffer => {
  const der = responder.sign(request);
  response.writeHead(200, { 'content-type': 'application/ocsp-response', 'content-length': der.length });
  return der;
};

const behaviours = {
  good,
  hangs_before_head: () => {},
  hangs_mid_body: (responder, request, response) => void response.write(startOf(responder, request, response).subarray(0, 100)),
  /** One byte now and then, for ever. */
  drips: (_, __, response) => {
    response.writeHead(200, { 'content-type': 'application/ocsp-response' });
    const timer = setInterval(() => response.write('0'), 2);
    response.on('close', () => clearInterval(timer));
  },
  breaks_off: (responder, request, response) => {
    response.write(startOf(responder, request, response).subarray(0, 100), () => response.destroy());
  },
  http_500: status(500),
  http_404: status(404),
  http_429: status(429, { 'retry-after': '120' }),
  refuses_get: (responder, request, response) => (request.method === 'GET' ? status(405) : good)(responder, request, response),
  garbles_get: (responder, request, response) => (request.method === 'GET' ? behaviours.garbage : good)(responder, request, response),
  redirects_once: (responder, request, response) =>
    (request.url.startsWith('/moved') ? good : redirect(({ url }) => `/moved${url}`))(responder, request, response),
  redirects_forever: redirect(({ url }) => `/again${url}`),
  redirects_with_credentials: (responder, request, response) => {
    const elsewhere = `http://user:secret@${request.headers.host}/elsewhere`;
    (request.url.startsWith('/elsewhere') ? status(500) : redirect(() => elsewhere))(responder, request, response);
  },
  redirects_to_file: redirect(() => 'file:///etc/passwd'),
  redirects_to_metadata: redirect(() => 'http://169.254.169.254/latest/meta-data/'),
  wrong_type: body((responder, request) => responder.sign(request), 'text/html'),
  /** 8 MB; not without an end, so that a limit that does not hold fails a test and not the machine. */
  huge: body(() => Buffer.alloc(8 * 1024 ** 2)),
  empty: body(() => Buffer.alloc(0)),
  portal: body(() => Buffer.from('<html>Grüß Gott!\n<a href="x">Welcome</a></html>\n'), 'text/html; charset=utf-8'),
  garbage: body(() => Buffer.from('<html>Welcome to the hotel network</html>')),
  try_later: body(() => errorResponse('tryLater')),
  unauthorized: body(() => errorResponse('unauthorized')),
  wrong_certificate: body((responder, request) =>
    responder.sign(request, { certId: { ...parseRequest(request.der).certIds[0]!, serialNumber: Buffer.of(9) } as EntryToSign['certId'] }),
  ),
  sha256_only: body((responder, request) =>
    parseRequest(request.der).certIds[0]?.hashAlgorithm === 'sha256' ? responder.sign(request) : errorResponse('unauthorized'),
  ),
  sha1_only: body((responder, request) =>
    parseRequest(request.der).certIds[0]?.hashAlgorithm === 'sha1' ? responder.sign(request) : errorResponse('unauthorized'),
  ),
  echoes_nonce: body((responder, request) => responder.sign(request, {}, { nonce: parseRequest(request.der).nonce })),
  wrong_nonce: body((responder, request) => responder.sign(request, {}, { nonce: Buffer.alloc(32, 7) })),
  signs_with_sha1: body((responder, request) => responder.sign(request, {}, { digest: 'sha1' })),
  no_next_update: body((responder, request) => responder.sign(request, { nextUpdate: null })),
  expired: body((responder, request) => responder.sign(request, { thisUpdate: responder.at(-48 * hour), nextUpdate: responder.at(-hour) })),
  revoked: body((responder, request) => responder.sign(request, { certStatus: { revokedAt: responder.at(-hour), reason: 'keyCompromise' } })),
  unknown: body((responder, request) => responder.sign(request, { certStatus: 'unknown' })),
} satisfies Record<string, Behaviour>;

export type Fault = keyof typeof behaviours;

/** An OCSP responder that misbehaves as told, over real HTTP on loopback. */
export class FaultyResponder {
  fault: Fault;
  /** HTTP fields of a good answer. */
  headers: http.OutgoingHttpHeaders = {};
  /** Life of a good answer, in milliseconds. */
  lifetime = 24 * hour;
  /** thisUpdate of a good answer, when it is not the time of signing. */
  thisUpdate: Date | undefined;
  readonly requests: ReceivedRequest[] = [];
  readonly #authority: Authority;
  readonly #now: () => number;
  readonly #server: http.Server;

  private constructor(authority: Authority, fault: Fault, now: () => number) {
    this.fault = fault;
    this.#authority = authority;
    this.#now = now;
    this.#server = http.createServer((request, response) => void this.#answer(request, response));
  }

  static async start(authority: Authority, fault: Fault = 'good', now: () => number = Date.now): Promise<FaultyResponder> {
    const responder = new FaultyResponder(authority, fault, now);
    responder.#server.listen(0, '127.0.0.1');
    await once(responder.#server, 'listening');
    return responder;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  get methods(): string[] {
    return this.requests.map(({ method }) => method);
  }

  /** Resolves when that many requests have come in. */
  async asked(count: number): Promise<void> {
    while (this.requests.length < count) await once(this.#server, 'question');
  }

  /** Resolves when the client closes a connection. */
  async hungUp(): Promise<void> {
    await once(this.#server, 'hangup');
  }

  at(offset: number): Date {
    return new Date(this.#now() + offset);
  }

  sign({ der }: ReceivedRequest, entry: Partial<EntryToSign> = {}, changes: Partial<ResponseToSign> = {}): Buffer {
    const thisUpdate = this.thisUpdate ?? this.at(0);
    const { certIds } = parseRequest(der);
    return signResponse({
      signer: this.#authority,
      producedAt: this.at(0),
      ...changes,
      entries: certIds.map((certId) => ({
        certId: certId as EntryToSign['certId'],
        thisUpdate,
        nextUpdate: new Date(thisUpdate.getTime() + this.lifetime),
        ...entry,
      })),
    });
  }

  async #answer(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method = '', url = '', headers } = incoming;
    const sent = await buffer(incoming);
    const der = method === 'GET' ? Buffer.from(decodeURIComponent(url.slice(url.lastIndexOf('/') + 1)), 'base64') : sent;
    const request = { method, url, headers, der };
    this.requests.push(request);
    response.on('close', () => this.#server.emit('hangup'));
    behaviours[this.fault](this, request, response);
    this.#server.emit('question');
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, 'close');
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** An address on loopback where nobody listens. */
export async function unreachableUrl(): Promise<string> {
  const server = net.createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return `http://127.0.0.1:${port}`;
}
