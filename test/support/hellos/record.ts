import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { closedPort } from '../backend.ts';
import { firstFlight } from '../hello.ts';
import { execute, temporaryFolder } from '../program.ts';

/**
 * Records the ClientHellos of the clients that are installed here: `node test/support/hellos/record.ts`, with names of
 * recordings to make those only. Each goes to NAME.json beside this file. Nothing leaves the machine.
 */

const name = 'shop.example.org';

interface Recorder {
  /** Says which client and version it is, in the first line that matches. */
  version: [command: string, args: string[], pattern: RegExp];
  /** What was asked of it, for the reader of the recording. */
  options: string;
  /** Makes it connect to this port of 127.0.0.1; it may hang until `firstFlight` has hung up. */
  connect: (port: number, folder: string) => Promise<unknown>;
}

const openssl = (...options: string[]): Recorder => ({
  version: ['openssl', ['version'], /^OpenSSL \S+/],
  options: `s_client ${options.join(' ')}`,
  connect: (port) => execute('openssl', ['s_client', '-connect', `127.0.0.1:${port}`, ...options]),
});
const named = ['-servername', name];

const gnutls = (...options: string[]): Recorder => ({
  version: ['gnutls-cli', ['--version'], /^gnutls-cli \S+/],
  options: options.join(' '),
  connect: (port) => execute('gnutls-cli', ['-p', String(port), '127.0.0.1', ...options]),
});

const curl = (...options: string[]): Recorder => ({
  version: ['curl', ['--version'], /libcurl\S+ \S+/],
  options: options.join(' '),
  connect: (port) => execute('curl', ['-sk', '--noproxy', '*', '--resolve', `${name}:${port}:127.0.0.1`, ...options, `https://${name}:${port}/`]),
});

/** Network Security Services, the library of Firefox. */
const nss = (...options: string[]): Recorder => ({
  version: ['sh', ['-c', 'dpkg-query -W -f="NSS \\${Version}\\n" libnss3 | sed s/2://'], /^NSS \S+/],
  options: `tstclnt ${options.join(' ')}`,
  connect: (port) => execute('tstclnt', ['-h', '127.0.0.1', '-p', String(port), '-a', name, '-o', '-D', ...options]),
});

/** A proxy that listens at `address` and asks the recorder as soon as it is asked itself. */
async function throughProxy(command: string, args: string[], { address, folder }: { address: string; folder: string }): Promise<void> {
  const child = spawn(command, args, { stdio: 'ignore', env: { ...process.env, HOME: folder, PATH: `${process.env['PATH']}:/usr/sbin` } });
  const exited = once(child, 'exit');
  await execute('curl', ['-s', '--noproxy', '*', '--retry', '5', '--retry-connrefused', '--retry-delay', '1', '-m', '10', `http://${address}/`]);
  child.kill();
  await exited;
}

const recorders: Record<string, Recorder> = {
  'openssl-default': openssl(...named, '-status', '-alpn', 'h2,http/1.1'),
  'openssl-tls13': openssl(...named, '-tls1_3', '-groups', 'X448:P-521', '-sigalgs', 'ed25519:ed448:rsa_pss_pss_sha256'),
  'openssl-tls12': openssl('-tls1_2', '-noservername'),
  'openssl-tls11': openssl(...named, '-tls1_1', '-cipher', 'ALL:@SECLEVEL=0'),
  'openssl-tls10': openssl('-noservername', '-tls1', '-cipher', 'AES128-SHA:@SECLEVEL=0'),
  'gnutls-default': gnutls(`--sni-hostname=${name}`, '--alpn=http/1.1'),
  'gnutls-tls12': gnutls(`--sni-hostname=${name}`, '--priority=NORMAL:-VERS-ALL:+VERS-TLS1.2:%DUMBFW'),
  'gnutls-tls10-bare': gnutls('--priority=NORMAL:-VERS-ALL:+VERS-TLS1.0:%NO_EXTENSIONS'),
  'nss-tls13': nss('-V', 'tls1.2:tls1.3', '-T'),
  'nss-tls10': nss('-V', 'tls1.0:tls1.0'),
  'curl-default': curl(),
  'curl-tls12': curl('--tls-max', '1.2', '--no-alpn', '--cert-status'),
  wget: {
    version: ['wget', ['--version'], /^GNU Wget \S+/],
    options: '(with GnuTLS)',
    connect: (port) => execute('wget', ['-q', '-O', '/dev/null', '--tries=1', '--no-proxy', `https://localhost:${port}/`]),
  },
  chromium: {
    version: ['chromium', ['--version'], /^Chromium \S+/],
    options: '--headless',
    connect: (port, folder) => {
      const quiet = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run', '--disable-background-networking'];
      const network = ['--no-proxy-server', '--host-resolver-rules=MAP * 127.0.0.1', `--user-data-dir=${folder}/chromium`];
      return execute('chromium', [...quiet, ...network, '--dump-dom', `https://${name}:${port}/`], { env: { ...process.env, HOME: folder } });
    },
  },
  firefox: {
    version: ['firefox-esr', ['--version'], /^Mozilla Firefox \S+/],
    options: '--headless',
    connect: async (port, folder) => {
      const profile = path.join(folder, 'firefox');
      await mkdir(profile);
      const preferences = { 'network.dns.forceResolve': '127.0.0.1', 'network.proxy.type': 0, 'network.captive-portal-service.enabled': false };
      await writeFile(
        path.join(profile, 'user.js'),
        Object.entries(preferences)
          .map(([key, value]) => `user_pref('${key}', ${JSON.stringify(value)});\n`)
          .join(''),
      );
      const args = ['--headless', '--no-remote', '--profile', profile, '--screenshot', path.join(folder, 'page.png'), `https://${name}:${port}/`];
      return execute('firefox-esr', args, { env: { ...process.env, HOME: folder } });
    },
  },
  'java-17': {
    version: ['java', ['--version'], /^openjdk \S+/],
    options: 'keytool -printcert -sslserver',
    connect: async (port, folder) => {
      await writeFile(path.join(folder, 'hosts'), `127.0.0.1 ${name}\n`);
      return execute('keytool', [`-J-Djdk.net.hosts.file=${folder}/hosts`, '-printcert', '-sslserver', `${name}:${port}`]);
    },
  },
  'go-cfssl': {
    version: ['sh', ['-c', 'strings -n 6 "$(command -v cfssl)" | grep -m1 -E "^go1[.0-9]+$"'], /^go\S+/],
    options: 'crypto/tls, as cfssl certinfo -domain uses it',
    connect: (port) => execute('cfssl', ['certinfo', '-domain', `localhost:${port}`]),
  },
  'go-caddy': {
    version: ['sh', ['-c', 'strings -n 6 "$(command -v caddy)" | grep -m1 -E "^go1[.0-9]+$"'], /^go\S+/],
    options: 'net/http, as Caddy’s reverse_proxy uses it',
    connect: async (port, folder) => {
      const address = new URL(await closedPort()).host;
      const file = path.join(folder, 'Caddyfile');
      // Left to itself, Caddy makes an authority and installs it as trusted on this machine.
      const global = '{\n auto_https off\n admin off\n skip_install_trust\n}';
      const transport = `transport http {\n tls_server_name ${name}\n tls_insecure_skip_verify\n}`;
      await writeFile(file, `${global}\nhttp://${address} {\n reverse_proxy https://127.0.0.1:${port} {\n${transport}\n}\n}\n`);
      await throughProxy('caddy', ['run', '--adapter', 'caddyfile', '--config', file], { address, folder });
    },
  },
  nginx: {
    version: ['sh', ['-c', 'PATH=$PATH:/usr/sbin nginx -v 2>&1'], /nginx\/\S+/],
    options: 'proxy_pass https://',
    connect: async (port, folder) => {
      const address = new URL(await closedPort()).host;
      const file = path.join(folder, 'nginx.conf');
      const scratch = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((kind) => `${kind}_temp_path ${folder}/${kind};`);
      const pass = `proxy_pass https://127.0.0.1:${port}; proxy_ssl_server_name on; proxy_ssl_name ${name};`;
      await writeFile(
        file,
        `daemon off; master_process off; pid ${folder}/nginx.pid; error_log /dev/null;
         events {} http { access_log off; ${scratch.join(' ')} server { listen ${address}; location / { ${pass} } } }`,
      );
      await throughProxy('nginx', ['-p', folder, '-e', '/dev/null', '-c', file], { address, folder });
    },
  },
  haproxy: {
    version: ['sh', ['-c', 'PATH=$PATH:/usr/sbin haproxy -v'], /^HAProxy version \S+/],
    options: 'server … ssl verify none sni str(…) alpn h2,http/1.1',
    connect: async (port, folder) => {
      const address = new URL(await closedPort()).host;
      const file = path.join(folder, 'haproxy.cfg');
      const server = `server s 127.0.0.1:${port} ssl verify none sni str(${name}) alpn h2,http/1.1`;
      await writeFile(file, `defaults\n mode http\n timeout connect 1s\n timeout client 1s\n timeout server 1s\nlisten l\n bind ${address}\n ${server}\n`);
      await throughProxy('haproxy', ['-db', '-f', file], { address, folder });
    },
  },
  python: {
    version: ['/usr/bin/python3', ['-c', 'import ssl, sys; print("Python", sys.version.split()[0], ssl.OPENSSL_VERSION)'], /^Python .* OpenSSL \S+/],
    options: 'ssl.create_default_context()',
    connect: (port) => {
      const code = `import socket, ssl\nssl.create_default_context().wrap_socket(socket.create_connection(('127.0.0.1', ${port})), server_hostname='${name}')`;
      return execute('/usr/bin/python3', ['-c', code]);
    },
  },
  node: {
    version: ['node', ['-p', '`Node ${process.versions.node} OpenSSL ${process.versions.openssl}`'], /^Node .*/],
    options: "tls.connect, ALPNProtocols: ['h2', 'http/1.1']",
    connect: (port) => {
      const options = JSON.stringify({ host: '127.0.0.1', port, servername: name, ALPNProtocols: ['h2', 'http/1.1'] });
      return execute(process.execPath, ['-e', `tls.connect(${options}).on('error', () => {})`]);
    },
  },
};

const wanted = process.argv.slice(2);
for (const [stem, { version, options, connect }] of Object.entries(recorders)) {
  if (wanted.length > 0 && !wanted.includes(stem)) continue;
  const [command, args, pattern] = version;
  const client = pattern.exec((await execute(command, args)).stdout)?.[0];
  if (client === undefined) {
    console.error(`${stem}: ${command} is not installed`);
    continue;
  }
  await using folder = await temporaryFolder();
  const hello = await firstFlight((port) => connect(port, folder.path));
  const file = fileURLToPath(new URL(`${stem}.json`, import.meta.url));
  const recording = { client, options, recorded: new Date().toISOString().slice(0, 10), hello: hello.toString('base64') };
  await writeFile(file, `${JSON.stringify(recording, undefined, 2)}\n`);
  console.log(`${stem}: ${client}, ${hello.length} bytes`);
}
