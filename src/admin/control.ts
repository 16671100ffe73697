import { once } from 'node:events';
import { chmod, unlink } from 'node:fs/promises';
import * as http from 'node:http';
import path from 'node:path';
import { json } from 'node:stream/consumers';

/**
 * The control socket: how `staplegate status` and its like talk to the running supervisor. HTTP over a unix socket in
 * `state_dir` that only the service's own user can open.
 */

/** What a request gets: the JSON of the answer's body. A thrown ControlError becomes a 4xx with its message. */
export type ControlHandlers = Record<string, (parameters: URLSearchParams) => unknown>;

export class ControlError extends Error {
  override name = 'ControlError';
}

/** No supervisor answers there. */
export class NotRunning extends Error {
  override name = 'NotRunning';
}

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
    void answer(req, handlers).then(({ status, body }) => {
      res.writeHead(status, { 'Content-Type': 'application/json' });
      res.end(JSON.stringify(body));
    });
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

async function answer(req: http.IncomingMessage, handlers: ControlHandlers): Promise<{ status: number; body: unknown }> {
  req.resume();
  try {
    const url = new URL(req.url ?? '/', 'http://control');
    const handler = handlers[`${req.method} ${url.pathname}`];
    if (!handler) return { status: 404, body: { error: `unknown request ${req.method} ${url.pathname}` } };
    return { status: 200, body: await handler(url.searchParams) };
  } catch (error) {
    return { status: error instanceof ControlError ? 400 : 500, body: { error: error instanceof Error ? error.message : String(error) } };
  }
}

/**
 * Asks the supervisor that owns `stateDir`.
 * @throws NotRunning when none answers, ControlError with its words when it refuses
 */
export async function askSupervisor(stateDir: string, method: 'GET' | 'POST', target: string): Promise<unknown> {
  const request = http.request({ socketPath: socketPath(stateDir), method, path: target, timeout: 30_000, agent: false });
  request.once('timeout', () => request.destroy(new Error('no answer within 30 s')));
  request.end();
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
  const body = await json(response);
  if (response.statusCode === 200) return body;
  throw new ControlError((body as { error?: string }).error ?? `the supervisor answered ${response.statusCode}`);
}
