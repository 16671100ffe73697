import { once } from 'node:events';
import * as net from 'node:net';

/** A TCP relay that holds what clients send while it is shut: a server behind it hangs, and answers when it is told to. */
export class Gate implements AsyncDisposable {
  readonly #server: net.Server;
  readonly #sockets = new Set<net.Socket>();
  #opened = Promise.withResolvers<void>();
  #held = 0;

  private constructor(target: URL) {
    this.#opened.resolve();
    this.#server = net.createServer((client) => void this.#relay(client, target));
  }

  static async before(url: string): Promise<Gate> {
    const gate = new Gate(new URL(url));
    gate.#server.listen(0, '127.0.0.1');
    await once(gate.#server, 'listening');
    return gate;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as net.AddressInfo).port}`;
  }

  shut(): void {
    this.#opened = Promise.withResolvers<void>();
    this.#held = 0;
  }

  open(): void {
    this.#opened.resolve();
  }

  /** Resolves when somebody waits at the gate since it was shut. */
  async holds(): Promise<void> {
    if (this.#held === 0) await once(this.#server, 'held');
  }

  async #relay(client: net.Socket, { hostname, port }: URL): Promise<void> {
    const forget = (socket: net.Socket): void => void socket.on('error', () => {}).once('close', () => this.#sockets.delete(socket));
    this.#sockets.add(client);
    forget(client);
    client.pause();
    this.#held += 1;
    this.#server.emit('held');
    await this.#opened.promise;
    if (client.destroyed) return;
    const server = net.connect(Number(port), hostname);
    this.#sockets.add(server);
    forget(server);
    client.pipe(server).pipe(client);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.open();
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
    await once(this.#server, 'close');
  }
}
