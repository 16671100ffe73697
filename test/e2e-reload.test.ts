import assert from 'node:assert/strict';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import * as net from 'node:net';
import test from 'node:test';
import type * as tls from 'node:tls';
import { Authority } from '../src/demo/authority.ts';
import { answering, closedPort } from './support/backend.ts';
import { getOnce, HttpsClient, Load } from './support/load.ts';
import { childrenOf } from './support/processes.ts';
import type { Program } from './support/program.ts';
import { Site } from './support/site.ts';
import { slowBackend } from './support/slow-backend.ts';

/** The configuration changes under the running program. */

function configuration(virtualHosts: object[], top: object = {}) {
  return { listen: [{ address: '127.0.0.1:0' }], workers: 2, shutdown_grace: '5s', virtual_hosts: virtualHosts, ...top };
}

async function virtualHost(site: Site, name: string, backend: string) {
  return { server_name: name, certificates: [await site.write(name, await site.issue(name))], backends: [backend] };
}

/** Puts a configuration in place and waits until the program has taken it by itself. */
async function reload(site: Site, program: Program, config: object | string, said = /code=reloaded/): Promise<void> {
  const from = program.log.length;
  await site.configure(config);
  await program.line(said, from);
}

/** An address that somebody could listen on. */
async function freeAddress(): Promise<string> {
  return new URL(await closedPort()).host;
}

const portOf = (address: string): number => Number(address.split(':')[1]);

test('virtual hosts and backends come and go without a failed request, by themselves and with SIGHUP', async (t) => {
  const site = await Site.create(t);
  const [one, two] = [await answering('one').listen(t), await answering('two').listen(t)];
  const [a, b] = [await virtualHost(site, 'a.test', one.url), await virtualHost(site, 'b.test', two.url)];
  const program = await site.serving(configuration([a]));
  const target = (name: string) => ({ port: program.port(), name, ca: site.root.pem });
  const load = await site.use(new Load(target('a.test')));
  const kept = await HttpsClient.connect(target('a.test'));
  const answer = async (name: string) => (await getOnce(target(name))).answer.body;

  assert.equal(await answer('a.test'), 'one');
  await assert.rejects(answer('b.test'), /unrecognized name/);
  await reload(site, program, configuration([a, b]));
  assert.equal(await answer('b.test'), 'two');
  await reload(site, program, configuration([{ ...a, backends: [two.url] }, b]));
  assert.equal(await answer('a.test'), 'two');
  assert.equal((await kept.get()).body, 'two', 'connections stay open and follow');
  await reload(site, program, configuration([a]));
  await assert.rejects(answer('b.test'), /unrecognized name/);

  const from = program.log.length;
  program.process.kill('SIGHUP');
  await program.line(/code=reloaded/, from);
  assert.equal((await kept.get()).body, 'one');
  kept.close();
  await load.stop();
  assert.deepEqual(load.failures, []);
});

test('a bad configuration is refused with its place, and the one before stays in force until a good one comes', async (t) => {
  const site = await Site.create(t);
  const backend = await answering('one').listen(t);
  const host = await virtualHost(site, 'a.test', backend.url);
  const config = configuration([host]);
  const program = await site.serving(config);
  const target = { port: program.port(), name: 'a.test', ca: site.root.pem };
  const taken = net.createServer().listen(0, '127.0.0.1');
  await once(taken, 'listening');
  t.after(() => taken.close());
  const { port } = taken.address() as net.AddressInfo;
  const cases: [what: string, config: object | string, said: RegExp][] = [
    ['an unknown key', { ...config, wrokers: 1 }, /config\.yaml:\d+:\d+: .*wrokers.*workers/],
    ['broken YAML', 'listen: [', /config\.yaml:\d+:\d+: /],
    ['nothing', '', /config\.yaml:\d+:\d+: /],
    ['a port in use', { ...config, listen: [...config.listen, { address: `127.0.0.1:${port}` }] }, new RegExp(`127\\.0\\.0\\.1:${port}: EADDRINUSE`)],
    ['a port in use and other workers', { ...config, workers: 1, listen: [{ address: `127.0.0.1:${port}` }] }, /EADDRINUSE/],
  ];
  const workers = childrenOf(program.process.pid);
  for (const [what, bad, said] of cases) {
    const from = program.log.length;
    await reload(site, program, bad, /the one before stays in force/);
    assert.match(program.log.slice(from).find((line) => / error .*code=reload_refused/.test(line)) ?? '', said, what);
    assert.equal((await getOnce(target)).answer.body, 'one', what);
  }
  assert.deepEqual(childrenOf(program.process.pid), workers);
  await reload(site, program, { ...config, virtual_hosts: [{ ...host, aliases: ['alias.test'] }] });
  assert.equal((await getOnce({ ...target, name: 'alias.test' }, '/', { checkServerIdentity: () => undefined })).answer.body, 'one');
});

/** The workers before take who comes until they have heard that they are to end. */
async function untilRefused(target: Parameters<typeof getOnce>[0]): Promise<void> {
  for (let code: unknown; code !== 'ECONNREFUSED';) code = await getOnce(target).then(undefined, (error: NodeJS.ErrnoException) => error.code);
}

const changes = {
  'an address more': { more: true },
  'one worker': { workers: 1, more: true },
  'an address less': { workers: 1 },
  'three workers': { workers: 3 },
  'another order': { more: true, reversed: true },
  'as at first': {},
};

for (const workers of [2, 0]) {
  test(`addresses and workers (${workers} at first) come and go: new connections and requests in flight never fail`, async (t) => {
    const site = await Site.create(t);
    const backend = await slowBackend(t);
    const host = await virtualHost(site, 'a.test', backend.url);
    const program = await site.serving(configuration([host], { workers }));
    const target = { port: program.port(), name: 'a.test', ca: site.root.pem };
    const added = await freeAddress();
    const load = await site.use(new Load(target));

    for (const [what, change] of Object.entries<{ workers?: number; more?: boolean; reversed?: boolean }>(changes)) {
      // All in one process stays so until a restart.
      if (workers === 0 && change.workers !== undefined) continue;
      const listen = ['127.0.0.1:0', ...(change.more ? [added] : [])].map((address) => ({ address }));
      const slow = await HttpsClient.connect(target);
      slow.send('/slow');
      await backend.asked();
      const young = await HttpsClient.connect(target);
      await reload(site, program, configuration([host], { workers: change.workers ?? workers, listen: change.reversed ? listen.toReversed() : listen }));
      assert.equal((await young.get()).status, 200, `${what}: a connection that has not asked yet`);
      young.close();
      backend.release();
      assert.equal((await slow.raw.answer()).status, 200, `${what}: in flight`);
      slow.close();
      const there = { ...target, port: portOf(added) };
      if (change.more) assert.equal((await getOnce(there)).answer.status, 200, what);
      else await untilRefused(there);
      const before = load.requests;
      await load.until(({ requests }) => requests > before + 50);
    }
    await load.stop();
    assert.deepEqual(load.failures, []);
    assert.equal(program.port(), target.port);
  });
}

test('the rules for client certificates change for everybody, with and without a session ticket', async (t) => {
  const site = await Site.create(t);
  const backend = await answering('one').listen(t);
  const host = await virtualHost(site, 'a.test', backend.url);
  const [before, after] = [await Authority.root('Clients before'), await Authority.root('Clients after')];
  const client = async (authority: Authority) => {
    const { pem: cert, keyPem: key } = await authority.issue({ commonName: 'client', clientAuth: true });
    return { cert, key };
  };
  const [old, young] = [await client(before), await client(after)];
  const requiring = configuration([{ ...host, tls: { client_auth: { mode: 'require', ca: 'clients.pem' } } }]);
  await writeFile(site.file('clients.pem'), before.pem);
  const program = await site.serving(configuration([host]));
  const target = { port: program.port(), name: 'a.test', ca: site.root.pem };
  const isLetIn = (options: tls.ConnectionOptions) =>
    getOnce(target, '/', options).then(
      ({ answer }) => answer.status === 200,
      () => false,
    );

  const anonymous = await ticket(target, {});
  assert.ok(await isLetIn({ session: anonymous }));
  const stranger = await HttpsClient.connect(target);
  assert.equal((await stranger.get()).status, 200);
  await reload(site, program, requiring);
  await assert.rejects(stranger.get(), 'a connection from the time when nobody was asked');
  assert.equal(await isLetIn({}), false);
  assert.equal(await isLetIn({ session: anonymous }), false, 'a ticket from the time when nobody was asked');
  assert.ok(await isLetIn(old));

  const known = await ticket(target, old);
  assert.ok(await isLetIn({ ...old, session: known }));
  const from = program.log.length;
  await writeFile(site.file('clients.pem'), after.pem);
  await program.line(/code=reloaded/, from);
  assert.ok(await isLetIn(young));
  assert.equal(await isLetIn(old), false);
  assert.equal(await isLetIn({ ...old, session: known }), false, 'a ticket of an authority that is trusted no more');

  await writeFile(site.file('clients.pem'), 'half a fi');
  assert.match(await program.line(/code=client_authority/), /what was read before stays in force/);
  assert.ok(await isLetIn(young));
});

/** A session ticket, as a browser keeps it. */
async function ticket(target: Parameters<typeof getOnce>[0], options: tls.ConnectionOptions): Promise<Buffer> {
  const client = await HttpsClient.connect(target, options);
  const session = once(client.raw.socket, 'session') as Promise<[Buffer]>;
  await client.get();
  const [newest] = await session;
  client.close();
  return newest;
}
