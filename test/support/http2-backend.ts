import { once } from 'node:events';
import * as http2 from 'node:http2';
import * as net from 'node:net';
import type { TestContext } from 'node:test';
import { PREFACE } from '../../src/http2/frames.ts';
import { HpackDecoder } from '../../src/http2/hpack-decoder.ts';
import { frame, FramePeer, frameTypes } from './http2.ts';

/** A backend of Node's that speaks HTTP/2. */
export interface Http2Backend {
  url: string;
  sessions: http2.ServerHttp2Session[];
  /** The last one of each path. */
  streams: Map<string, http2.ServerHttp2Stream>;
}

export type Script = (stream: http2.ServerHttp2Stream, headers: http2.IncomingHttpHeaders, raw: string[]) => void;

/** Starts a server as a backend that answers as the script says. */
export async function startHttp2Backend(t: TestContext, server: http2.Http2Server | http2.Http2SecureServer, script: Script): Promise<Http2Backend> {
  const backend: Http2Backend = { url: '', sessions: [], streams: new Map() };
  server.on('session', (session: http2.ServerHttp2Session) => {
    backend.sessions.push(session);
    session.on('error', () => {});
  });
  server.on('stream', (stream: http2.ServerHttp2Stream, headers: http2.IncomingHttpHeaders, _flags: number, raw: string[]) => {
    stream.on('error', () => {});
    backend.streams.set(headers[':path'] ?? '', stream);
    script(stream, headers, raw);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    for (const session of backend.sessions) session.destroy();
    server.close();
  });
  backend.url = `http://127.0.0.1:${(server.address() as net.AddressInfo).port}`;
  return backend;
}

/** An application that speaks HTTP/2 without TLS. */
export function http2Backend(t: TestContext, script: Script, options: http2.ServerOptions = {}): Promise<Http2Backend> {
  return startHttp2Backend(t, http2.createServer(options), script);
}

/** A connection to a backend that speaks frames. */
export class FrameConnection extends FramePeer {
  readonly #decoder = new HpackDecoder();
  #looked = 0;

  /** Heads that have come since the last call: stream and path. */
  newRequests(): { stream: number; path: string }[] {
    const fresh = this.frames.slice(this.#looked).filter(({ type }) => type === frameTypes.headers);
    this.#looked = this.frames.length;
    return fresh.flatMap(({ stream, payload }) => {
      const { fields } = this.#decoder.decode(payload, 0, payload.length, 65_536);
      const path = fields.find(({ name }) => name === ':path')?.value;
      return path === undefined ? [] : [{ stream, path }];
    });
  }
}

/** Says anything at all, in frames. */
export class FrameBackend {
  readonly connections: FrameConnection[] = [];
  url = '';

  /**
   * @param requested is called for every head of a request
   * @param connected says the settings
   */
  static async listen(
    t: TestContext,
    requested: (connection: FrameConnection, stream: number, path: string) => void,
    connected: (connection: FrameConnection) => void = (connection) => connection.send(frame(frameTypes.settings, 0, 0)),
  ): Promise<FrameBackend> {
    const backend = new FrameBackend();
    const server = net.createServer({ noDelay: true }, (socket) => {
      const connection = new FrameConnection(socket, PREFACE.length);
      backend.connections.push(connection);
      connection.onFrames = () => {
        for (const { stream, path } of connection.newRequests()) requested(connection, stream, path);
      };
      connected(connection);
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    t.after(() => {
      server.close();
      for (const { socket } of backend.connections) socket.destroy();
    });
    backend.url = `http://127.0.0.1:${(server.address() as net.AddressInfo).port}`;
    return backend;
  }
}
