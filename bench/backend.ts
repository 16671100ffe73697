import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { freePort, ServerProcess } from './server-process.ts';

/** Fields that an application sends nowadays, some twenty with nginx's own. */
const fields = [
  `Content-Security-Policy "default-src 'self'; img-src 'self' data: https://images.example.org; script-src 'self' 'nonce-4AEemGb0xJptoIGFP3Nd'; frame-ancestors 'none'"`,
  'Strict-Transport-Security "max-age=63072000; includeSubDomains; preload"',
  'Cache-Control "private, max-age=0, must-revalidate"',
  'Vary "Accept-Encoding, Cookie"',
  'X-Content-Type-Options nosniff',
  'X-Frame-Options DENY',
  'Referrer-Policy strict-origin-when-cross-origin',
  'Permissions-Policy "camera=(), microphone=(), geolocation=()"',
  'Cross-Origin-Opener-Policy same-origin',
  'Cross-Origin-Resource-Policy same-site',
  'Set-Cookie "session=0b2f6c1de94a4b0f8e5d6c7b8a9f0e1d2c3b4a5968778695a4b3c2d1e0f9a8b7; Path=/; HttpOnly; Secure; SameSite=Lax"',
  'X-Request-Id 7f9c24e5-2d1b-4b0a-9a53-2f1c8e6d4b3a',
  'X-Runtime 0.031245',
  'Content-Language en',
  'Link "</assets/application.css>; rel=preload; as=style"',
];

/**
 * nginx with fixed answers and files; its CPU time is nobody's.
 * @param protocol what it speaks: HTTP/1.1, or HTTP/2 by prior knowledge
 */
export async function startFiles(folder: string, protocol: 'h1' | 'h2' = 'h1'): Promise<ServerProcess> {
  const port = await freePort();
  await writeFile(path.join(folder, '100k'), Buffer.alloc(100 * 1024, 'x'));
  await writeFile(path.join(folder, '10m'), Buffer.alloc(10 * 1024 * 1024, 'x'));
  const file = path.join(folder, `backend-${protocol}.conf`);
  await writeFile(
    file,
    `daemon off; master_process off; pid ${folder}/backend-${protocol}.pid; error_log stderr warn; worker_rlimit_nofile 65536;
    events { worker_connections 16384; }
    http {
      access_log off; default_type text/plain; keepalive_requests 1000000; keepalive_timeout 1h; sendfile on;
      ${['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((name) => `${name}_temp_path ${folder}/backend-${protocol}-${name};`).join(' ')}
      server {
        listen 127.0.0.1:${port} ${protocol === 'h2' ? 'http2 ' : ''}backlog=4096; root ${folder};
        location = /small { return 200 "hello world\\n"; }
        location = /1k { return 200 "${'x'.repeat(1024)}"; }
        location = /fields { ${fields.map((field) => `add_header ${field};`).join(' ')} return 200 "hello world\\n"; }
      }
    }`,
  );
  return ServerProcess.start({ argv: ['nginx', '-e', 'stderr', '-p', folder, '-c', file] }, port);
}

/** The one that reads what clients send. */
export async function startApplication(): Promise<ServerProcess> {
  const port = await freePort();
  return ServerProcess.start({ argv: [process.execPath, fileURLToPath(new URL('application.ts', import.meta.url)), String(port)] }, port);
}
