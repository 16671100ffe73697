import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { setImmediate as turn } from 'node:timers/promises';
import * as net from 'node:net';
import * as tls from 'node:tls';
import { queryObjects } from 'node:v8';
import { Authority } from '../../src/demo/authority.ts';
import type { TestContext } from 'node:test';
import { issueIdentity, snapshotOf, startTlsFront } from './tls-front.ts';

/**
 * A program: swaps the identity of a virtual host again and again, with handshakes in between, and prints what the process
 * held before and after: `node --expose-gc identity-swaps.ts SWAPS`.
 */

const swaps = Number(process.argv[2]);
const handshakeEvery = 20;
const authority = await Authority.root('Swaps');
const identities = await Promise.all(['even.test', 'odd.test'].map((name) => issueIdentity(authority, 'a.test', { names: ['a.test', name] })));
const first = snapshotOf(authority, [{ server_name: 'a.test' }, { server_name: 'b.test' }], identities.slice(0, 1));
for (const { fingerprint } of identities) first.staples.set(fingerprint, { der: Buffer.from(fingerprint), validUntil: Infinity });
const secureContext = tls.createSecureContext({ ca: authority.pem });
const noTest = { after: () => {} } as unknown as TestContext;
const { front, port, counters } = await startTlsFront(noTest, first, { onSecure: ({ socket }) => socket.on('error', () => {}).pipe(socket) });

async function connect(): Promise<{ socket: tls.TLSSocket; name: string | undefined; staple: string | undefined }> {
  const socket = tls.connect({ port, host: '127.0.0.1', servername: 'a.test', secureContext, requestOCSP: true });
  const stapled = once(socket, 'OCSPResponse') as Promise<[Buffer | null]>;
  await once(socket, 'secureConnect');
  const [staple] = await stapled;
  return { socket, name: socket.getPeerX509Certificate()?.subjectAltName, staple: staple?.toString() };
}

let swapped = 0;
let wrong = 0;
async function swap(times: number): Promise<void> {
  for (let i = 0; i < times; i += 1) {
    const next = identities[++swapped % 2]!;
    front.setIdentities(['a.test'], [next]);
    if (swapped % handshakeEvery > 1) continue;
    const { socket, name, staple } = await connect();
    if (name !== `DNS:a.test, DNS:${swapped % 2 === 0 ? 'even' : 'odd'}.test` || staple !== next.fingerprint) wrong += 1;
    socket.destroy();
    await once(socket, 'close');
  }
}

/** Objects that are alive after a collection; the megabytes that the process has of the system. */
async function held(): Promise<Record<string, number>> {
  while (counters.now.open > 1) await turn();
  for (let i = 0; i < 5; i += 1) {
    globalThis.gc?.();
    await turn();
  }
  const nativeContext = (secureContext.context as object).constructor;
  return {
    contexts: counters.now.contexts,
    nativeContexts: queryObjects(nativeContext, { format: 'count' }),
    servers: queryObjects(tls.Server, { format: 'count' }),
    sockets: queryObjects(net.Socket, { format: 'count' }),
    handles: process.getActiveResourcesInfo().length,
    descriptors: readdirSync('/proc/self/fd').length,
    heap: process.memoryUsage().heapUsed / 1024 ** 2,
    memory: process.memoryUsage.rss() / 1024 ** 2,
  };
}

const open = await connect();
await swap(swaps / 5);
const before = await held();
await swap(swaps);
const after = await held();
open.socket.write('still here');
const [echo] = (await once(open.socket, 'data')) as [Buffer];
console.log(JSON.stringify({ before, after, handshakes: counters.accepted, wrong, echo: echo.toString(), opened: open.name }));
process.exit(0);
