import { once } from 'node:events';
import * as tls from 'node:tls';
import { parseResponse } from '../../src/ocsp/response.ts';
import { type Answer, RawClient } from './front.ts';

export interface LoadTarget {
  port: number;
  /** Host name for server_name and Host. */
  name: string;
  /** PEM of the root. */
  ca: string;
}

/** What one handshake showed: serial numbers in upper-case hexadecimal, as X509Certificate writes them. */
export interface Handshake {
  serial: string;
  /** Of the certificate that the staple is about, with the status that it tells. */
  staple: { serial: string; status: string } | undefined;
}

/** An HTTPS client on one connection that always asks for a staple, and says which certificate it met. */
export class HttpsClient {
  readonly handshake: Handshake;
  readonly raw: RawClient;
  readonly #name: string;

  private constructor(raw: RawClient, handshake: Handshake, name: string) {
    this.raw = raw;
    this.handshake = handshake;
    this.#name = name;
  }

  /** @throws the reason why there was no trusted handshake */
  static async connect({ port, name, ca }: LoadTarget, options: tls.ConnectionOptions = {}): Promise<HttpsClient> {
    const socket = tls.connect({ port, host: '127.0.0.1', servername: name, ca, requestOCSP: true, ALPNProtocols: ['http/1.1'], ...options });
    let der: Buffer | null = null;
    socket.on('OCSPResponse', (response: Buffer | null) => (der = response));
    await once(socket, 'secureConnect');
    const { serialNumber } = socket.getPeerCertificate();
    return new HttpsClient(new RawClient(socket), { serial: serialNumber, staple: der === null ? undefined : readStaple(der) }, name);
  }

  send(path: string): void {
    this.raw.send(`GET ${path} HTTP/1.1\r\nHost: ${this.#name}\r\n\r\n`);
  }

  /** @throws when the connection ends before the answer is complete */
  get(path = '/'): Promise<Answer> {
    this.send(path);
    return this.raw.answer();
  }

  /** @throws when the connection ends before the answer is complete */
  post(path: string, body: string): Promise<Answer> {
    this.raw.send(`POST ${path} HTTP/1.1\r\nHost: ${this.#name}\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
    return this.raw.answer();
  }

  close(): void {
    this.raw.socket.destroy();
  }
}

function readStaple(der: Buffer): Handshake['staple'] {
  const [single] = parseResponse(der).basicResponse?.responses ?? [];
  if (single === undefined) throw new Error('a staple without an answer');
  return { serial: single.certId.serialNumber.toString('hex').toUpperCase().replace(/^0+/, ''), status: single.certStatus };
}

/** Handshake and one request on a connection of its own. */
export async function getOnce(target: LoadTarget, path = '/', options: tls.ConnectionOptions = {}): Promise<{ handshake: Handshake; answer: Answer }> {
  const client = await HttpsClient.connect(target, options);
  try {
    return { handshake: client.handshake, answer: await client.get(path) };
  } finally {
    client.close();
  }
}

export interface Failure {
  /** When the connection was begun, on the clock of `performance`. */
  begun: number;
  what: string;
}

const atOnce = 4;
/** A load that only fails has nothing more to tell. */
const mostFailures = 200;
/** Requests on one connection before the next: new and kept connections are mixed. */
const requestsPerConnection = [1, 5, 1, 20];

/** Clients that ask without a pause, each request after the answer to the one before, until they are stopped. */
export class Load implements AsyncDisposable {
  readonly handshakes: Handshake[] = [];
  readonly failures: Failure[] = [];
  requests = 0;
  readonly #target: LoadTarget;
  readonly #ask: (client: HttpsClient, n: number) => Promise<Answer>;
  readonly #running: Promise<void[]>;
  readonly #waiting = new Set<() => void>();
  #stopped = false;

  /** `ask` sends the nth request of a connection. */
  constructor(target: LoadTarget, ask = (client: HttpsClient, _n: number): Promise<Answer> => client.get()) {
    this.#target = target;
    this.#ask = ask;
    this.#running = Promise.all(Array.from({ length: atOnce }, (_, i) => this.#client(requestsPerConnection[i % requestsPerConnection.length]!)));
  }

  async #client(perConnection: number): Promise<void> {
    while (!this.#stopped && this.failures.length < mostFailures) {
      const begun = performance.now();
      let step = 'handshake';
      try {
        const client = await HttpsClient.connect(this.#target);
        this.handshakes.push(client.handshake);
        for (let n = 0; n < perConnection && !this.#stopped; n += 1) {
          step = `request ${n + 1} of a connection`;
          const { status, head } = await this.#ask(client, n);
          if (status !== 200) throw new Error(`status ${status}`);
          this.requests += 1;
          if (/^connection: close$/im.test(head)) break;
        }
        client.close();
      } catch (error) {
        this.failures.push({ begun, what: `${step}: ${(error as Error).message}` });
      }
      for (const wake of this.#waiting) wake();
    }
  }

  /** Resolves when the condition holds; it is looked at whenever a connection ends. */
  async until(condition: (load: this) => boolean): Promise<void> {
    while (!condition(this)) {
      if (this.failures.length >= mostFailures) throw new Error(`nothing but failures: ${this.failures.at(-1)?.what}`);
      await new Promise<void>((resolve) => {
        this.#waiting.add(resolve);
      });
      this.#waiting.clear();
    }
  }

  /** Ends after the requests under way. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#running;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }
}
