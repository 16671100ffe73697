import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { closedPort } from './backend.ts';
import { foreground } from './foreground.ts';

export interface Nginx extends AsyncDisposable {
  /** For `backends`. */
  url: string;
}

/**
 * A real nginx as backend, on a free port, as the current user and in the foreground. It says what it was asked:
 * `nginx GET / host=… proto=…`; /static/ are the files of the folder's `www`.
 * @param folder for its files
 * @param servers more of its `server { … }`
 */
export async function startNginx(folder: string, servers = ''): Promise<Nginx> {
  const url = await closedPort();
  const home = path.join(folder, 'nginx');
  await mkdir(path.join(home, 'www'), { recursive: true });
  const file = path.join(home, 'nginx.conf');
  const scratch = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((name) => `${name}_temp_path ${home}/${name};`);
  await writeFile(
    file,
    `daemon off; master_process off; pid ${home}/nginx.pid; error_log stderr notice;
    events { worker_connections 256; }
    http {
      access_log off; default_type text/plain; ${scratch.join(' ')}
      server {
        listen ${new URL(url).host};
        location / { return 200 "nginx $request_method $request_uri host=$http_host proto=$http_x_forwarded_proto\\n"; }
        location /static/ { alias ${home}/www/; }
      }
      ${servers}
    }`,
  );
  // It binds its sockets before it says which version it is.
  const server = await foreground('nginx', ['-e', 'stderr', '-p', home, '-c', file], / nginx\//);
  return { url, [Symbol.asyncDispose]: () => server[Symbol.asyncDispose]() };
}
