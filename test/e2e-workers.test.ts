import assert from 'node:assert/strict';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import * as net from 'node:net';
import test, { type TestContext } from 'node:test';
import { setImmediate as immediate } from 'node:timers/promises';
import { stringify } from 'yaml';
import { answering, closedPort, RawBackend } from './support/backend.ts';
import { FaultyResponder } from './support/faulty-responder.ts';
import { getOnce, HttpsClient, Load } from './support/load.ts';
import { childrenOf, isRunning } from './support/processes.ts';
import { type Program, staplegate } from './support/program.ts';
import { Site } from './support/site.ts';
import { slowBackend } from './support/slow-backend.ts';

/** Workers die and are replaced; the supervisor ends, well or badly. */

interface Running {
  site: Site;
  program: Program;
  config: { virtual_hosts: object[] };
  target: { port: number; name: string; ca: string };
  serial: string;
}

/** The program with one stapled virtual host, a.test. */
async function running(t: TestContext, backend: string, top: object = {}): Promise<Running> {
  const site = await Site.create(t);
  const responder = await site.use(FaultyResponder.start(site.authority));
  const leaf = await site.issue('a.test', { ocsp: responder.url });
  const config = {
    listen: [{ address: '127.0.0.1:0' }],
    workers: 1,
    state_dir: 'state',
    shutdown_grace: '10s',
    log: { level: 'debug' },
    virtual_hosts: [{ server_name: 'a.test', certificates: [await site.write('a', leaf)], backends: [backend] }],
    ...top,
  };
  const program = await site.serving(config);
  return { site, program, config, target: { port: program.port(), name: 'a.test', ca: site.root.pem }, serial: leaf.certificate.serialNumber };
}

const workersOf = ({ program }: Running): number[] => childrenOf(program.process.pid);

test('a killed worker is replaced under load, with its listener, staples and newest configuration', async (t) => {
  const backend = await answering().listen(t);
  const run = await running(t, backend.url, { workers: 2 });
  const { site, program, config, target, serial } = run;
  const from = program.log.length;
  await site.configure({ ...config, shutdown_grace: '9s', virtual_hosts: config.virtual_hosts.map((host) => ({ ...host, aliases: ['alias.test'] })) });
  await program.line(/code=reloaded/, from);
  const load = await site.use(new Load(target));
  const first = workersOf(run);
  assert.equal(first.length, 2);

  // One after the other, so that in the end none is left that was there at the reload.
  const kills: number[] = [];
  for (const victim of first) {
    const before = program.log.length;
    const served = load.requests;
    await load.until(({ requests }) => requests > served + 50);
    process.kill(victim, 'SIGKILL');
    kills.push(performance.now());
    await program.line(new RegExp(`worker ${victim} ended \\(SIGKILL\\); starting another code=worker_ended`), before);
    await program.line(/worker \d+ is listening/, before);
    await load.until(({ requests }) => requests > served + 200);
  }
  await load.stop();
  assert.equal(workersOf(run).length, 2);
  // Each kill costs at most what was inside that worker.
  for (const { begun, what } of load.failures)
    assert.ok(
      kills.some((time) => begun < time && begun > time - 2_000),
      what,
    );
  assert.ok(load.failures.length <= 8, `${load.failures.length} failures`);
  for (const { staple } of load.handshakes) assert.deepEqual(staple, { serial, status: 'good' });
  const { answer } = await getOnce({ ...target, name: 'alias.test' }, '/', { checkServerIdentity: () => undefined });
  assert.equal(answer.status, 200);
});

test('while there is no worker at all, connections queue and are served', async (t) => {
  const backend = await answering().listen(t);
  const run = await running(t, backend.url);
  const { program, target, serial } = run;
  const [only] = workersOf(run);
  process.kill(only!, 'SIGKILL');
  await program.line(/ended \(SIGKILL\)/);
  assert.deepEqual(workersOf(run), []);
  const queued = await Promise.all(Array.from({ length: 20 }, () => getOnce(target)));
  assert.deepEqual(workersOf(run).length, 1);
  for (const { answer, handshake } of queued) assert.deepEqual([answer.status, handshake.staple?.serial], [200, serial]);
});

test('a worker that is asked to end finishes what it has, and its successor serves meanwhile', async (t) => {
  const backend = await slowBackend(t);
  const run = await running(t, backend.url);
  const { program, target } = run;
  const [only] = workersOf(run);
  const slow = await HttpsClient.connect(target);
  slow.send('/slow');
  await backend.asked();
  const from = program.log.length;
  process.kill(only!, 'SIGTERM');
  await program.line(/worker \d+ is listening/, from);
  assert.equal((await getOnce(target)).answer.status, 200);
  backend.release();
  assert.equal((await slow.raw.answer()).status, 200);
  slow.close();
});

for (const workers of [2, 0]) {
  test(`SIGTERM with workers: ${workers} finishes requests in flight, refuses new connections and exits with 0`, async (t) => {
    const backend = await slowBackend(t);
    const run = await running(t, backend.url, { workers });
    const { program, target } = run;
    assert.equal(workersOf(run).length, workers);
    const [slow, idle] = [await HttpsClient.connect(target), await HttpsClient.connect(target)];
    await idle.get();
    slow.send('/slow');
    await backend.asked();
    program.process.kill('SIGTERM');
    await idle.raw.toEnd();
    await refused(target.port);
    backend.release();
    const { status, head } = await slow.raw.answer();
    assert.equal(status, 200);
    assert.match(head, /^connection: close$/im);
    await program.ended;
    assert.deepEqual([program.process.exitCode, program.process.signalCode], [0, null]);
    assert.match(program.log.at(-1)!, /stopped/);
  });
}

test('a request that does not end is cut after shutdown_grace', async (t) => {
  const backend = await slowBackend(t);
  const { program, target } = await running(t, backend.url, { workers: 1, shutdown_grace: '300ms' });
  const stuck = await HttpsClient.connect(target);
  stuck.send('/slow');
  await backend.asked();
  const started = performance.now();
  program.process.kill('SIGTERM');
  assert.equal(await stuck.raw.toEnd(), '');
  await program.ended;
  assert.equal(program.process.exitCode, 0);
  const took = performance.now() - started;
  assert.ok(took >= 300 && took < 2_000, `${took} ms`);
});

test('a WebSocket outlives shutdown_grace when its worker is replaced, and not when the program ends', async (t) => {
  const backend = await new RawBackend(({ socket, text }) => {
    if (!text.includes('/ws') || !text.endsWith('\r\n\r\n')) return;
    socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n');
    socket.removeAllListeners('data');
    socket.pipe(socket);
  }).listen(t);
  const { site, program, config, target } = await running(t, backend.url, { shutdown_grace: '300ms' });
  const [{ raw: stuck }, { raw: tunnel }] = [await HttpsClient.connect(target), await HttpsClient.connect(target)];
  const upgrade = 'Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n';
  tunnel.send(`GET /ws HTTP/1.1\r\nHost: a.test\r\n${upgrade}\r\n`);
  await tunnel.until(() => tunnel.text.endsWith('\r\n\r\n'));
  stuck.send('GET /stuck HTTP/1.1\r\nHost: a.test\r\n\r\n');
  await backend.until(() => backend.text.includes('/stuck'));
  const from = program.log.length;
  await site.configure({ ...config, workers: 2 });
  await program.line(/code=reloaded/, from);
  assert.equal(await stuck.toEnd(), '');
  tunnel.text = '';
  tunnel.send('still here');
  await tunnel.until(() => tunnel.text === 'still here');
  program.process.kill('SIGTERM');
  await tunnel.toEnd();
  await program.ended;
  assert.equal(program.process.exitCode, 0);
});

test('at SIGTERM requests that have outlived a reload have their grace, and idle connections hold nothing up', async (t) => {
  const backend = await slowBackend(t);
  const { site, program, config, target } = await running(t, backend.url);
  const [slow, idle] = [await HttpsClient.connect(target), await HttpsClient.connect(target)];
  await idle.get();
  slow.send('/slow');
  await backend.asked();
  const from = program.log.length;
  await site.configure({ ...config, workers: 2 });
  await program.line(/code=reloaded/, from);
  program.process.kill('SIGTERM');
  await refused(target.port);
  await idle.raw.toEnd();
  backend.release();
  assert.equal((await slow.raw.answer()).status, 200);
  await program.ended;
  assert.equal(program.process.exitCode, 0);
});

test('SIGTERM in the middle of a reload that waits for a responder is obeyed at once', { timeout: 30_000 }, async (t) => {
  const backend = await slowBackend(t);
  const { site, program, config, target } = await running(t, backend.url);
  const responder = await site.use(FaultyResponder.start(site.authority, 'hangs_before_head'));
  const added = {
    server_name: 'b.test',
    certificates: [await site.write('b', await site.issue('b.test', { ocsp: responder.url, mustStaple: true }))],
    backends: [backend.url],
  };
  const slow = await HttpsClient.connect(target);
  slow.send('/slow');
  await backend.asked();
  await site.configure({ ...config, workers: 2, ocsp: { timeout: '10m' }, virtual_hosts: [...config.virtual_hosts, added] });
  await responder.asked(1);
  program.process.kill('SIGTERM');
  await refused(target.port);
  backend.release();
  assert.equal((await slow.raw.answer()).status, 200);
  await program.ended;
  assert.deepEqual([program.process.exitCode, program.log.some((line) => line.includes('reload_refused'))], [0, false]);
});

test('workers end with a supervisor that was killed, and a new start finds the port and the state free', { timeout: 30_000 }, async (t) => {
  const backend = await answering().listen(t);
  const address = new URL(await closedPort()).host;
  const run = await running(t, backend.url, { listen: [{ address }], workers: 2 });
  const { site, program, config, target } = run;
  const orphans = workersOf(run);
  const load = await site.use(new Load(target));
  await load.until(({ requests }) => requests > 20);
  program.process.kill('SIGKILL');
  await load.stop();
  await program.ended; // the last of them has let go of the log, and is as good as gone
  while (orphans.some(isRunning)) await immediate();
  const next = await site.serving(config);
  assert.equal(next.port(), target.port);
  assert.equal((await getOnce(target)).answer.status, 200);
});

test('a second instance is refused: the port, then the state directory', async (t) => {
  const backend = await answering().listen(t);
  const { site, program, config, target } = await running(t, backend.url, { workers: 0 });
  const listening = [{ address: `127.0.0.1:${target.port}` }];
  for (const [top, said] of [
    [{ listen: listening }, new RegExp(`cannot listen on 127\\.0\\.0\\.1:${target.port}: EADDRINUSE: .*listen\\[\\]\\.address`)],
    [{}, new RegExp(`state/ocsp is in use by another running Staplegate \\(process ${program.process.pid}\\); .*state_dir`)],
  ] as const) {
    await writeFile(site.file('second.yaml'), stringify({ ...config, ...top }));
    const { code, stderr } = await staplegate('run', '--config', site.file('second.yaml'));
    assert.equal(code, 1);
    assert.match(stderr, said);
    assert.doesNotMatch(stderr, /^\s+at /m);
  }
  assert.equal((await getOnce(target)).answer.status, 200);
});

/** Resolves when nobody listens on the port any more. */
async function refused(port: number): Promise<void> {
  for (;;) {
    const socket = net.connect(port, '127.0.0.1');
    const result = await once(socket, 'connect').then(
      () => 'accepted',
      (error: NodeJS.ErrnoException) => error.code,
    );
    socket.destroy();
    if (result === 'ECONNREFUSED') return;
  }
}
