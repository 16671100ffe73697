import { once } from 'node:events';
import * as http from 'node:http';
import * as net from 'node:net';
import type { TestContext } from 'node:test';
import { Worker } from 'node:worker_threads';

/** A TCP backend that records what arrives, connection by connection, and answers as the script says. */
export class RawBackend {
  readonly connections: RawConnection[] = [];
  readonly #server: net.Server;
  readonly #waiting = new Set<() => void>();
  /** `http://…` for a configuration. */
  url = '';

  /** `script` is called for every connection with every piece of bytes that arrives; `connected` when it opens. */
  constructor(script: (connection: RawConnection) => void, connected: (connection: RawConnection) => void = () => {}) {
    this.#server = net.createServer({ allowHalfOpen: true }, (socket) => {
      const connection = new RawConnection(socket);
      this.connections.push(connection);
      socket.on('error', () => {});
      socket.on('data', (bytes) => {
        connection.text += bytes.toString('latin1');
        script(connection);
        this.#changed();
      });
      socket.on('close', () => this.#changed());
      socket.on('end', () => {
        connection.ended = true;
        this.#changed();
      });
      connected(connection);
      this.#changed();
    });
  }

  #changed(): void {
    for (const wake of this.#waiting) wake();
  }

  async listen(t: TestContext): Promise<this> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    this.url = `http://127.0.0.1:${(this.#server.address() as net.AddressInfo).port}`;
    t.after(() => this.close());
    return this;
  }

  close(): void {
    this.#server.close();
    for (const { socket } of this.connections) socket.destroy();
  }

  /** Resolves when the condition holds; it is looked at whenever bytes arrive or a connection opens or closes. */
  async until(condition: (connections: RawConnection[]) => boolean): Promise<void> {
    while (!condition(this.connections)) {
      await new Promise<void>((resolve) => {
        const wake = (): void => {
          this.#waiting.delete(wake);
          resolve();
        };
        this.#waiting.add(wake);
      });
    }
  }

  /** Everything that arrived on all connections. */
  get text(): string {
    return this.connections.map(({ text }) => text).join('');
  }
}

export class RawConnection {
  readonly socket: net.Socket;
  /** What has arrived, one character a byte. */
  text = '';
  ended = false;

  constructor(socket: net.Socket) {
    this.socket = socket;
  }
}

/** Answers every complete bodyless or sized request with 200 and a small body. */
export function answering(body = 'ok', fields = ''): RawBackend {
  return new RawBackend((connection) => {
    const seen = answered.get(connection) ?? 0;
    const complete = messages(connection.text).length;
    for (let n = seen; n < complete; n += 1) connection.socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n${fields}\r\n${body}`, 'latin1');
    answered.set(connection, complete);
  });
}

/** Answers each bodyless request with the bytes for its path; after those for /close the connection ends. */
export function answeringBy(answers: Record<string, string>): RawBackend {
  return new RawBackend(({ socket, text }) => {
    const path = text.split('\r\n\r\n').at(-2)?.split(' ')[1] ?? '';
    socket.write(answers[path] ?? '', 'latin1');
    if (path === '/close') socket.end();
  });
}

/** Writes without end, as long as somebody takes it. @returns what tells how many bytes were taken */
export function flood(socket: net.Socket): () => number {
  const chunk = Buffer.alloc(1 << 16);
  let taken = 0;
  const feed = (): void => {
    while (!socket.destroyed && socket.write(chunk)) taken += chunk.length;
  };
  socket.on('drain', feed);
  feed();
  return () => taken;
}

const answered = new WeakMap<RawConnection, number>();

export interface Message {
  head: string;
  startLine: string;
  lines: string[];
  body: string;
}

/** A strict reading of the complete HTTP/1.1 messages in `text`; throws on anything that is not one. */
export function messages(text: string): Message[] {
  const found: Message[] = [];
  for (let next = firstMessage(text); next; next = firstMessage(next.rest)) found.push(next.message);
  return found;
}

/** The first of them, and what is behind it. */
export function firstMessage(text: string): { message: Message; rest: string } | undefined {
  const end = text.indexOf('\r\n\r\n');
  if (end < 0) return undefined;
  const head = text.slice(0, end);
  const [startLine = '', ...lines] = head.split('\r\n');
  if (!/^(?:[!-~]+ [!-~]+ HTTP\/1\.1|HTTP\/1\.1 \d{3} .*)$/.test(startLine)) throw new Error(`not a start line: ${JSON.stringify(startLine)}`);
  const after = text.slice(end + 4);
  const length = Number(lines.find((line) => /^content-length:/i.test(line))?.split(':')[1] ?? 0);
  const chunked = lines.some((line) => /^transfer-encoding: chunked$/i.test(line));
  const read = chunked ? dechunk(after) : after.length >= length ? { body: after.slice(0, length), rest: after.slice(length) } : undefined;
  return read && { message: { head, startLine, lines, body: read.body }, rest: read.rest };
}

function dechunk(text: string): { body: string; rest: string } | undefined {
  let body = '';
  let rest = text;
  for (;;) {
    const [line, digits] = /^([0-9a-f]+)\r\n/i.exec(rest) ?? [];
    if (line === undefined || digits === undefined) return undefined;
    const size = Number.parseInt(digits, 16);
    if (rest.length < line.length + size + 2) return undefined;
    body += rest.slice(line.length, line.length + size);
    rest = rest.slice(line.length + size + 2);
    if (size === 0) return { body, rest };
  }
}

/** An ordinary node:http application. */
export async function httpBackend(t: TestContext, listener: http.RequestListener): Promise<{ url: string; server: http.Server }> {
  const server = http.createServer(listener).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${(server.address() as net.AddressInfo).port}`, server };
}

/** An address where nothing listens. */
export async function closedPort(): Promise<string> {
  const server = net.createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as net.AddressInfo;
  server.close();
  await once(server, 'close');
  return `http://127.0.0.1:${port}`;
}

/** A listener whose queue is full because nobody accepts: connecting to it takes for ever. */
export async function unaccepting(t: TestContext): Promise<string> {
  const source = `
    const { parentPort } = require('node:worker_threads');
    const server = require('node:net').createServer().listen({ port: 0, host: '127.0.0.1', backlog: 1 }, () => {
      parentPort.postMessage(server.address().port);
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
    });`;
  const worker = new Worker(source, { eval: true });
  t.after(() => worker.terminate());
  const port = await new Promise<number>((resolve) => worker.once('message', resolve));
  const fillers = Array.from({ length: 8 }, () => net.connect(port, '127.0.0.1').on('error', () => {}));
  t.after(() => fillers.forEach((socket) => socket.destroy()));
  await Promise.any(fillers.map((socket) => new Promise((resolve) => socket.once('connect', resolve))));
  return `http://127.0.0.1:${port}`;
}
