import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile, stat, writeFile } from 'node:fs/promises';
import * as net from 'node:net';
import { createInterface } from 'node:readline';
import test, { type TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { stringify } from 'yaml';
import type { Listen } from '../src/config/schema.ts';
import { Sockets } from '../src/supervisor/sockets.ts';
import { closedPort, httpBackend } from './support/backend.ts';
import { configOf } from './support/config.ts';
import { getOnce } from './support/load.ts';
import { execute } from './support/program.ts';
import { Site } from './support/site.ts';

const limit = { timeout: 30_000 };
const main = fileURLToPath(new URL('../src/main.ts', import.meta.url));

function listens(...addresses: string[]): Listen[] {
  return configOf({ backends: ['http://127.0.0.1:1'] }, { listen: addresses.map((address) => ({ address })) }).listen;
}

/** Sockets that are closed with the test. */
function sockets(t: TestContext, activated = new Map<string, number[]>()): Sockets {
  const made = new Sockets(activated);
  t.after(() => made.release([]));
  return made;
}

/** What a worker does with a descriptor. */
async function accepting(t: TestContext, fd: number): Promise<net.Server> {
  const server = net.createServer((socket) => socket.end('hello')).listen({ fd });
  await once(server, 'listening');
  t.after(() => server.close());
  return server;
}

async function greeting(options: net.NetConnectOpts): Promise<string> {
  const socket = net.connect(options);
  let text = '';
  socket.setEncoding('utf8').on('data', (piece: string) => (text += piece));
  await once(socket, 'close');
  return text;
}

async function otherProgram(t: TestContext, where: { port: number; host: string } | { path: string }): Promise<net.Server> {
  const server = net.createServer().listen(where);
  await once(server, 'listening');
  t.after(() => server.close());
  return server;
}

test('an address is bound once, with the real port in words, and workers accept on it', limit, async (t) => {
  const own = sockets(t);
  const [first] = await own.open(listens('127.0.0.1:0'));
  const [again] = await own.open(listens('127.0.0.1:0'));
  assert.ok(first);
  assert.equal(again?.fd, first.fd);
  const port = Number(/^127\.0\.0\.1:([1-9]\d*)$/.exec(first.where)?.[1]);
  await accepting(t, first.fd);
  assert.equal(await greeting({ port, host: '127.0.0.1' }), 'hello');

  const two = await own.open(listens('127.0.0.1:0', '127.0.0.1:0'));
  assert.equal(two[0]?.fd, first.fd);
  assert.notEqual(two[1]?.where, first.where, 'port 0 is another port each time');
});

test('a port in use names the address, the cause and the setting, and leaves everything as it was', limit, async (t) => {
  const taken = (await otherProgram(t, { port: 0, host: '127.0.0.1' })).address() as net.AddressInfo;
  const own = sockets(t);
  await assert.rejects(own.open(listens('127.0.0.1:0', `127.0.0.1:${taken.port}`)), {
    name: 'ListenError',
    code: 'listen_failed',
    message: `cannot listen on 127.0.0.1:${taken.port}: EADDRINUSE: another program is listening there; stop it or change listen[].address`,
  });
  // What had been bound before the failure was given back: the next attempt gets a new port.
  const [bound] = await own.open(listens('127.0.0.1:0'));
  assert.match(bound?.where ?? '', /^127\.0\.0\.1:[1-9]\d*$/);
});

test('addresses that cannot be had say why', limit, async (t) => {
  const { folder } = await Site.create(t);
  const cases: [address: string, message: RegExp][] = [
    ['192.0.2.1:443', /^cannot listen on 192\.0\.2\.1:443: EADDRNOTAVAIL: this machine has no such address$/],
    ['nowhere.invalid:443', /^cannot listen on nowhere\.invalid:443: the name has no address; see listen\[\]\.address$/],
    ['[::ffff:127.0.0.1]:443', /^cannot listen on \[::ffff:127\.0\.0\.1\]:443: EINVAL: .* IPv4 in the notation of IPv6; /],
    [`unix:${folder}/none/x.sock`, /^cannot listen on unix:.*: ENOENT: the folder of the socket does not exist$/],
    ['fd:web', /^fd:web is not among the sockets passed by the service manager \(LISTEN_FDNAMES\)$/],
  ];
  for (const [address, message] of cases) await assert.rejects(sockets(t).open(listens(address)), { code: 'listen_failed', message });
});

test('[::] and 0.0.0.0 stand side by side on one port', limit, async (t) => {
  const own = sockets(t);
  const [four] = await own.open(listens('0.0.0.0:0'));
  const port = Number(four?.where.split(':').at(-1));
  const both = await own.open(listens('0.0.0.0:0', `[::]:${port}`));
  for (const { fd } of both) await accepting(t, fd);
  assert.equal(await greeting({ port, host: '127.0.0.1' }), 'hello');
  assert.equal(await greeting({ port, host: '::1' }), 'hello');
});

const portOf = (where: string): number => Number(where.split(':').at(-1));

test('an address that contains another takes its place and gives it back, with nobody turned away', limit, async (t) => {
  for (const [one, all, other] of [
    ['127.0.0.1', '0.0.0.0', '127.0.0.2'],
    ['[::1]', '[::]', undefined],
  ] as const) {
    const own = sockets(t);
    const port = portOf(await closedPort());
    const first = await own.open(listens(`${one}:${port}`));
    const narrow = await accepting(t, first[0]!.fd);
    const meet = (host: string) => greeting({ port, host: host.replaceAll(/[[\]]/g, '') });

    const wide = await own.open(listens(`${all}:${port}`));
    assert.deepEqual(
      wide.map(({ where }) => where),
      [`${all}:${port}`, `${all}:${port}`],
    );
    assert.ok(
      wide.some(({ fd }) => fd === first[0]!.fd),
      'who waits in the queue of the first is served',
    );
    const everywhere = await accepting(t, wide.find(({ fd }) => fd !== first[0]!.fd)!.fd);
    own.release(wide);
    assert.equal(await meet(one), 'hello');
    if (other) assert.equal(await meet(other), 'hello');

    const back = await own.open(listens(`${one}:${port}`));
    assert.deepEqual(
      back.map(({ fd }) => fd),
      [first[0]!.fd],
    );
    everywhere.close();
    own.release(back, true);
    assert.equal(await meet(one), 'hello');
    if (other) await assert.rejects(meet(other), { code: 'ECONNREFUSED' });
    narrow.close();
  }
});

test('an address and one that contains it may both be given: the narrower one has its own connections', limit, async (t) => {
  const own = sockets(t);
  const [narrow] = await own.open(listens('127.0.0.1:0'));
  const port = portOf(narrow!.where);
  const both = await own.open(listens('127.0.0.1:0', `0.0.0.0:${port}`));
  assert.equal(both.length, 2);
  for (const [n, { fd }] of both.entries()) {
    const server = net.createServer((socket) => socket.end(n === 0 ? 'narrow' : 'wide')).listen({ fd });
    await once(server, 'listening');
    t.after(() => server.close());
  }
  assert.equal(await greeting({ port, host: '127.0.0.1' }), 'narrow');
  assert.equal(await greeting({ port, host: '127.0.0.2' }), 'wide');
});

test('no second program shares a port, not even one that has bound it before the first listens', limit, async (t) => {
  const [one, two] = [sockets(t), sockets(t)];
  const [first] = await one.open(listens('127.0.0.1:0'));
  const address = `127.0.0.1:${portOf(first!.where)}`;
  await two.open(listens(address));
  two.assertStillFree();
  await accepting(t, first!.fd);
  assert.throws(() => two.assertStillFree(), { code: 'listen_failed', message: new RegExp(`^cannot listen on ${address}: EADDRINUSE`) });
  for (const overlapping of [address, `0.0.0.0:${portOf(first!.where)}`])
    await assert.rejects(sockets(t).open(listens(overlapping)), { message: /EADDRINUSE/ });
});

test('one address in two spellings is refused with both', limit, async (t) => {
  const own = sockets(t);
  const port = portOf(await closedPort());
  await assert.rejects(own.open(listens(`127.0.0.1:${port}`, `localhost:${port}`)), {
    message: `cannot listen on localhost:${port}: it is the same address as 127.0.0.1:${port}; see listen[].address`,
  });
});

test('a unix socket is for its owner and group; it goes when it is released', limit, async (t) => {
  const { folder } = await Site.create(t);
  const path = `${folder}/x.sock`;
  const own = sockets(t);
  const [socket] = await own.open(listens(`unix:${path}`));
  assert.equal((await stat(path)).mode & 0o777, 0o660);
  const server = await accepting(t, socket!.fd);
  assert.equal(await greeting({ path }), 'hello');
  server.close();
  own.release([]);
  await assert.rejects(stat(path), { code: 'ENOENT' });
});

test('of what is in the way of a unix socket, only a dead socket is removed', limit, async (t) => {
  const { folder } = await Site.create(t);

  const dead = `${folder}/dead.sock`;
  const killed = spawn(process.execPath, ['-e', `require('net').createServer().listen(${JSON.stringify(dead)}, () => console.log())`]);
  await once(killed.stdout, 'data');
  killed.kill('SIGKILL');
  await once(killed, 'exit');
  assert.ok((await stat(dead)).isSocket());
  const [socket] = await sockets(t).open(listens(`unix:${dead}`));
  await accepting(t, socket!.fd);
  assert.equal(await greeting({ path: dead }), 'hello');

  const live = `${folder}/live.sock`;
  await otherProgram(t, { path: live });
  await assert.rejects(sockets(t).open(listens(`unix:${live}`)), { message: /EADDRINUSE: another program is listening there/ });
  assert.ok((await stat(live)).isSocket());

  const file = `${folder}/notes.txt`;
  await writeFile(file, 'mine');
  await assert.rejects(sockets(t).open(listens(`unix:${file}`)), { message: new RegExp(`: ${file} exists and is not a socket$`) });
  assert.equal(await readFile(file, 'utf8'), 'mine');
});

test('sockets of the service manager are used as they are: all of a name, and none is closed', limit, async (t) => {
  const inherited = sockets(t);
  const [one, two] = await inherited.open(listens('127.0.0.1:0', '[::1]:0'));
  const own = sockets(t, new Map([['web', [one!.fd, two!.fd]]]));
  assert.deepEqual(
    (await own.open(listens('fd:web'))).map(({ fd, where }) => [fd, where]),
    [
      [one!.fd, 'fd:web'],
      [two!.fd, 'fd:web'],
    ],
  );
  own.release([]);
  await accepting(t, one!.fd);
  assert.equal(await greeting({ port: Number(one!.where.split(':').at(-1)), host: '127.0.0.1' }), 'hello');
});

test('a descriptor that is no socket to listen on ends the start, with words', limit, async (t) => {
  const site = await Site.create(t);
  const certificates = [await site.write('a', await site.issue('a.test'))];
  const file = site.file('config.yaml');
  const host = { server_name: 'a.test', certificates, backends: ['http://127.0.0.1:1'] };
  await writeFile(file, stringify({ listen: [{ address: 'fd:web' }], workers: 1, state_dir: 'state', virtual_hosts: [host] }));
  const inherit = 'exec 3</dev/null; export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=web; exec "$@"';
  const { code, stderr } = await execute('sh', ['-c', inherit, 'sh', process.execPath, main, 'run', '--config', file]);
  assert.equal(code, 1);
  assert.match(stderr, /^staplegate: cannot listen on fd:web: EINVAL: what the service manager passed is no stream socket/m);
});

test('the program serves on a listening socket that it inherits', limit, async (t) => {
  const site = await Site.create(t);
  const { url } = await httpBackend(t, (_, res) => res.end('inherited'));
  const certificates = [await site.write('a', await site.issue('a.test'))];
  const file = site.file('config.yaml');
  await writeFile(
    file,
    stringify({ listen: [{ address: 'fd:web' }], workers: 1, state_dir: 'state', virtual_hosts: [{ server_name: 'a.test', certificates, backends: [url] }] }),
  );
  const listening = await otherProgram(t, { port: 0, host: '127.0.0.1' });
  const { port } = listening.address() as net.AddressInfo;
  const { fd } = (listening as unknown as { _handle: { fd: number } })._handle;
  // LISTEN_PID must be the process that runs in the end, as with a service manager, which sets it between fork and exec.
  const program = spawn(
    'sh',
    ['-c', 'export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=web; exec "$@"', 'sh', process.execPath, main, 'run', '--config', file],
    { stdio: ['ignore', 'ignore', 'pipe', fd] },
  );
  const exited = once(program, 'exit');
  t.after(async () => {
    program.kill('SIGKILL');
    await exited;
  });
  // The child has the socket; from here on nobody else accepts.
  listening.close();
  const lines: string[] = [];
  for await (const line of createInterface({ input: program.stderr! })) {
    lines.push(line);
    if (line.includes('serving 1 virtual host')) break;
  }
  assert.ok(
    lines.some((line) => line.includes(' listening on fd:web (https)')),
    lines.join('\n'),
  );
  const { answer } = await getOnce({ port, name: 'a.test', ca: site.root.pem });
  assert.equal(answer.body, 'inherited');
  program.kill('SIGTERM');
  assert.deepEqual(await exited, [0, null]);
});
