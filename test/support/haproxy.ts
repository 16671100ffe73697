import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import * as net from 'node:net';
import path from 'node:path';

export interface Haproxy extends AsyncDisposable {
  /** `HOST:PORT` where it ends TLS. */
  secure: string;
  /** `HOST:PORT` for plain HTTP. */
  plain: string;
}

/**
 * A real HAProxy that wants a PROXY header, with TLS and without. It answers every request with what it knows of the client:
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
      bind fd@4 accept-proxy
      bind fd@3 accept-proxy ssl crt ${crt} alpn h2,http/1.1
      http-request return status 200 content-type text/plain lf-string "%[src] %[src_port] %[dst] %[dst_port] %[fc_pp_authority]"\n`,
  );
  // It inherits sockets that listen already: who connects early waits in the queue.
  const servers = [net.createServer(), net.createServer()];
  const descriptors: number[] = [];
  const [secure = '', plain = ''] = await Promise.all(
    servers.map(async (server) => {
      await once(server.listen(0, '127.0.0.1'), 'listening');
      descriptors.push((server as unknown as { _handle: { fd: number } })._handle.fd);
      return `127.0.0.1:${(server.address() as net.AddressInfo).port}`;
    }),
  );
  const child = spawn('haproxy', ['-db', '-f', file], {
    stdio: ['ignore', 'ignore', 'pipe', ...descriptors],
    env: { ...process.env, PATH: `${process.env['PATH']}:/usr/sbin` },
  });
  let said = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => (said += text));
  const exited = once(child, 'exit').then(([code]) => {
    if (code !== null) throw new Error(`HAProxy did not run: ${said}`);
  });
  for (const server of servers) server.close();
  const stop = async (): Promise<void> => {
    child.kill('SIGKILL');
    await exited;
  };
  return { secure, plain, [Symbol.asyncDispose]: stop };
}
