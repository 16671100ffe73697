import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import * as tls from 'node:tls';
import { signResponse } from '../src/demo/ocsp-signer.ts';
import { makeMaterial } from './material.ts';
import { cpuTime } from './neighbour.ts';
import { Program } from './program.ts';

/** How long a start with many cached staples takes, the responder being down: `node bench/ocsp-restart.ts [COUNT]`. */

const count = Number(process.argv[2] ?? 10_000);
const folder = await mkdtemp(path.join(tmpdir(), 'staplegate-bench-'));
const material = await makeMaterial(folder, count, ['http://127.0.0.1:9/']);
const { authority, names, certificatesDir } = material;
const cache = path.join(folder, 'state', 'ocsp');
await mkdir(cache, { recursive: true, mode: 0o700 });
const fingerprint = (certificate: X509Certificate) => certificate.fingerprint256.replaceAll(':', '').toLowerCase();
const producedAt = new Date(Date.now() - 60_000);
for (const name of names) {
  const leaf = new X509Certificate(await readFile(path.join(certificatesDir, `${name}.pem`)));
  const der = signResponse({ signer: authority, producedAt, entries: [{ certId: { leaf, issuer: authority.certificate }, thisUpdate: producedAt }] });
  await writeFile(path.join(cache, `${fingerprint(leaf)}-${fingerprint(authority.certificate)}.der`), der);
}

/** When a handshake that was begun as soon as the port was open had its staple, in milliseconds since the start. */
const stapled = async (port: number, servername: string, begun: number): Promise<number> => {
  const since = performance.now();
  const socket = tls.connect({ port, host: '127.0.0.1', servername, rejectUnauthorized: false, requestOCSP: true });
  const [staple] = (await once(socket, 'OCSPResponse')) as [Buffer | null];
  if (staple === null) throw new Error(`no staple for ${servername}`);
  socket.destroy();
  return Math.round(begun + performance.now() - since);
};
const handshakes: Promise<number>[] = [];
const program = await Program.start(folder, material, (line, after) => {
  const port = /listening on 127\.0\.0\.1:(\d+)/.exec(line)?.[1];
  if (port !== undefined) for (const name of [names[0]!, names.at(-1)!]) handshakes.push(stapled(Number(port), name, after));
});
const [firstStapled, lastStapled] = await Promise.all(handshakes);
const servingCpu = await cpuTime(program.pid);
const memory = await program.memory('VmRSS');
const workerMemory = await program.memory('VmRSS', await program.workerPid());
let onDisk = 0;
for (const name of await readdir(cache)) onDisk += (await stat(path.join(cache, name))).size;
await program.stop();
console.log(
  JSON.stringify({
    bench: 'ocsp-restart',
    certificates: count,
    listening_ms: Math.round(program.listeningAfter),
    first_stapled_ms: firstStapled,
    last_stapled_ms: lastStapled,
    serving_ms: Math.round(program.servingAfter),
    supervisor_cpu_ms: servingCpu,
    ms_per_certificate: Number((program.servingAfter / count).toFixed(3)),
    supervisor_kb: memory,
    worker_kb: workerMemory,
    supervisor_kb_per_certificate: Number((memory / count).toFixed(1)),
    bytes_on_disk_per_staple: Math.round(onDisk / count),
  }),
);
await rm(folder, { recursive: true });
