import { execFileSync } from 'node:child_process';
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Credentials, serverName } from './credentials.ts';
import { type Command, freePort, ServerProcess } from './server-process.ts';

/** What a server is set up for. */
export interface Setup {
  /** For its files. */
  folder: string;
  port: number;
  /** Port of the backend, plain HTTP on 127.0.0.1. */
  backend: number;
  /** It speaks HTTP/2. */
  http2?: boolean;
  workers: number;
  credentials: Credentials;
  /** Staplegate alone can staple a given response without more; the others serve without. */
  staple: boolean;
  options: PeerOptions;
}

export interface PeerOptions {
  /** Staplegate's forwarding engine; its own default when undefined. */
  engine?: string;
  /** Where Staplegate's processes leave their CPU profiles. */
  cpuProfiles?: string;
}

/** `grpc` is HTTP/2 on both sides. */
export type Protocol = 'h1' | 'h2' | 'websocket' | 'grpc';

export interface Peer {
  /** Shell command whose first line holds the version; none for what Node runs. */
  version?: string;
  speaks: readonly Protocol[];
  /** Writes configuration files by name, and says how to start. `file` gives the path of one. */
  command(setup: Setup, file: (name: string) => string): { files: Record<string, string>; command: Command };
}

const here = (name: string): string => fileURLToPath(new URL(name, import.meta.url));
const asRoot = process.getuid?.() === 0;
const many = 1_000_000;
const local = (port: number): string => `http://127.0.0.1:${port}`;

const proxyPass = `
  proxy_pass http://application; proxy_http_version 1.1;
  proxy_request_buffering off; proxy_max_temp_file_size 0;
  proxy_set_header Host $host; proxy_set_header X-Forwarded-Proto $scheme;
  proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
  proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_field;
`;
const grpcPass = `
  grpc_pass grpc://application;
  grpc_set_header Host $host; grpc_set_header X-Forwarded-Proto $scheme;
  grpc_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
`;

/**
 * Every server as an administrator would run it, with what keeps a comparison fair: no access log, connections to clients
 * and backends kept open without a limit of requests, streaming bodies, and the X-Forwarded fields that an application wants.
 */
export const peers: Record<string, Peer> = {
  nginx: {
    version: 'nginx -v 2>&1',
    speaks: ['h1', 'h2', 'websocket', 'grpc'],
    command: ({ folder, port, backend, http2, workers, credentials }, file) => ({
      files: {
        'nginx.conf': `
          daemon off; pid ${folder}/nginx.pid; error_log stderr warn; worker_processes ${workers}; worker_rlimit_nofile 65536;
          ${asRoot ? 'user root;' : ''}
          events { worker_connections 16384; }
          http {
            access_log off;
            ${['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((name) => `${name}_temp_path ${folder}/${name};`).join(' ')}
            keepalive_requests ${many};
            ssl_protocols TLSv1.2 TLSv1.3; ssl_session_cache shared:SSL:10m;
            map $http_upgrade $connection_field { default upgrade; '' ''; }
            upstream application { server 127.0.0.1:${backend}; keepalive 256; keepalive_requests ${many}; }
            server {
              listen 127.0.0.1:${port} ssl http2; server_name ${serverName};
              ssl_certificate ${credentials.certificate}; ssl_certificate_key ${credentials.key};
              client_max_body_size 0;
              location / { ${http2 ? grpcPass : proxyPass} }
            }
          }`,
      },
      command: { argv: ['nginx', '-e', 'stderr', '-p', folder, '-c', file('nginx.conf')] },
    }),
  },
  haproxy: {
    version: 'haproxy -v',
    speaks: ['h1', 'h2', 'websocket', 'grpc'],
    command: ({ port, backend, http2, workers, credentials }, file) => ({
      files: {
        'haproxy.cfg': `
global
  nbthread ${workers}
  maxconn 8000
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  timeout tunnel 1h
  option forwardfor
frontend tls
  bind 127.0.0.1:${port} ssl crt ${credentials.combined} alpn h2,http/1.1 ssl-min-ver TLSv1.2
  http-request set-header X-Forwarded-Proto https
  default_backend application
backend application
  server one 127.0.0.1:${backend}${http2 ? ' proto h2' : ''}
`,
      },
      command: { argv: ['haproxy', '-db', '-f', file('haproxy.cfg')] },
    }),
  },
  // TLS off, bytes on: it does not read HTTP.
  hitch: {
    version: 'hitch --version',
    speaks: ['h1', 'websocket'],
    command: ({ port, backend, workers, credentials }, file) => ({
      files: {
        'hitch.conf': `
frontend = { host = "127.0.0.1" port = "${port}" }
backend = "[127.0.0.1]:${backend}"
pem-file = "${credentials.combined}"
workers = ${workers}
tls-protos = TLSv1.2 TLSv1.3
log-level = 0
${asRoot ? 'user = "nobody"' : ''}
`,
      },
      command: { argv: ['hitch', `--config=${file('hitch.conf')}`] },
    }),
  },
  caddy: {
    version: 'echo caddy $(caddy version)',
    speaks: ['h1', 'h2', 'websocket', 'grpc'],
    command: ({ folder, port, backend, http2, workers, credentials }, file) => ({
      files: {
        Caddyfile: `
{
  admin off
  auto_https off
  log {
    level WARN
  }
}
https://${serverName}:${port} {
  bind 127.0.0.1
  tls ${credentials.certificate} ${credentials.key}
  reverse_proxy 127.0.0.1:${backend} {
    transport http {
      keepalive_idle_conns_per_host 256
      ${http2 ? 'versions h2c 2' : ''}
    }
  }
}
`,
      },
      command: {
        argv: ['caddy', 'run', '--adapter', 'caddyfile', '--config', file('Caddyfile')],
        env: { GOMAXPROCS: String(workers), HOME: folder, XDG_DATA_HOME: folder, XDG_CONFIG_HOME: folder },
      },
    }),
  },
  apache: {
    version: 'apache2 -v',
    speaks: ['h1', 'h2', 'websocket'],
    command: ({ folder, port, backend, workers, credentials }, file) => ({
      files: {
        'apache.conf': `
ServerRoot ${folder}
ServerName ${serverName}
PidFile ${folder}/apache.pid
DefaultRuntimeDir ${folder}
ErrorLog ${folder}/apache.log
LogLevel error
${['mpm_event', 'authz_core', 'headers', 'proxy', 'proxy_http', 'socache_shmcb', 'ssl', 'http2', 'reqtimeout'].map((name) => `LoadModule ${name}_module /usr/lib/apache2/modules/mod_${name}.so`).join('\n')}
${asRoot ? 'User www-data\nGroup www-data' : ''}
StartServers ${workers}
ServerLimit ${workers}
ThreadLimit 150
ThreadsPerChild 150
MaxRequestWorkers ${workers * 150}
AsyncRequestWorkerFactor 64
MinSpareThreads 1
MaxSpareThreads ${workers * 150}
MaxKeepAliveRequests 0
KeepAliveTimeout 60
Listen 127.0.0.1:${port}
SSLSessionCache shmcb:${folder}/sessions(10240000)
SSLProtocol -all +TLSv1.2 +TLSv1.3
Protocols h2 http/1.1
SSLEngine on
SSLCertificateFile ${credentials.certificate}
SSLCertificateKeyFile ${credentials.key}
RequestHeader set X-Forwarded-Proto https
ProxyPreserveHost on
ProxyPass / http://127.0.0.1:${backend}/ upgrade=websocket
`,
      },
      command: { argv: ['apache2', '-D', 'FOREGROUND', '-f', file('apache.conf')] },
    }),
  },
  staplegate: {
    speaks: ['h1', 'h2', 'websocket', 'grpc'],
    command: ({ folder, port, backend, http2, workers, credentials, staple, options }, file) => ({
      files: {
        'config.yaml': JSON.stringify({
          listen: [{ address: `127.0.0.1:${port}` }],
          workers,
          shutdown_grace: '1s',
          state_dir: path.join(folder, 'state'),
          log: { level: 'warn' },
          ocsp: staple ? { responder: 'none' } : { stapling: false },
          virtual_hosts: [
            {
              server_name: serverName,
              certificates: [{ certificate: credentials.certificate, key: credentials.key, ...(staple && { ocsp_response: credentials.ocspResponse }) }],
              ...(http2 ? { routes: [{ path: '/', backends: [local(backend)], http_version: 2 }] } : { backends: [local(backend)] }),
              ...(options.engine !== undefined && { engine: options.engine }),
            },
          ],
        }),
      },
      command: staplegate(file('config.yaml'), options),
    }),
  },
  // What Node's TLS costs before any proxy: one constant answer for every request, and bytes passed on unread.
  'floor-answer': { speaks: ['h1'], command: (setup) => floor('answer', setup) },
  'floor-relay': { speaks: ['h1', 'websocket'], command: (setup) => floor('relay', setup) },
};

/** How to start Staplegate with this configuration. */
export function staplegate(config: string, { cpuProfiles }: PeerOptions): Command {
  return {
    argv: [process.execPath, here('../src/main.ts'), 'run', '--config', config],
    ...(cpuProfiles !== undefined && { env: { NODE_OPTIONS: `--cpu-prof --cpu-prof-dir=${cpuProfiles}` } }),
  };
}

function floor(what: string, { port, backend, credentials }: Setup): { files: Record<string, string>; command: Command } {
  return {
    files: {},
    command: { argv: [process.execPath, here('floor.ts'), what, String(port), String(backend), credentials.certificate, credentials.key] },
  };
}

/** Starts a peer in a folder of its own. */
export function startPeer(name: string, setup: Omit<Setup, 'port'>): Promise<ServerProcess> {
  return startConfigured(name, setup.folder, (port, folder, file) => peers[name]!.command({ ...setup, folder, port }, file));
}

/** Starts a server on a free port, in a new folder below `base`, with files and a command made for them. */
export async function startConfigured(
  name: string,
  base: string,
  configure: (port: number, folder: string, file: (name: string) => string) => { files: Record<string, string>; command: Command },
): Promise<ServerProcess> {
  const port = await freePort();
  const folder = path.join(base, `${name}-${port}`);
  await mkdir(folder, { recursive: true });
  const file = (base: string): string => path.join(folder, base);
  const { files, command } = configure(port, folder, file);
  for (const [base, text] of Object.entries(files)) await writeFile(file(base), text);
  return ServerProcess.start(command, port);
}

/** What is installed under this name, as one line; undefined when it is not. */
export function peerVersion(name: string): string | undefined {
  const { version } = peers[name]!;
  if (version === undefined) return `Node ${process.versions.node}, OpenSSL ${process.versions.openssl}`;
  try {
    return execFileSync('sh', ['-c', `PATH=$PATH:/usr/sbin; ${version}`], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })
      .split('\n')[0]
      ?.trim();
  } catch {
    return undefined;
  }
}
