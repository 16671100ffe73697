import { once } from 'node:events';
import { chmod, unlink } from 'node:fs/promises';
import * as http from 'node:http';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { json } from 'node:stream/consumers';

/**
 * The control socket: how `staplegate status` and its like talk to the running supervisor. HTTP over a unix socket in
 * `state_dir` that only the service's own user can open.
 */

/**
 * What a request gets: its result as JSON, or, for one that takes long, line by line what an async iterable yields. A
 * thrown ControlError becomes a 4xx with its message and code.
 */
export type ControlHandlers = Record<string, (parameters: URLSearchParams, body: Buffer) => unknown>;

/** The supervisor says no. */
export class ControlError extends Error {
  override name = 'ControlError';
  readonly code: string;

  constructor(message: string, code = 'control_refused') {
    super(message);
    this.code = code;
  }
}

/** No supervisor answers there. */
export class NotRunning extends Error {
  override name = 'NotRunning';
  readonly code = 'not_running';
}

/** Bytes of a request body: an OCSP response is far smaller. */
const largestBody = 1024 * 1024;

function socketPath(stateDir: string): string {
  return path.join(stateDir, 'control.sock');
}

/**
 * Serves `handlers` by `METHOD /path` until closed.
 * @throws the system's error when the socket cannot be made
 */
export async function serveControl(stateDir: string, handlers: ControlHandlers): Promise<{ close(): Promise<void> }> {
  const file = socketPath(stateDir);
  const server = http.createServer((req, res) => {
    void respond(req, res, handlers).catch(() => res.destroy());
  });
  server.requestTimeout = 5_000;
  // Whoever holds the lock of state_dir is the only supervisor here: an older socket is a dead one's.
  await unlink(file).catch(() => {});
  server.listen(file);
  await once(server, 'listening');
  await chmod(file, 0o600);
  return {
    close: async () => {
      server.close();
      server.closeAllConnections();
      await once(server, 'close');
    },
  };
}

async function respond(req: http.IncomingMessage, res: http.ServerResponse, handlers: ControlHandlers): Promise<void> {
  const { status, body } = await answer(req, handlers);
  res.writeHead(status, { 'Content-Type': 'application/json' });
  if (!isAsyncIterable(body)) return void res.end(JSON.stringify(body));
  res.flushHeaders();
  for await (const line of body) {
    if (res.destroyed) return;
    res.write(`${JSON.stringify(line)}\n`);
  }
  res.end();
}

function isAsyncIterable(value: unknown): value is AsyncIterable<unknown> {
  return typeof value === 'object' && value !== null && Symbol.asyncIterator in value;
}

async function answer(req: http.IncomingMessage, handlers: ControlHandlers): Promise<{ status: number; body: unknown }> {
  try {
    const content = await read(req);
    const url = new URL(req.url ?? '/', 'http://control');
    const handler = handlers[`${req.method} ${url.pathname}`];
    if (!handler) return { status: 404, body: { error: `unknown request ${req.method} ${url.pathname}` } };
    return { status: 200, body: await handler(url.searchParams, content) };
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    return error instanceof ControlError ? { status: 400, body: { error: message, code: error.code } } : { status: 500, body: { error: message } };
  }
}

async function read(req: http.IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of req as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > largestBody) throw new ControlError(`the request is larger than ${largestBody} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

type Method = 'GET' | 'POST';

const patience = 30_000;

/**
 * Asks the supervisor that owns `stateDir`.
 * @throws NotRunning when none answers, ControlError with its words when it refuses
 */
export async function askSupervisor(stateDir: string, method: Method, target: string, body?: Buffer): Promise<unknown> {
  return json(await send(stateDir, { method, target, body, timeout: patience }));
}

/**
 * Asks for something that takes as long as it takes, and yields what the supervisor says of it, one thing after another.
 * @throws NotRunning when none answers or it ends before all is said, ControlError with its words when it refuses
 */
export async function* askSupervisorForEach(stateDir: string, method: Method, target: string): AsyncGenerator {
  const response = await send(stateDir, { method, target, timeout: 0 });
  try {
    for await (const line of createInterface({ input: response })) yield JSON.parse(line);
  } catch (error) {
    if (response.complete) throw error;
  }
  if (!response.complete) throw new NotRunning(`the Staplegate with state_dir ${stateDir} ended before its answer was complete`);
}

interface Message {
  method: Method;
  target: string;
  body?: Buffer | undefined;
  /** Milliseconds of silence; 0 waits for ever. */
  timeout: number;
}

async function send(stateDir: string, { method, target, body, timeout }: Message): Promise<http.IncomingMessage> {
  const request = http.request({ socketPath: socketPath(stateDir), method, path: target, timeout, agent: false });
  request.once('timeout', () => request.destroy(new Error(`no answer within ${timeout / 1000} s`)));
  request.end(body);
  let response: http.IncomingMessage;
  try {
    [response] = (await once(request, 'response')) as [http.IncomingMessage];
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const reason =
      code === 'EACCES'
        ? 'permission denied; run this as root or as the service user'
        : code === 'ENOENT' || code === 'ECONNREFUSED'
          ? 'nothing answers there'
          : message;
    throw new NotRunning(`no running Staplegate with state_dir ${stateDir}: ${reason}`);
  }
  if (response.statusCode === 200) return response;
  const { error = `the supervisor answered ${response.statusCode}`, code } = (await json(response)) as { error?: string; code?: string };
  throw new ControlError(error, code);
}
