import { createHash } from 'node:crypto';
import { once } from 'node:events';
import * as http from 'node:http';
import type { AddressInfo } from 'node:net';
import type { TestContext } from 'node:test';
import { echoWebSockets } from './websocket.ts';

/** What the application was sent: its answer, as JSON, to everything that has no other meaning. */
export interface Told {
  method: string;
  url: string;
  /** As they came: name, value, name, value. */
  rawHeaders: string[];
  /** SHA-256 of the body, and its length in bytes. */
  sha256: string;
  length: number;
  /** The other end of the connection. */
  port: number | undefined;
}

/**
 * A node:http application behind the proxy. `/pieces` is an answer of unknown length, `/events` server-sent events,
 * `/refused` says no before it has read a body; it echoes WebSockets.
 */
export class Application {
  /** Where to find it, for `backends`. */
  readonly url: string;
  /** Bytes of bodies that it refused and got all the same. */
  unwanted = 0;
  readonly #listeners: Set<http.ServerResponse>;

  private constructor(url: string, listeners: Set<http.ServerResponse>) {
    this.url = url;
    this.#listeners = listeners;
  }

  /** @param path of a unix socket; without it a free port on loopback */
  static async start(t: TestContext, path?: string): Promise<Application> {
    const server = http.createServer();
    const listeners = new Set<http.ServerResponse>();
    if (path === undefined) server.listen(0, '127.0.0.1');
    else server.listen(path);
    await once(server, 'listening');
    const application = new Application(path === undefined ? `http://127.0.0.1:${(server.address() as AddressInfo).port}` : `unix:${path}`, listeners);
    server.on('request', (req, res) => application.#answer(req, res));
    server.on('checkContinue', (req, res) => {
      if (req.url !== '/refused') res.writeContinue();
      application.#answer(req, res);
    });
    echoWebSockets(server);
    t.after(() => {
      server.closeAllConnections();
      server.close();
    });
    return application;
  }

  /** Sends an event to everybody who listens. */
  say(event: string): void {
    for (const response of this.#listeners) response.write(`data: ${event}\n\n`);
  }

  #answer(req: http.IncomingMessage, res: http.ServerResponse): void {
    switch (req.url ?? '') {
      case '/pieces':
        for (const piece of ['one ', 'two ', 'three']) res.write(piece);
        res.end();
        break;
      case '/events':
        res.writeHead(200, { 'content-type': 'text/event-stream' }).flushHeaders();
        this.#listeners.add(res);
        res.once('close', () => this.#listeners.delete(res));
        break;
      case '/refused':
        req.on('data', (chunk: Buffer) => (this.unwanted += chunk.length));
        res.writeHead(403, { 'content-length': 0 }).end();
        break;
      default:
        tell(req, res);
    }
  }
}

function tell(req: http.IncomingMessage, res: http.ServerResponse): void {
  const hash = createHash('sha256');
  let length = 0;
  req.on('data', (chunk: Buffer) => {
    hash.update(chunk);
    length += chunk.length;
  });
  req.on('end', () => {
    const { method = '', url = '', rawHeaders, socket } = req;
    const told: Told = { method, url, rawHeaders, sha256: hash.digest('hex'), length, port: socket.remotePort };
    res.writeHead(200, { 'content-type': 'application/json' }).end(`${JSON.stringify(told)}\n`);
  });
}
