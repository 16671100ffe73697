import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import * as net from 'node:net';
import path from 'node:path';

export interface Haproxy extends AsyncDisposable {
  /** For `backends` with `tls: passthrough`. */
  url: string;
}

/**
 * A real HAProxy that ends TLS and wants a PROXY header. It answers every request with what it knows of the client:
 * source address and port, destination address and port, and the name in the header.
 * @param folder for its files
 * @param pem certificate and key
 */
export async function startHaproxy(folder: string, pem: string): Promise<Haproxy> {
  const [file, crt] = [path.join(folder, 'haproxy.cfg'), path.join(folder, 'haproxy.pem')];
  await writeFile(crt, pem);
  await writeFile(
    file,
    `defaults
      mode http
      timeout client 10s
      timeout connect 1s
      timeout server 1s
    frontend front
      bind fd@3 accept-proxy ssl crt ${crt} alpn h2,http/1.1
      http-request return status 200 content-type text/plain lf-string "%[src] %[src_port] %[dst] %[dst_port] %[fc_pp_authority]"\n`,
  );
  // It inherits a socket that listens already: who connects early waits in the queue.
  const server = net.createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as net.AddressInfo;
  const { fd } = (server as unknown as { _handle: { fd: number } })._handle;
  const child = spawn('haproxy', ['-db', '-f', file], {
    stdio: ['ignore', 'ignore', 'pipe', fd],
    env: { ...process.env, PATH: `${process.env['PATH']}:/usr/sbin` },
  });
  let said = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => (said += text));
  const exited = once(child, 'exit').then(([code]) => {
    if (code !== null) throw new Error(`HAProxy did not run: ${said}`);
  });
  server.close();
  const stop = async (): Promise<void> => {
    child.kill('SIGKILL');
    await exited;
  };
  return { url: `tcp://127.0.0.1:${port}`, [Symbol.asyncDispose]: stop };
}
