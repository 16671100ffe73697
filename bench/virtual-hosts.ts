import { mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { makeMaterial, type Material } from './material.ts';
import { type PeerOptions, staplegate, startConfigured } from './peers.ts';
import { cpuOf, type Measure, startedAnew } from './round-robin.ts';
import type { Command } from './server-process.ts';
import { handshakes } from './tls-clients.ts';

type Configure = (port: number, folder: string, file: (name: string) => string) => { files: Record<string, string>; command: Command };

/** Names that are asked for: each once while it is cold, then each once more. */
const askedNames = 1_000;
/** Milliseconds after the first handshake: what the start leaves to be done later, and to be cleaned up, is no part of a handshake. */
const rest = 15_000;

/** Many names, each with a certificate of its own: how long a start takes, how much memory, and what a name costs that nobody has asked for yet. */
export function virtualHosts(count: number): Measure {
  return async (bench, peers) => {
    const folder = path.join(bench.folder, 'virtual-hosts');
    await mkdir(folder, { recursive: true });
    bench.say(`  making ${count} certificates`);
    const material = await makeMaterial(folder, count, []);
    const combinedDir = await writeCombined(folder, material);
    const configure = configurations(material, combinedDir, bench.options);
    const some = material.names.filter((_, i) => i % (count / askedNames) === 0);
    return startedAnew(
      bench,
      peers.filter((name) => Object.hasOwn(configure, name)),
      (name) => startConfigured(name, folder, configure[name]!),
      async (server) => {
        // The kernel accepts connections before the server can: only a handshake shows that it serves.
        await handshakes({ port: server.port, count: 1, names: [material.names[1]!] });
        const seconds = (performance.now() - server.started) / 1000;
        await delay(rest);
        const megabytes = server.memory() / 1024 / 1024;
        const askAll = (): Promise<number> =>
          cpuOf(server, async () => {
            await handshakes({ port: server.port, count: some.length, names: some });
            return some.length;
          });
        return { seconds, megabytes, cold: await askAll(), warm: await askAll() };
      },
    );
  };
}

/** Key and chain in one file, as haproxy wants them. */
async function writeCombined(folder: string, { names, certificatesDir }: Material): Promise<string> {
  const directory = path.join(folder, 'combined');
  await mkdir(directory);
  for (const name of names) {
    const [chain, key] = await Promise.all([readFile(path.join(certificatesDir, `${name}.pem`)), readFile(path.join(certificatesDir, `${name}.key`))]);
    await writeFile(path.join(directory, `${name}.pem`), Buffer.concat([key, chain]));
  }
  return directory;
}

function configurations({ names, certificatesDir }: Material, combinedDir: string, options: PeerOptions): Record<string, Configure> {
  return {
    nginx: (port, folder, file) => ({
      files: {
        'nginx.conf': `
          daemon off; pid ${folder}/nginx.pid; error_log stderr warn; worker_processes 1; events { worker_connections 4096; }
          http {
            access_log off; ssl_protocols TLSv1.2 TLSv1.3; server_names_hash_max_size 65536; ssl_session_cache shared:SSL:10m;
            ${names
              .map(
                (name) => `server { listen 127.0.0.1:${port} ssl; server_name ${name};
                  ssl_certificate ${certificatesDir}/${name}.pem; ssl_certificate_key ${certificatesDir}/${name}.key; return 204; }`,
              )
              .join('\n')}
          }`,
      },
      command: { argv: ['nginx', '-e', 'stderr', '-p', folder, '-c', file('nginx.conf')] },
    }),
    haproxy: (port, _folder, file) => ({
      files: {
        'haproxy.cfg': `
global
  nbthread 1
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend tls
  bind 127.0.0.1:${port} ssl crt ${combinedDir}
  http-request return status 204
`,
      },
      command: { argv: ['haproxy', '-db', '-f', file('haproxy.cfg')] },
    }),
    staplegate: (port, folder, file) => ({
      files: {
        'config.yaml': JSON.stringify({
          listen: [{ address: `127.0.0.1:${port}` }],
          workers: 1,
          state_dir: path.join(folder, 'state'),
          certificates_dir: certificatesDir,
          log: { level: 'error' },
          ocsp: { stapling: false },
          virtual_hosts: names.map((name) => ({ server_name: name, backends: ['http://127.0.0.1:9'] })),
        }),
      },
      command: staplegate(file('config.yaml'), options),
    }),
  };
}
