import { once } from 'node:events';
import * as http2 from 'node:http2';
import type { LoadTarget } from './load.ts';

const connections = 3;
const streams = 4;

/** HTTP/2 clients that ask without a pause, several streams at once on each connection, until they are stopped. */
export class Http2Load implements AsyncDisposable {
  requests = 0;
  /** Requests that the server did not process, and said so: each client repeats them by itself (RFC 9113, 8.7). */
  refused = 0;
  connections = 0;
  readonly failures: string[] = [];
  readonly #target: LoadTarget;
  readonly #running: Promise<void[]>;
  readonly #waiting = new Set<() => void>();
  #stopped = false;

  constructor(target: LoadTarget) {
    this.#target = target;
    this.#running = Promise.all(Array.from({ length: connections }, () => this.#client()));
  }

  async #client(): Promise<void> {
    while (!this.#stopped && this.failures.length < 100) {
      const { port, name, ca } = this.#target;
      const session = http2.connect(`https://127.0.0.1:${port}`, { ca, servername: name });
      session.on('error', (error) => this.failures.push(`connection: ${error.message}`));
      this.connections += 1;
      const closed = new Promise((resolve) => {
        session.on('close', resolve);
      });
      await Promise.race([once(session, 'connect').catch(() => {}), closed]);
      await Promise.all(Array.from({ length: streams }, () => this.#ask(session)));
      session.close();
      await closed;
      this.#changed();
    }
  }

  async #ask(session: http2.ClientHttp2Session): Promise<void> {
    while (!this.#stopped && !session.closed && !session.destroyed) {
      const stream = session.request({ ':authority': this.#target.name });
      let status = 0;
      let error: Error | undefined;
      stream.on('response', (headers) => (status = headers[':status'] ?? 0));
      stream.on('error', (reason: Error) => (error = reason));
      stream.resume();
      await new Promise((resolve) => {
        stream.on('close', resolve);
      });
      if (status === 200 && stream.rstCode === 0 && error === undefined) this.requests += 1;
      else if (status === 0 && stream.rstCode === http2.constants.NGHTTP2_REFUSED_STREAM) this.refused += 1;
      else this.failures.push(`status ${status}, RST ${stream.rstCode}, ${error?.message}`);
      this.#changed();
    }
  }

  #changed(): void {
    for (const wake of this.#waiting) wake();
    this.#waiting.clear();
  }

  /** Resolves when the condition holds. */
  async until(condition: (load: this) => boolean): Promise<void> {
    while (!condition(this)) {
      if (this.failures.length >= 100) throw new Error(`nothing but failures: ${this.failures.at(-1)}`);
      await new Promise<void>((resolve) => {
        this.#waiting.add(resolve);
      });
    }
  }

  /** Ends after the requests under way. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#running;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }
}
