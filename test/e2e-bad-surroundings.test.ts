import assert from 'node:assert/strict';
import { readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import test from 'node:test';
import type { Status } from '../src/admin/status.ts';
import { parseResponse } from '../src/ocsp/response.ts';
import { closedPort, RawBackend } from './support/backend.ts';
import { type Fault, FaultyResponder, unreachableUrl } from './support/faulty-responder.ts';
import { getOnce } from './support/load.ts';
import { execute, staplegate } from './support/program.ts';
import { ServedSite } from './support/served-site.ts';
import { Site } from './support/site.ts';
import { needs } from './support/tools.ts';

/** Backends, responders and disks that fail: the log says which, how and where to look; everything else is served on. */

const limit = { timeout: 60_000 };

/** A stack trace never belongs into a log. */
const stackTrace = /^ {4}at |node:internal|\.ts:\d+:\d+/m;

test('bad backends: a page that tells the client nothing, a line that tells the administrator all', { ...limit, ...needs('curl') }, async (t) => {
  const silent = await new RawBackend(() => {}).listen(t);
  const resetting = await new RawBackend(({ socket }) => socket.resetAndDestroy()).listen(t);
  const saying = async (bytes: string): Promise<string> => (await new RawBackend(({ socket }) => socket.end(bytes)).listen(t)).url;
  const bad: Record<string, [backend: string, status: number, says: RegExp]> = {
    refusing: [
      await closedPort(),
      502,
      / no connection to the backend code=backend_unreachable .*setting=virtual_hosts\[\]\.routes\[\]\.backends cause=ECONNREFUSED /,
    ],
    hanging: [silent.url, 504, / the backend did not answer .*code=backend_timeout .*setting=timeouts\.response_header /],
    resetting: [resetting.url, 502, / the backend closed the connection without an answer code=backend_closed .*cause=ECONNRESET /],
    closing: [await saying(''), 502, / code=backend_closed /],
    garbage: [await saying('SSH-2.0-OpenSSH_9.2\r\n\r\n'), 502, / the backend's answer is malformed code=backend_bad_response .*cause="the status line /],
    contradicting: [await saying('HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab'), 502, / code=backend_bad_response /],
  };
  const good = await saying('HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine');
  const backends = [...Object.entries(bad).map(([name, [backend]]) => [name, backend] as const), ['good', good] as const];
  const hosts = Object.fromEntries(backends.map(([name, backend]) => [`${name}.test`, { backends: [backend] }]));
  const server = await ServedSite.start(t, hosts, { timeouts: { response_header: '300ms' } });

  for (const [name, [backend, status, says]] of Object.entries(bad)) {
    const answer = await server.get('-i', `https://${name}.test/`);
    const title = status === 502 ? '502 Bad Gateway' : '504 Gateway Timeout';
    assert.ok(answer.startsWith(`HTTP/1.1 ${title}\r\n`) && answer.includes(`<h1>${title}</h1>`), answer);
    assert.ok(!answer.includes(new URL(backend).host), 'addresses are nobody’s business');
    const line = await server.program.line(new RegExp(`backend=${backend}.* request="GET ${name}\\.test/"`));
    assert.match(line, / warn /);
    assert.match(line, says);
    assert.equal(await server.get('https://good.test/'), 'fine', `beside ${name}`);
  }
  await server.program.stop();
  assert.doesNotMatch(server.program.log.join('\n'), stackTrace);
});

test('bad responders: each is said with its reason, none keeps TLS or another staple waiting', limit, async (t) => {
  const site = await Site.create(t);
  const bad: Record<string, [fault: Fault | 'unreachable', says: RegExp]> = {
    down: ['unreachable', /code=responder_unreachable/],
    slow: ['hangs_before_head', /code=responder_timeout .*timed out after 0\.5 s \(ocsp\.timeout\)/],
    dripping: ['drips', /code=(?:responder_timeout|malformed)/],
    huge: ['huge', /code=response_too_large .*\(ocsp\.max_response_size\)/],
    html: ['garbage', /code=malformed .*sends text \(content-type application\/ocsp-response\)/],
    stranger: ['wrong_certificate', /code=no_matching_entry/],
    stale: ['expired', /code=expired/],
    refusing: ['http_500', /code=responder_http_status .*500/],
    circling: ['redirects_forever', /code=responder_redirect/],
    leaving: ['redirects_to_file', /code=responder_redirect/],
  };
  const hosts: object[] = [];
  const urls: Record<string, string> = {};
  for (const [name, [fault]] of Object.entries<[Fault | 'unreachable', ...unknown[]]>({ ...bad, good: ['good'] })) {
    const responder = fault === 'unreachable' ? undefined : await site.use(FaultyResponder.start(site.authority, fault));
    urls[name] = responder?.url ?? (await unreachableUrl());
    const certificate = await site.write(name, await site.issue(`${name}.test`, { ocsp: urls[name] }));
    hosts.push({ server_name: `${name}.test`, certificates: [certificate], backends: ['http://127.0.0.1:9'] });
  }
  const program = await site.serving({
    ocsp: { timeout: '500ms', max_response_size: '4k' },
    virtual_hosts: hosts,
  });
  const reach = async (name: string) => (await getOnce({ port: program.port(), name: `${name}.test`, ca: site.root.pem })).handshake;
  for (const [name, [, says]] of Object.entries(bad)) {
    const line = await program.line(new RegExp(` warn .*certificate=${name}\\.test `));
    assert.ok(line.includes(urls[name]!), line);
    assert.match(line, says);
    assert.equal((await reach(name)).staple, undefined);
  }
  assert.equal((await reach('good')).staple?.status, 'good');

  const status = await staplegate('status', '-c', site.file('config.yaml'));
  assert.equal(status.code, 1);
  for (const name of Object.keys(bad)) assert.match(status.stdout, new RegExp(`^${name}\\.test\\n.*STAPLE FAILING.*\\n +last error .*: .`, 'm'));
  assert.match(status.stdout, /^good\.test\n.* staple good, for /m);
  const { stapling } = JSON.parse((await staplegate('status', '-c', site.file('config.yaml'), '--json')).stdout) as Status;
  const asked = (name: string) => Object.keys(stapling.responders[new URL(urls[name]!).origin]?.results ?? {});
  for (const [name, [, says]] of Object.entries(bad)) assert.match(`code=${asked(name)[0]}`, new RegExp(says.source.split(' ')[0]!), name);
  assert.deepEqual([stapling.updates, asked('good')], [1, ['good']]);
  await program.stop();
  assert.doesNotMatch(program.log.join('\n'), stackTrace);
  const kept = await readdir(site.file('state/ocsp'));
  assert.equal(kept.filter((name) => name.endsWith('.der')).length, 1);
  assert.deepEqual(
    kept.filter((name) => !/^[0-9a-f]{64}-[0-9a-f]{64}\.(?:der|json)$/.test(name)),
    [],
  );
});

/** What can happen to state_dir while the program runs, and how it ends. */
interface Mishap {
  name: string;
  begin: () => Promise<unknown>;
  end: () => Promise<unknown>;
}

/** Where the test may mount, the disk gets full and read-only; everywhere, the folder can be replaced by a file. */
async function mishaps(site: Site): Promise<Mishap[]> {
  const state = site.file('state');
  const mount = (...options: string[]) => execute('mount', [...options, state]);
  const replaced: Mishap = {
    name: 'a file in the place of the folder',
    begin: () => rename(`${state}/ocsp`, `${state}/ocsp.away`).then(() => writeFile(`${state}/ocsp`, '')),
    end: () => rm(`${state}/ocsp`).then(() => rename(`${state}/ocsp.away`, `${state}/ocsp`)),
  };
  await execute('mkdir', [state]);
  if ((await mount('-t', 'tmpfs', '-o', 'size=128k', 'tmpfs')).code !== 0) return [replaced];
  await site.use({ [Symbol.asyncDispose]: () => execute('umount', [state]).then(() => undefined) });
  const full: Mishap = {
    name: 'a full disk',
    begin: () => assert.rejects(writeFile(`${state}/filler`, Buffer.alloc(131_072)), { code: 'ENOSPC' }),
    end: () => rm(`${state}/filler`),
  };
  const readOnly: Mishap = { name: 'a read-only disk', begin: () => mount('-o', 'remount,ro'), end: () => mount('-o', 'remount,rw') };
  return [full, readOnly, replaced];
}

test('a disk that fails while the program runs costs a warning; what was kept stays whole', limit, async (t) => {
  const site = await Site.create(t);
  const responder = await site.use(FaultyResponder.start(site.authority));
  const happenings = await mishaps(site);
  const renew = async (): Promise<string> => {
    const leaf = await site.issue('a.test', { ocsp: responder.url });
    await site.write('a', leaf);
    return leaf.certificate.serialNumber;
  };
  let serial = await renew();
  const program = await site.serving({
    virtual_hosts: [{ server_name: 'a.test', certificates: [{ certificate: 'a.pem', key: 'a.key' }], backends: ['http://127.0.0.1:9'] }],
  });
  const handshake = async () => (await getOnce({ port: program.port(), name: 'a.test', ca: site.root.pem })).handshake;
  /** The responses, once no write is under way: one that leaves its temporary file behind is waited for in vain. */
  const kept = async (): Promise<Record<string, Buffer>> => {
    let names = await readdir(site.file('state/ocsp'));
    while (names.some((name) => name.endsWith('.tmp'))) names = await readdir(site.file('state/ocsp'));
    const read = (name: string) => readFile(site.file('state/ocsp', name));
    for (const name of names) if (name.endsWith('.json')) JSON.parse((await read(name)).toString());
    const responses = names.filter((name) => name.endsWith('.der'));
    return Object.fromEntries(await Promise.all(responses.map(async (name) => [name, await read(name)] as const)));
  };

  // The record is written after the response, and both after the log speaks of them: no mishap must catch them in between.
  const records = async () => (await readdir(site.file('state/ocsp'))).filter((name) => name.endsWith('.json')).length;
  while ((await records()) === 0) continue;

  for (const { name, begin, end } of happenings) {
    const before = await kept();
    await begin();
    let from = program.log.length;
    serial = await renew();
    const warning = await program.line(/code=cache_not_writable/, from);
    assert.match(warning, /state\/ocsp.* cannot be written: .*; staples are kept in memory only \(state_dir\)/, name);
    while ((await handshake()).serial !== serial) continue;
    assert.deepEqual((await handshake()).staple, { serial, status: 'good' }, name);
    await end();
    assert.deepEqual(await kept(), before, `${name}: what was kept, and nothing half-written beside it`);

    from = program.log.length;
    serial = await renew();
    await program.line(/state\/ocsp can be written again/, from);
    let after = await kept();
    while (Object.keys(after).length === Object.keys(before).length || (await records()) < Object.keys(after).length) after = await kept();
    assert.equal(Object.keys(after).length, Object.keys(before).length + 1, name);
    for (const der of Object.values(after)) assert.equal(parseResponse(der).responseStatus, 'successful', name);
  }
  await program.stop();
  assert.doesNotMatch(program.log.join('\n'), stackTrace);
});

test('a log that nobody reads any more ends nothing', { ...limit, ...needs('curl') }, async (t) => {
  const good = await new RawBackend(({ socket }) => socket.end('HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine')).listen(t);
  const server = await ServedSite.start(t, { 'good.test': { backends: [good.url] } }, { log: { access: true } });
  server.program.process.stderr?.destroy();
  // Each writes to the closed pipe, from the worker; the signal makes the supervisor write.
  for (let n = 0; n < 3; n += 1) assert.equal(await server.get('https://good.test/'), 'fine');
  await server.program.stop();
  assert.equal(server.program.process.exitCode, 0);
});
