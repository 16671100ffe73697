import { readFileSync } from 'node:fs';
import * as net from 'node:net';
import * as tls from 'node:tls';

/**
 * The least that Node's TLS costs, as a program: `answer` gives a constant response to every request without reading it,
 * `relay` passes bytes on to the backend.
 */

const [what, port, backend, certificate, key] = process.argv.slice(2);
const options = { cert: readFileSync(certificate!), key: readFileSync(key!) };
const head = 'HTTP/1.1 200 OK\r\nServer: floor\r\nContent-Type: text/plain\r\nContent-Length: 12\r\n\r\n';
const response = Buffer.from(`${head}hello world\n`, 'latin1');

function answer(client: tls.TLSSocket): void {
  // A client that waits for each answer sends one request at a time, in one piece.
  client.on('data', () => client.write(response));
  client.on('error', () => client.destroy());
}

function relay(client: tls.TLSSocket): void {
  const upstream = net.connect({ port: Number(backend), host: '127.0.0.1', noDelay: true });
  for (const [from, to] of [
    [client, upstream],
    [upstream, client],
  ] as const) {
    from.on('data', (bytes: Buffer) => {
      if (!to.write(bytes)) from.pause();
    });
    to.on('drain', () => from.resume());
    from.on('end', () => to.end());
    from.on('error', () => to.destroy());
  }
}

tls
  .createServer({ ...options, noDelay: true }, what === 'answer' ? answer : relay)
  .on('tlsClientError', () => {})
  .listen(Number(port), '127.0.0.1');
