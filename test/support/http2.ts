import { once } from 'node:events';
import * as http2 from 'node:http2';
import * as net from 'node:net';
import type { TestContext } from 'node:test';
import type { Config } from '../../src/config/schema.ts';
import type { Connection } from '../../src/engine/http-front.ts';
import { startFront, type TestFront } from './front.ts';

/** A front whose connections have chosen h2; without TLS, so that frames can be seen. */
export function startHttp2Front(t: TestContext, config: Config, connection: Partial<Connection> = {}): Promise<TestFront> {
  return startFront(t, config, connection, new Map(), 'h2');
}

export interface Http2Answer {
  status: number;
  headers: http2.IncomingHttpHeaders;
  /** One character a byte. */
  body: string;
  trailers: Record<string, string | string[] | undefined>;
  /** Interim answers. */
  informed: http2.IncomingHttpHeaders[];
  /** How the stream ended. */
  rstCode: number;
}

/** A polite client. */
export class Http2Client {
  readonly session: http2.ClientHttp2Session;
  /** Codes of the GOAWAY frames that came. */
  readonly goaways: number[] = [];

  constructor(session: http2.ClientHttp2Session) {
    this.session = session;
    session.on('goaway', (code) => this.goaways.push(code));
    session.on('error', () => {});
  }

  static async connect(t: TestContext, port: number, options: http2.ClientSessionOptions = {}): Promise<Http2Client> {
    const session = http2.connect(`http://127.0.0.1:${port}`, options);
    await once(session, 'connect');
    t.after(() => session.destroy());
    return new Http2Client(session);
  }

  /** Opens a stream. Fields in turn, as they are to be sent; `:authority` is a.test unless they have one. */
  open(fields: readonly string[], options: http2.ClientSessionRequestOptions = {}): http2.ClientHttp2Stream {
    const authority = fields.includes(':authority') || fields.includes('host') ? [] : [':authority', 'a.test'];
    const stream = this.session.request([':scheme', 'https', ...authority, ...fields], options);
    stream.on('error', () => {});
    return stream;
  }

  /** Asks, and reads the whole answer; `undefined` sends no body. */
  ask(fields: readonly string[], body?: string | Buffer): Promise<Http2Answer> {
    const stream = this.open(fields, { endStream: body === undefined });
    if (body !== undefined) stream.end(typeof body === 'string' ? Buffer.from(body, 'latin1') : body);
    return answerOf(stream);
  }

  get(path = '/', ...fields: string[]): Promise<Http2Answer> {
    return this.ask([':method', 'GET', ':path', path, ...fields]);
  }
}

/** What becomes of a stream; resolves when it is closed. */
export async function answerOf(stream: http2.ClientHttp2Stream): Promise<Http2Answer> {
  const answer: Http2Answer = { status: 0, headers: {}, body: '', trailers: {}, informed: [], rstCode: 0 };
  stream.on('headers', (headers) => answer.informed.push(headers));
  stream.on('response', (headers) => {
    answer.headers = headers;
    answer.status = headers[':status'] ?? 0;
  });
  stream.on('data', (bytes: Buffer) => (answer.body += bytes.toString('latin1')));
  stream.on('trailers', (trailers) => (answer.trailers = Object.fromEntries(Object.entries(trailers))));
  if (!stream.destroyed) await once(stream, 'close').catch(() => {});
  answer.rstCode = stream.rstCode ?? 0;
  return answer;
}

/** RFC 9113, 6. */
export const frameTypes = { data: 0, headers: 1, priority: 2, rstStream: 3, settings: 4, pushPromise: 5, ping: 6, goaway: 7, windowUpdate: 8, continuation: 9 };
/** RFC 9113, 7. */
export const errorCodes = {
  noError: 0,
  protocolError: 1,
  internalError: 2,
  streamClosed: 5,
  refusedStream: 7,
  cancel: 8,
  enhanceYourCalm: 11,
  inadequateSecurity: 12,
};
export const flags = { endStream: 1, ack: 1, endHeaders: 4 };

export interface Frame {
  type: number;
  flags: number;
  stream: number;
  payload: Buffer;
}

export function frame(type: number, flagBits: number, stream: number, payload: Buffer = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flagBits;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

/** An integer behind a prefix of 7 bits (RFC 7541, 5.1). */
function prefixed(length: number): Buffer {
  if (length < 127) return Buffer.of(length);
  const bytes = [127];
  let rest = length - 127;
  for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest % 128) + 128);
  return Buffer.from([...bytes, rest]);
}

/** Literal fields that are not indexed, without Huffman coding (RFC 7541, 6.2.2). */
export function headerBlock(fields: readonly (readonly [name: string, value: string])[]): Buffer {
  return Buffer.concat(
    fields.flatMap(([name, value]) => [Buffer.of(0), prefixed(name.length), Buffer.from(name, 'latin1'), prefixed(value.length), Buffer.from(value, 'latin1')]),
  );
}

/** The head of a GET for a.test. */
export const getHead = [
  [':method', 'GET'],
  [':scheme', 'https'],
  [':authority', 'a.test'],
  [':path', '/'],
] as const;

/** The status at the front of a header block: an index, or a literal of digits in Huffman coding (RFC 7541, A and B). */
export function statusOf(block: Buffer): number {
  const index = (block[0] ?? 0) & 0x7f;
  if ((block[0] ?? 0) & 0x80) return [200, 204, 206, 304, 400, 404, 500][index - 8] ?? 0;
  const value = block.subarray(2, 2 + ((block[1] ?? 0) & 0x7f));
  if (((block[1] ?? 0) & 0x80) === 0) return Number(value.toString());
  const bits = Array.from(value, (byte) => byte.toString(2).padStart(8, '0')).join('');
  const codes = new Map(Array.from({ length: 10 }, (_, n) => [(n < 3 ? n : n + 22).toString(2).padStart(n < 3 ? 5 : 6, '0'), n]));
  let digits = '';
  for (let at = 0; digits.length < 3;) {
    const width = codes.has(bits.slice(at, at + 5)) ? 5 : 6;
    digits += codes.get(bits.slice(at, at + width));
    at += width;
  }
  return Number(digits);
}

/** One side of a connection, in frames. SETTINGS and PING of the other side are acknowledged. */
export class FramePeer {
  readonly socket: net.Socket;
  readonly frames: Frame[] = [];
  closed = false;
  /** Whether SETTINGS and PING frames are answered as they come. */
  acknowledges = true;
  #input = Buffer.alloc(0);
  #prefaceLeft: number;
  readonly #waiting = new Set<() => void>();

  /** @param preface bytes with which the other side begins */
  constructor(socket: net.Socket, preface: number) {
    this.socket = socket;
    this.#prefaceLeft = preface;
    socket.on('data', (bytes) => this.#read(bytes));
    socket.on('error', () => {});
    socket.on('close', () => {
      this.closed = true;
      this.#wake();
    });
  }

  send(...bytes: Buffer[]): void {
    this.socket.write(Buffer.concat(bytes));
  }

  /** A head, whole and in one frame. */
  headers(stream: number, fields: readonly (readonly [string, string])[], isComplete = true): void {
    this.send(frame(frameTypes.headers, flags.endHeaders | (isComplete ? flags.endStream : 0), stream, headerBlock(fields)));
  }

  data(stream: number, text: string, isComplete = true): void {
    this.send(frame(frameTypes.data, isComplete ? flags.endStream : 0, stream, Buffer.from(text, 'latin1')));
  }

  reset(stream: number, code = errorCodes.cancel): void {
    const payload = Buffer.alloc(4);
    payload.writeUInt32BE(code);
    this.send(frame(frameTypes.rstStream, 0, stream, payload));
  }

  goAway(lastStream: number, code = errorCodes.noError): void {
    const payload = Buffer.alloc(8);
    payload.writeUInt32BE(lastStream);
    payload.writeUInt32BE(code, 4);
    this.send(frame(frameTypes.goaway, 0, 0, payload));
  }

  acknowledge(ping: Frame): void {
    this.send(frame(frameTypes.ping, flags.ack, 0, ping.payload));
  }

  #read(bytes: Buffer): void {
    const start = Math.min(this.#prefaceLeft, bytes.length);
    this.#prefaceLeft -= start;
    this.#input = Buffer.concat([this.#input, bytes.subarray(start)]);
    while (this.#input.length >= 9 && this.#input.length >= 9 + this.#input.readUIntBE(0, 3)) {
      const end = 9 + this.#input.readUIntBE(0, 3);
      const [type = 0, flagBits = 0] = this.#input.subarray(3, 5);
      const one: Frame = { type, flags: flagBits, stream: this.#input.readUInt32BE(5), payload: this.#input.subarray(9, end) };
      this.#input = this.#input.subarray(end);
      const isAck = (flagBits & flags.ack) !== 0;
      if (type === frameTypes.settings && !isAck && this.acknowledges) this.send(frame(frameTypes.settings, flags.ack, 0));
      if (type === frameTypes.ping && !isAck && this.acknowledges) this.acknowledge(one);
      this.frames.push(one);
    }
    this.onFrames();
    this.#wake();
  }

  /** Called when frames have come. */
  onFrames: () => void = () => {};

  /** The first frame that fits; resolves when it is there. @throws when the connection ends before */
  async frame(fits: (frame: Frame) => boolean): Promise<Frame> {
    for (;;) {
      const found = this.frames.find(fits);
      if (found) return found;
      if (this.closed) throw new Error(`the connection ended after ${JSON.stringify(this.frames.map(({ type, stream }) => [type, stream]))}`);
      await this.#changed();
    }
  }

  /** The status that a stream is answered with, or `RST n`. */
  async outcome(stream: number): Promise<number | string> {
    const first = await this.frame((one) => one.stream === stream && (one.type === frameTypes.headers || one.type === frameTypes.rstStream));
    return first.type === frameTypes.headers ? statusOf(first.payload) : `RST ${first.payload.readUInt32BE()}`;
  }

  async toEnd(): Promise<void> {
    while (!this.closed) await this.#changed();
  }

  #changed(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#waiting.add(resolve);
    return promise;
  }

  #wake(): void {
    for (const resolve of this.#waiting) resolve();
    this.#waiting.clear();
  }
}

/** A client that speaks frames. The preface and its settings are sent at once. */
export class FrameClient extends FramePeer {
  /** @param window what each stream may send without being asked to go on (SETTINGS_INITIAL_WINDOW_SIZE) */
  static async connect(t: TestContext, port: number, window?: number): Promise<FrameClient> {
    const socket = net.connect({ port, host: '127.0.0.1', noDelay: true });
    t.after(() => socket.destroy());
    await once(socket, 'connect');
    return FrameClient.begin(socket, window);
  }

  /** Begins to speak HTTP/2 on a connection that stands. */
  static begin(socket: net.Socket, window = 65_535): FrameClient {
    const client = new FrameClient(socket, 0);
    const settings = Buffer.from([0, 4, 0, 0, 0, 0]);
    settings.writeUInt32BE(window, 2);
    client.send(Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), frame(frameTypes.settings, 0, 0, settings));
    return client;
  }
}
