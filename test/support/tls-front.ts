import { once } from 'node:events';
import * as net from 'node:net';
import type { TestContext } from 'node:test';
import { readCertificate } from '../../src/certificates/certificate.ts';
import { parseConfig } from '../../src/config/load.ts';
import { type ConnectionCounters, noConnections } from '../../src/connection-counters.ts';
import type { Authority, IssueOptions } from '../../src/demo/authority.ts';
import type { Identity, Snapshot, WorkerLimits } from '../../src/snapshot.ts';
import { Admission } from '../../src/tls/admission.ts';
import type { SecureConnection } from '../../src/tls/handshakes.ts';
import { Listener } from '../../src/tls/listener.ts';
import { TlsFront } from '../../src/tls/tls-front.ts';
import type { Keys } from './config.ts';
import { recordedLog } from './stapling.ts';

/** The TLS side of a worker, in this process. */

export async function issueIdentity(authority: Authority, virtualHost: string, options: IssueOptions): Promise<Identity> {
  const { pem, chainPem, keyPem } = await authority.issue(options);
  const { fingerprint, keyType, intermediates } = readCertificate({ certificatePem: chainPem, keyPem, source: { certificate: 'c', key: 'k' } });
  return { virtualHost, fingerprint, keyType, certificate: pem, intermediates, key: keyPem };
}

/** A snapshot of these virtual hosts; `authority` is the one for all client certificates. */
export function snapshotOf(authority: Authority, hosts: Keys[], identities: Identity[], top: Keys = {}, limits: Partial<WorkerLimits> = {}): Snapshot {
  const virtualHosts = hosts.map((host) => ({ certificates: [{ certificate: 'c', key: 'k' }], backends: ['http://127.0.0.1:1'], ...host }));
  const config = parseConfig(JSON.stringify({ listen: [{ address: '127.0.0.1:0' }], virtual_hosts: virtualHosts, ...top }), '/test/config.yaml');
  const clientAuthorities = new Map(
    config.virtualHosts.flatMap(({ tls: { clientAuth } }) => (clientAuth.ca === undefined ? [] : [[clientAuth.ca, authority.pem]])),
  );
  return {
    config,
    identities,
    awaited: [],
    staples: new Map(),
    clientAuthorities,
    backendFiles: new Map(),
    ticketSecret: Buffer.alloc(32, 7),
    limits: { connections: 1000, handshakes: 500, connectionsPerAddress: undefined, ...limits },
  };
}

export interface RunningFront {
  front: TlsFront;
  admission: Admission;
  port: number;
  log: ReturnType<typeof recordedLog>;
  staples: Snapshot['staples'];
  counters: ConnectionCounters;
}

/** Says the virtual host's name and the client's address, and closes. */
function greet({ socket, peer, virtualHost }: SecureConnection): void {
  socket.on('error', () => {}).end(`${virtualHost.serverName} ${peer.address}\n`);
}

/** Accepts on a free port. Unless `onSecure` does something else with them, connections are greeted and closed. */
export async function startTlsFront(
  t: TestContext,
  first: Snapshot,
  {
    onSecure = greet,
    makeRoom = () => {},
    ...options
  }: { onSecure?: (connection: SecureConnection) => void; makeRoom?: () => void; mostContexts?: number } = {},
): Promise<RunningFront> {
  const log = recordedLog();
  const { staples } = first;
  const counters = noConnections();
  const front = new TlsFront({
    log,
    counters,
    staple: (fingerprint) => staples.get(fingerprint),
    onSecure,
    onUnopened: ({ refuse }) => refuse('backend_unreachable'),
    ...options,
  });
  front.update(first);
  const admission = new Admission({ counters, limits: first.limits, log, makeRoom });
  const listener = new Listener({
    listen: first.config.listen[0]!,
    config: () => first.config,
    log,
    admission,
    onConnection: (arrival) => front.accept(arrival),
  });
  const { fd, port } = bound();
  await listener.start(fd);
  // Not awaited: the test's own connections may be on their way still.
  t.after(() => void listener.close());
  return { front, admission, port, log, staples, counters };
}

/** A descriptor to listen on, and its port. */
function bound(): { fd: number; port: number } {
  const { _createServerHandle: bind } = net as unknown as {
    _createServerHandle: (host: string, port: number, family: 4) => { fd: number; getsockname(out: object): void };
  };
  const handle = bind('127.0.0.1', 0, 4);
  const name: { port?: number } = {};
  handle.getsockname(name);
  return { fd: handle.fd, port: name.port! };
}

/** Sends bytes, one chunk after the other, and reads until the server closes. */
export async function exchange(port: number, ...chunks: (Buffer | string)[]): Promise<Buffer> {
  const socket = net.connect({ port, host: '127.0.0.1', noDelay: true });
  const answer: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => answer.push(chunk));
  socket.on('error', () => {});
  for (const chunk of chunks) await new Promise((resolve) => socket.write(chunk, resolve));
  await once(socket, 'close');
  return Buffer.concat(answer);
}
