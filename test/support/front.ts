import { once } from 'node:events';
import * as net from 'node:net';
import test, { type TestContext } from 'node:test';
import type { Config } from '../../src/config/schema.ts';
import { HttpFront, type Connection } from '../../src/engine/http-front.ts';
import type { Facts, Log } from '../../src/log.ts';

export interface Line {
  level: keyof Log;
  message: string;
  facts: Facts;
}

/** A front behind a plain TCP listener that claims what the TLS side would have found out. */
export class TestFront {
  readonly front: HttpFront;
  readonly port: number;
  readonly log: Line[];
  readonly #waiting: Set<() => void>;

  constructor(front: HttpFront, port: number, log: Line[], waiting: Set<() => void>) {
    this.front = front;
    this.port = port;
    this.log = log;
    this.#waiting = waiting;
  }

  /** Resolves when a line with this code has been logged. */
  async logged(code: string): Promise<Line> {
    for (;;) {
      const line = this.log.find(({ facts }) => facts['code'] === code);
      if (line) return line;
      await new Promise<void>((resolve) => {
        this.#waiting.add(resolve);
      });
      this.#waiting.clear();
    }
  }

  connect(): Promise<RawClient> {
    return RawClient.connect(this.port);
  }

  /** Sends bytes on a new connection and reads one answer. */
  async ask(bytes: string): Promise<Answer> {
    const client = await this.connect();
    client.send(bytes);
    const answer = await client.answer();
    client.socket.destroy();
    return answer;
  }

  /** Sends bytes on a new connection and reads until the front closes it. */
  async all(bytes: string): Promise<string> {
    const client = await this.connect();
    client.send(bytes);
    return client.toEnd();
  }
}

/** A test of what both engines must do. */
export function both(name: string, check: (t: TestContext, engine: 'native' | 'http-proxy') => Promise<void>): void {
  for (const engine of ['native', 'http-proxy'] as const) test(`${name} (${engine})`, { timeout: 10_000 }, (t) => check(t, engine));
}

/**
 * @param backendFiles text of the files that routes name, by path
 * @param alpnProtocol what the handshake would have chosen
 */
export async function startFront(
  t: TestContext,
  config: Config,
  connection: Partial<Connection> = {},
  backendFiles: ReadonlyMap<string, string> = new Map(),
  alpnProtocol = 'http/1.1',
): Promise<TestFront> {
  const lines: Line[] = [];
  const waiting = new Set<() => void>();
  const at =
    (level: keyof Log) =>
    (message: string, facts: Facts = {}): void => {
      lines.push({ level, message, facts });
      for (const wake of waiting) wake();
    };
  const log: Log = { error: at('error'), warn: at('warn'), info: at('info'), debug: at('debug') };
  const front = new HttpFront({ config, backendFiles, log });
  const server = net.createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    front.accept(Object.assign(socket, { alpnProtocol }), {
      clientAddress: '192.0.2.7',
      clientPort: socket.remotePort ?? 0,
      protocol: 'https',
      localAddress: '198.51.100.1',
      localPort: 443,
      virtualHost: 'a.test',
      ...connection,
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(async () => {
    server.close();
    await front.close(0);
  });
  return new TestFront(front, (server.address() as net.AddressInfo).port, lines, waiting);
}

export interface Answer {
  status: number;
  head: string;
  body: string;
}

/** A client that speaks bytes. */
export class RawClient {
  readonly socket: net.Socket;
  /** What has arrived and has not been taken by `answer`, one character a byte. */
  text = '';
  ended = false;
  reset = false;
  closed = false;
  #wake: () => void = () => {};

  constructor(socket: net.Socket) {
    this.socket = socket;
    socket.on('data', (bytes) => {
      this.text += bytes.toString('latin1');
      this.#wake();
    });
    socket.on('end', () => {
      this.ended = true;
      this.#wake();
    });
    socket.on('error', () => {
      this.reset = true;
    });
    socket.on('close', () => {
      this.closed = true;
      this.#wake();
    });
  }

  static async connect(port: number): Promise<RawClient> {
    const socket = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true, noDelay: true });
    const client = new RawClient(socket);
    await once(socket, 'connect');
    return client;
  }

  send(bytes: string): void {
    this.socket.write(Buffer.from(bytes, 'latin1'));
  }

  /** Resolves when the condition holds; throws when the connection ends before. */
  async until(condition: () => boolean): Promise<void> {
    while (!condition()) {
      if (this.ended || this.closed) throw new Error(`the connection ended after ${JSON.stringify(this.text.slice(-300))}`);
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  /** The next complete answer; HEAD and 304 answers by `bodyless`. */
  async answer(bodyless = false): Promise<Answer> {
    let taken: { answer: Answer; rest: string } | undefined;
    await this.until(() => (taken = readAnswer(this.text, bodyless)) !== undefined);
    if (!taken) throw new Error('no answer');
    this.text = taken.rest;
    return taken.answer;
  }

  /** Everything up to the end of the connection. */
  async toEnd(): Promise<string> {
    while (!this.ended && !this.closed) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    this.socket.end();
    return this.text;
  }
}

function readAnswer(text: string, bodyless: boolean): { answer: Answer; rest: string } | undefined {
  const end = text.indexOf('\r\n\r\n');
  if (end < 0) return undefined;
  const head = text.slice(0, end);
  const status = Number(/^HTTP\/1\.1 (\d{3})/.exec(head)?.[1]);
  const after = text.slice(end + 4);
  const done = (body: string, rest: string): { answer: Answer; rest: string } => ({ answer: { status, head, body }, rest });
  if (bodyless || status < 200 || status === 204 || status === 304) return done('', after);
  const length = /^content-length: (\d+)$/im.exec(head)?.[1];
  if (length !== undefined) return after.length >= Number(length) ? done(after.slice(0, Number(length)), after.slice(Number(length))) : undefined;
  if (!/^transfer-encoding: chunked$/im.test(head)) throw new Error(`an unframed answer: ${head}`);
  let body = '';
  let rest = after;
  for (;;) {
    const [line, digits] = /^([0-9a-f]+)\r\n/i.exec(rest) ?? [];
    if (line === undefined || digits === undefined) return undefined;
    const size = Number.parseInt(digits, 16);
    if (size === 0) {
      const last = rest.slice(line.length);
      const stop = last.startsWith('\r\n') ? 0 : last.indexOf('\r\n\r\n') + 2;
      return stop === 1 ? undefined : done(body, last.slice(stop + 2));
    }
    if (rest.length < line.length + size + 2) return undefined;
    body += rest.slice(line.length, line.length + size);
    rest = rest.slice(line.length + size + 2);
  }
}
