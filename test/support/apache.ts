import { chmod, mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { closedPort } from './backend.ts';
import { foreground } from './foreground.ts';

export interface Apache extends AsyncDisposable {
  /** For `backends`. */
  url: string;
}

const modules = 'mpm_event authz_core cgid alias mime filter deflate headers dir';

/** Says what it was sent: method, target and length as the server tells them, and the body's SHA-256. */
const script = `#!/bin/sh
printf 'Content-Type: text/plain\\r\\n\\r\\n'
printf '%s %s %s ' "$REQUEST_METHOD" "$REQUEST_URI" "\${CONTENT_LENGTH:-none}"
sha256sum | cut -c-64
`;

/**
 * A real Apache httpd as backend, on a free port, as the current user and in the foreground. /cgi/told says what it was
 * sent; the files of the folder's `apache/www` are compressed, in chunks, for whoever accepts that.
 * @param folder for its files
 */
export async function startApache(folder: string): Promise<Apache> {
  const url = await closedPort();
  const home = path.join(folder, 'apache');
  await mkdir(path.join(home, 'www'), { recursive: true });
  await mkdir(path.join(home, 'cgi'));
  await writeFile(path.join(home, 'cgi', 'told'), script);
  await chmod(path.join(home, 'cgi', 'told'), 0o755);
  // Its processes run as others when root starts it.
  await Promise.all([folder, home].map((name) => chmod(name, 0o755)));
  const file = path.join(home, 'apache.conf');
  await writeFile(
    file,
    `ServerRoot ${home}
    ${modules.replaceAll(/\w+/g, (name) => `LoadModule ${name}_module /usr/lib/apache2/modules/mod_${name}.so\n`)}
    Listen ${new URL(url).host}
    ServerName backend.test
    User www-data
    Group www-data
    PidFile ${home}/apache.pid
    ScriptSock ${home}/cgid.sock
    Mutex fcntl:${home}
    ErrorLog |/bin/cat
    DocumentRoot ${home}/www
    ScriptAlias /cgi/ ${home}/cgi/
    KeepAliveTimeout 5
    <Directory />
      Require all granted
    </Directory>
    AddOutputFilterByType DEFLATE text/plain
    TypesConfig /dev/null
    AddType text/plain .txt
    FileETag None\n`,
  );
  const server = await foreground('apache2', ['-D', 'FOREGROUND', '-d', home, '-f', file], /resuming normal operations/);
  return { url, [Symbol.asyncDispose]: () => server[Symbol.asyncDispose]() };
}
