import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type * as tls from 'node:tls';
import { startFiles } from './backend.ts';
import { makeCredentials, serverName } from './credentials.ts';
import { peers, peerVersion, startConfigured } from './peers.ts';
import { proportionalBytes, residentBytes } from './process-tree.ts';
import { connect, event } from './tls-clients.ts';

/**
 * What an idle TLS connection costs in memory, after its handshake and after a request, with two workers:
 * `node bench/idle-connections.ts [COUNT] [PEER,…]`. One line of JSON each, in KB per connection.
 */

const [count = 10_000] = process.argv.slice(2, 3).map(Number);
const names = (process.argv[3]?.split(',') ?? ['staplegate', 'nginx', 'haproxy', 'caddy']).filter((name) => peerVersion(name) !== undefined);
const request = `GET /small HTTP/1.1\r\nHost: ${serverName}\r\n\r\n`;
const atOnce = 20;
/** For garbage to be collected and freed pages to be given back. */
const settleMs = Number(process.env['SETTLE_MS'] ?? 4_000);

async function ask(socket: tls.TLSSocket): Promise<void> {
  socket.write(request);
  await event(socket, 'data');
}

/** Does something on or for many connections, some at once. */
async function forAll<T>(items: readonly T[], work: (item: T) => Promise<unknown>): Promise<void> {
  for (let i = 0; i < items.length; i += atOnce) await Promise.all(items.slice(i, i + atOnce).map(work));
}

const folder = await mkdtemp(path.join(tmpdir(), 'staplegate-idle-'));
try {
  await using files = await startFiles(folder);
  const credentials = await makeCredentials(folder, 'ecdsa');
  for (const name of names) {
    await using server = await startConfigured(name, folder, (port, own, file) => {
      const setup = { folder: own, port, backend: files.port, workers: 2, credentials, staple: false, options: {} };
      const { files: written, command } = peers[name]!.command(setup, file);
      // An idle connection needs one descriptor, not the two that haproxy reckons with; and nobody hangs up meanwhile.
      const unlimited = (text: string): string =>
        text
          .replace(/^ {2}maxconn \d+$/m, `  maxconn ${2 * count}\n  no strict-limits`)
          .replace('"shutdown_grace"', '"timeouts":{"request_header":"1h","keep_alive":"1h"},"shutdown_grace"');
      return { files: Object.fromEntries(Object.entries(written).map(([file, text]) => [file, unlimited(text)])), command };
    });
    const memory = () => ({ pss: proportionalBytes(server.pid), rss: residentBytes(server.pid) });
    // Code compiled, pools filled.
    await forAll(Array.from({ length: 500 }), async () => {
      const socket = await connect(server.port);
      await ask(socket);
      socket.destroy();
    });
    await delay(settleMs);
    const empty = memory();
    const sockets: tls.TLSSocket[] = [];
    await forAll(Array.from({ length: count }), async () => void sockets.push(await connect(server.port)));
    await delay(settleMs);
    const handshaken = memory();
    await forAll(sockets, ask);
    await delay(settleMs);
    const asked = memory();
    const lost = sockets.filter((socket) => socket.destroyed || socket.readableEnded).length;
    for (const socket of sockets) socket.destroy();
    const each = (now: number, before: number) => Number(((now - before) / count / 1024).toFixed(1));
    const megabytes = (bytes: number) => Math.round(bytes / 1024 ** 2);
    console.log(
      JSON.stringify({
        bench: 'idle-connections',
        peer: name,
        connections: count,
        lost,
        after_handshake: { pss: each(handshaken.pss, empty.pss), rss: each(handshaken.rss, empty.rss) },
        after_request: { pss: each(asked.pss, empty.pss), rss: each(asked.rss, empty.rss) },
        empty_mb: { pss: megabytes(empty.pss), rss: megabytes(empty.rss) },
      }),
    );
  }
} finally {
  await rm(folder, { recursive: true });
}
