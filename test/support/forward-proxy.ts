import { once } from 'node:events';
import http from 'node:http';
import net, { type AddressInfo } from 'node:net';

type TunnelBehaviour = 'opens' | 'hangs' | 'refuses' | 'wants_credentials' | 'silent';

/** A forward proxy on loopback. Whatever host it is asked for, it goes to the one origin. */
export class ForwardProxy implements AsyncDisposable {
  tunnels: TunnelBehaviour = 'opens';
  /** Answers every plain request with this status instead of passing it on. */
  status: number | undefined;
  /** Request lines. */
  readonly seen: string[] = [];
  readonly credentials: (string | undefined)[] = [];
  readonly hosts: (string | undefined)[] = [];
  readonly #server: http.Server;
  readonly #sockets = new Set<net.Socket>();

  private constructor(origin: number) {
    this.#server = http.createServer((request, response) => {
      this.#note(request);
      if (this.status !== undefined) return void response.writeHead(this.status).end();
      const { pathname, search } = new URL(request.url ?? '');
      const { method, headers } = request;
      const onward = http.request({ host: '127.0.0.1', port: origin, method, path: pathname + search, headers, agent: false }, (answer) => {
        response.writeHead(answer.statusCode ?? 502, answer.headers);
        answer.pipe(response);
      });
      onward.on('error', () => response.destroy());
      request.pipe(onward);
    });
    this.#server.on('connect', (request, socket: net.Socket) => {
      this.#note(request);
      this.#sockets.add(socket);
      socket.on('error', () => {});
      socket.on('close', () => this.#server.emit('hangup'));
      if (this.tunnels === 'silent') socket.once('data', () => this.#server.emit('tunnel'));
      else this.#server.emit('tunnel');
      if (this.tunnels === 'refuses') return socket.end('HTTP/1.1 403 Forbidden\r\nRetry-After: 60\r\n\r\n');
      if (this.tunnels === 'wants_credentials') return socket.end('HTTP/1.1 407 Proxy Authentication Required\r\n\r\n');
      if (this.tunnels !== 'hangs') socket.write('HTTP/1.1 200 Connection established\r\n\r\n');
      if (this.tunnels !== 'opens') return void socket.on('end', () => socket.destroy()).resume();
      const onward = net.connect(origin, '127.0.0.1');
      this.#sockets.add(onward);
      onward.on('error', () => socket.destroy());
      socket.pipe(onward).pipe(socket);
    });
  }

  /** @param origin port of the one server that is reached through it */
  static async start(origin: number): Promise<ForwardProxy> {
    const proxy = new ForwardProxy(origin);
    proxy.#server.listen(0, '127.0.0.1');
    await once(proxy.#server, 'listening');
    return proxy;
  }

  #note({ method, url, headers }: http.IncomingMessage): void {
    this.seen.push(`${method} ${url}`);
    this.credentials.push(headers['proxy-authorization']);
    this.hosts.push(headers.host);
  }

  get authority(): string {
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  get url(): string {
    return `http://${this.authority}`;
  }

  /** Resolves when a tunnel is asked for; when a silent one is, as soon as something comes through it. */
  async tunnelled(): Promise<void> {
    await once(this.#server, 'tunnel');
  }

  /** Resolves when a tunnel is closed. */
  async hungUp(): Promise<void> {
    await once(this.#server, 'hangup');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, 'close');
  }
}
