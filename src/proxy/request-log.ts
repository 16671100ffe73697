import type { Log } from '../log.ts';
import type { ProxyError } from './proxy-error.ts';

const LONGEST_LINE = 1_024;

/** What the log says of one request: how it failed, and with `log.access` how it ended. */
export class RequestLog {
  readonly log: Log;
  /** What the request is called. */
  readonly #line: string;
  readonly #client: string;
  /** 0 when its end is not to be logged. */
  readonly #startedAt: number;

  constructor(log: Log, line: string, client: string, access: boolean) {
    this.log = log;
    this.#line = line;
    this.#client = client;
    this.#startedAt = access ? performance.now() : 0;
  }

  /** An error of ours. */
  fault({ message, stack }: Error): void {
    this.log.error(`internal error: ${message}`, { code: 'internal', at: stack?.split('\n')[1]?.trim(), request: this.#shortLine });
  }

  refused({ code, status, message, facts }: ProxyError, backend: string | undefined): void {
    const level = code === 'internal' ? 'error' : status >= 500 ? 'warn' : 'debug';
    this.log[level](message, { code, backend, ...facts, client: this.#client, request: this.#shortLine });
  }

  /** @param bytes of the answer's body */
  ended(status: number, bytes: number, backend: string | undefined): void {
    if (this.#startedAt === 0) return;
    this.log.info(this.#shortLine, { status, bytes, ms: Math.round(performance.now() - this.#startedAt), client: this.#client, backend });
  }

  get #shortLine(): string {
    return this.#line.slice(0, LONGEST_LINE);
  }
}
