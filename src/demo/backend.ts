import { once } from 'node:events';
import * as http from 'node:http';

/** An old application: plain HTTP on loopback, answering with what it was asked. */
export async function startBackend(port: number): Promise<http.Server> {
  const server = http.createServer((req, res) => {
    const fields = Array.from({ length: req.rawHeaders.length / 2 }, (_, i) => `${req.rawHeaders[2 * i]}: ${req.rawHeaders[2 * i + 1]}`);
    res.setHeader('Content-Type', 'text/plain; charset=utf-8');
    res.end(`Hello from the demo backend. It got this request over plain HTTP:\n\n${req.method} ${req.url} HTTP/${req.httpVersion}\n${fields.join('\n')}\n`);
    req.resume();
  });
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  return server;
}
