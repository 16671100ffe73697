import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import * as net from 'node:net';
import test, { type TestContext } from 'node:test';
import type { ConnectionCounters } from '../src/connection-counters.ts';
import { answering } from './support/backend.ts';
import { getOnce, HttpsClient } from './support/load.ts';
import { childrenOf } from './support/processes.ts';
import { execute, type Program, staplegate } from './support/program.ts';
import { Site } from './support/site.ts';
import { needs } from './support/tools.ts';

/** How many connections there may be, and what is said of them. */

interface Running {
  site: Site;
  program: Program;
  config: object;
  target: { port: number; name: string; ca: string };
}

async function running(t: TestContext, top: object = {}): Promise<Running> {
  const site = await Site.create(t);
  const backend = await answering().listen(t);
  const config = {
    workers: 2,
    virtual_hosts: [{ server_name: 'a.test', certificates: [await site.write('a', await site.issue('a.test'))], backends: [backend.url] }],
    ...top,
  };
  const program = await site.serving(config);
  return { site, program, config, target: { port: program.port(), name: 'a.test', ca: site.root.pem } };
}

async function counted({ site }: Running): Promise<ConnectionCounters> {
  const { stdout } = await staplegate('status', '-c', site.file('config.yaml'), '--json');
  return (JSON.parse(stdout) as { connections: ConnectionCounters }).connections;
}

test('status sums up what all workers have counted, those that have ended among them', needs('curl'), async (t) => {
  const run = await running(t);
  const { site, program, config, target } = run;
  for (let i = 0; i < 6; i += 1) await getOnce(target);
  await execute('curl', ['-s', `http://127.0.0.1:${target.port}/`]);
  const open = await HttpsClient.connect(target);
  const before = await counted(run);
  assert.deepEqual([before.accepted, before.handshakes, before.refused], [8, { full: { 'TLSv1.3': 7 }, resumed: {} }, { plain_http: 1 }]);
  assert.equal(before.now.arriving, 0);
  assert.ok(before.now.open >= 1);
  assert.match(
    (await staplegate('status', '-c', site.file('config.yaml'))).stdout,
    /^\d open of 8 connections; handshakes: 7 full, 0 resumed, 1 refused \(plain_http 1\)$/m,
  );
  open.close();

  // Another generation of workers; the one before gives its figures when it goes.
  const [old, from] = [childrenOf(program.process.pid), program.log.length];
  await site.configure({ ...config, workers: 1 });
  await program.line(/code=reloaded/, from);
  await getOnce(target);
  let after = await counted(run);
  while (childrenOf(program.process.pid).some((pid) => old.includes(pid))) after = await counted(run);
  after = await counted(run);
  assert.deepEqual([after.accepted, after.handshakes.full, after.refused], [9, { 'TLSv1.3': 8 }, { plain_http: 1 }]);

  // What a worker that was killed had counted since it was last asked is lost; the rest is not.
  const [victim] = childrenOf(program.process.pid);
  const killed = program.log.length;
  process.kill(victim!, 'SIGKILL');
  await program.line(/code=worker_ended/, killed);
  await getOnce(target);
  assert.equal((await counted(run)).accepted, 10);
});

const begunRequest = 'GET / HTTP/1.1\r\nHost: a.test\r\n';

/** A client whose next request has begun to arrive. */
async function busy(target: Running['target']): Promise<HttpsClient> {
  const client = await HttpsClient.connect(target);
  client.raw.send(`${begunRequest}\r\n${begunRequest}`);
  assert.equal((await client.raw.answer()).status, 200);
  return client;
}

test('with the last of limits.connections the one that is idle for longest makes room', async (t) => {
  const { target } = await running(t, { limits: { connections: 4 }, workers: 1 });
  const atWork = await busy(target);
  const [first, second] = [await HttpsClient.connect(target), await HttpsClient.connect(target, { ALPNProtocols: ['http/1.1'] })];
  for (const client of [first, second, first]) assert.equal((await client.get()).status, 200);
  const gone = once(second.raw.socket, 'close');
  const late = await HttpsClient.connect(target);
  await gone;
  atWork.raw.send('\r\n');
  assert.equal((await atWork.raw.answer()).status, 200);
  for (const client of [first, late]) assert.equal((await client.get()).status, 200);
});

test('limits.connections is lowered to what the descriptors allow, and newcomers wait until others end or are idle', needs('prlimit'), async (t) => {
  const run = await running(t, { limits: { connections: 3 }, workers: 1 });
  const { site, program, config, target } = run;
  const inside = [await busy(target), await busy(target), await busy(target)];
  await program.line(/3 connections are open in this worker: new ones wait until others end or are idle \(limits\.connections\) code=connection_limit/);
  const late = getOnce(target);
  assert.equal((await counted(run)).accepted, 3);
  const gone = once(inside[0]!.raw.socket, 'close');
  for (const client of inside.slice(1)) client.raw.send(`\r\n${begunRequest}`);
  for (const client of inside.slice(1)) assert.equal((await client.raw.answer()).status, 200);
  inside[0]!.raw.send('\r\n');
  assert.equal((await inside[0]!.raw.answer()).status, 200);
  assert.equal((await late).answer.status, 200);
  await gone;

  const from = program.log.length;
  await execute('prlimit', ['--pid', String(program.process.pid), '--nofile=500:500']);
  await site.configure({ ...config, limits: { connections: 10_000 } });
  assert.match(await program.line(/code=connection_limit_lowered/, from), /from 10000 to 186: each of 1 processes may open 500 files \(LimitNOFILE\)/);
});

test('a worker without file descriptors neither dies nor spins, and serves again when it has some', needs('prlimit'), async (t) => {
  const run = await running(t, { workers: 1 });
  const { program, target } = run;
  const [worker] = childrenOf(program.process.pid);
  await getOnce(target);
  const open = readdirSync(`/proc/${worker}/fd`).length;
  const limit = (count: number) => execute('prlimit', ['--pid', String(worker), `--nofile=${count}:20000`]);
  assert.equal((await limit(open + 4)).code, 0);
  // The system's way out: what cannot be served is closed at once, so that nobody waits for nothing.
  const clients = Array.from({ length: 100 }, () => net.connect(target.port, '127.0.0.1').on('error', () => {}));
  await Promise.any(clients.map((client) => once(client.resume(), 'close')));
  for (const client of clients) client.destroy();
  assert.equal((await limit(20_000)).code, 0);
  assert.equal((await getOnce(target)).answer.status, 200);
  assert.deepEqual(childrenOf(program.process.pid), [worker]);
  assert.ok(program.log.filter((line) => line.includes('accept_failed')).length < 30);
});
