import * as http from 'node:http';
import { Duplex } from 'node:stream';
import { setImmediate } from 'node:timers/promises';
import type { Message, Reading } from './reading.ts';

/** How llhttp, the parser of node:http, reads the same bytes; through public interfaces only, on sockets that are none. */

const LIMITS = { insecureHTTPParser: false, maxHeaderSize: 65_536 };

class Connection extends Duplex {
  override _read(): void {}

  override _write(_bytes: unknown, _encoding: string, done: () => void): void {
    done();
  }

  setTimeout(): this {
    return this;
  }

  async receive(text: string): Promise<void> {
    this.push(Buffer.from(text, 'latin1'));
    await settled();
  }
}

/** `end` events come a few ticks behind the bytes that cause them. */
async function settled(): Promise<void> {
  await setImmediate();
  await setImmediate();
}

let current: Reading = { messages: [] };

const server = http.createServer({ ...LIMITS, requireHostHeader: false, requestTimeout: 0, connectionsCheckingInterval: 2 ** 31 - 1 });
server.maxHeadersCount = 0;
for (const event of ['request', 'checkContinue', 'checkExpectation'])
  server.on(event, (request: http.IncomingMessage) => record(request, `${request.method} ${request.url}`));
server.on('connect', (request: http.IncomingMessage) => record(request, `${request.method} ${request.url}`));
server.on('clientError', (error: NodeJS.ErrnoException) => (current.refusal ??= error.code ?? error.message));

function record(incoming: http.IncomingMessage, line: string | undefined): void {
  const start = line === undefined ? `HTTP/${incoming.httpVersion} ${incoming.statusCode} ${incoming.statusMessage}` : `${line} HTTP/${incoming.httpVersion}`;
  const message: Message = { start, fields: incoming.rawHeaders, body: '', trailers: [], complete: false };
  current.messages.push(message);
  incoming.on('data', (piece: Buffer) => (message.body += piece.toString('latin1')));
  incoming.on('end', () => {
    message.complete = incoming.complete;
    message.trailers = incoming.rawTrailers;
  });
  incoming.on('error', () => {}); // cut off: not complete
}

export async function llhttpRequests(text: string): Promise<Reading> {
  const reading = (current = { messages: [] });
  const connection = new Connection();
  server.emit('connection', connection);
  await connection.receive(text);
  connection.destroy();
  return reading;
}

/** @param pieces are received one after the other; `between` looks at the reading before the last */
export async function llhttpResponses(pieces: readonly string[], method: string, between: (reading: Reading) => void): Promise<Reading> {
  const reading: Reading = (current = { messages: [] });
  const connection = new Connection();
  const agent = new http.Agent();
  agent.createConnection = () => connection;
  const request = http.request({ ...LIMITS, agent, method, headers: { host: 'a.test' } });
  request.on('information', (info: http.InformationEvent) => {
    const { httpVersion, statusCode, statusMessage, rawHeaders } = info;
    reading.messages.push({ start: `HTTP/${httpVersion} ${statusCode} ${statusMessage}`, fields: rawHeaders, body: '', trailers: [], complete: true });
  });
  request.on('response', (response) => record(response, undefined));
  request.on('upgrade', (response) => record(response, undefined));
  request.on('error', (error: NodeJS.ErrnoException) => (reading.refusal ??= error.code ?? error.message));
  request.end();
  await settled();
  for (const [i, piece] of pieces.entries()) {
    if (i === pieces.length - 1) between(reading);
    await connection.receive(piece);
  }
  connection.push(null);
  await settled();
  connection.destroy();
  return reading;
}
