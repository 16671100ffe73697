import type { ServerResponse } from 'node:http';
import { pipeline } from 'node:stream/promises';
import type { BackendResponse } from './engine.ts';
import { field, rawFromFields, responseFields, trailerFields } from './headers.ts';
import { ProxyError } from './proxy-error.ts';
import type { RequestHead } from './request-head.ts';

export interface Relaying {
  head: RequestHead;
  /** Longest pause between two pieces of the body, in ms. */
  idle: number;
  /** The connection ends with this answer. */
  close: boolean;
  count: (bytes: number) => void;
}

/**
 * Passes a backend's answer to the client, piece by piece as the client takes it. Resolves when all of it is written.
 * @throws ProxyError client_gone, backend_closed or response_stalled; the client's connection is then cut, without a last
 * chunk, so that it cannot take a part for the whole (RFC 9112, 8).
 */
export async function relay(response: BackendResponse, res: ServerResponse, { head, idle, close, count }: Relaying): Promise<void> {
  const { body } = response;
  let fault: ProxyError | undefined;
  const blame = (error: ProxyError): void => {
    fault ??= error;
  };
  res.once('close', () => {
    if (!res.writableFinished) blame(new ProxyError('client_gone', 'the client went away during the answer'));
  });
  body.once('error', (error: NodeJS.ErrnoException) => {
    blame(new ProxyError('backend_closed', 'the backend broke off its answer; the client was cut', { cause: error.code ?? error.message }));
  });
  const timer = setTimeout(() => {
    blame(new ProxyError('response_stalled', 'the answer stood still; the client was cut', { setting: 'timeouts.response_body' }));
    res.destroy();
    body.destroy();
  }, idle);
  body.on('data', (chunk: Buffer) => {
    timer.refresh();
    count(chunk.length);
  });
  body.once('end', () => {
    const trailers = trailerFields(head.fields, response.trailers());
    if (trailers.length > 0) res.addTrailers(trailers.map(({ name, value }): [string, string] => [name, value]));
  });

  // A client of HTTP/1.0 does not know chunks (RFC 9112, 7), though Node would send them if it said `TE: chunked`.
  if (head.version === '1.0') res.useChunkedEncodingByDefault = false;
  const closing = close ? [field('Connection', 'close')] : [];
  try {
    res.writeHead(response.status, response.reason, rawFromFields([...responseFields(response.status, response.fields), ...closing]));
    // Waiting for a body that comes later (server-sent events) must not hold the head back.
    // flushHeaders() would turn bytes beyond ASCII into UTF-8.
    if (body.readableLength === 0) res.write(Buffer.alloc(0));
    await pipeline(body, res);
  } catch (error) {
    body.destroy();
    res.destroy();
    throw fault ?? error;
  } finally {
    clearTimeout(timer);
  }
}
