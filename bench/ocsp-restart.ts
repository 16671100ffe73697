import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { X509Certificate } from 'node:crypto';
import { signResponse } from '../src/demo/ocsp-signer.ts';
import { configOf, makeMaterial } from './material.ts';

/** How long a start with many cached staples takes, the responder being down: `node bench/ocsp-restart.ts [COUNT]`. */

const count = Number(process.argv[2] ?? 10_000);
const folder = await mkdtemp(path.join(tmpdir(), 'staplegate-bench-'));
const { authority, names, certificatesDir } = await makeMaterial(folder, count, ['http://127.0.0.1:9/']);
const cache = path.join(folder, 'state', 'ocsp');
await mkdir(cache, { recursive: true, mode: 0o700 });
const fingerprint = (certificate: X509Certificate) => certificate.fingerprint256.replaceAll(':', '').toLowerCase();
const producedAt = new Date(Date.now() - 60_000);
for (const name of names) {
  const leaf = new X509Certificate(await readFile(path.join(certificatesDir, `${name}.pem`)));
  const der = signResponse({ signer: authority, producedAt, entries: [{ certId: { leaf, issuer: authority.certificate }, thisUpdate: producedAt }] });
  await writeFile(path.join(cache, `${fingerprint(leaf)}-${fingerprint(authority.certificate)}.der`), der);
}
const config = path.join(folder, 'config.yaml');
await writeFile(config, configOf(names, certificatesDir, folder, 1));

const started = performance.now();
const program = spawn(process.execPath, [fileURLToPath(new URL('../src/main.ts', import.meta.url)), 'run', '--config', config], {
  stdio: ['ignore', 'inherit', 'pipe'],
});
let listening = 0;
for await (const line of createInterface({ input: program.stderr })) {
  if (line.includes('listening on')) listening ||= performance.now() - started;
  if (line.includes(' serving ')) break;
}
const serving = performance.now() - started;
const memory = Number(/VmRSS:\s+(\d+)/.exec(await readFile(`/proc/${program.pid}/status`, 'utf8'))?.[1]);
let onDisk = 0;
for (const name of await readdir(cache)) onDisk += (await stat(path.join(cache, name))).size;
program.kill('SIGTERM');
await once(program, 'exit');
console.log(
  JSON.stringify({
    bench: 'ocsp-restart',
    certificates: count,
    listening_ms: Math.round(listening),
    serving_ms: Math.round(serving),
    ms_per_certificate: Number((serving / count).toFixed(3)),
    supervisor_kb: memory,
    supervisor_kb_per_certificate: Number((memory / count).toFixed(1)),
    bytes_on_disk_per_staple: Math.round(onDisk / count),
  }),
);
await rm(folder, { recursive: true });
