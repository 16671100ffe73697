import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, writeFile } from 'node:fs/promises';
import * as net from 'node:net';
import test, { type TestContext } from 'node:test';
import * as tls from 'node:tls';
import { answering, closedPort, RawBackend } from './support/backend.ts';
import { RawClient } from './support/front.ts';
import { buildHello, curlHello, inRecordsOf, serverNameExtension } from './support/hello.ts';
import { getOnce, HttpsClient } from './support/load.ts';
import { startNginx } from './support/nginx.ts';
import { execute, type Program, staplegate } from './support/program.ts';
import { Site } from './support/site.ts';
import { needs } from './support/tools.ts';

/** Virtual hosts with `tls: passthrough` in the real program: their applications do their own TLS. */

const limit = { timeout: 30_000 };
const tcp = (url: string): string => url.replace('http:', 'tcp:');

function configuration(virtualHosts: object[], top: object = {}) {
  const listen = [{ address: '127.0.0.1:0' }, { address: '127.0.0.1:0', protocol: 'http' }];
  return { listen, shutdown_grace: '1s', log: { access: true }, virtual_hosts: virtualHosts, ...top };
}

async function openedHost(site: Site, name: string, backend: string, more: object = {}) {
  return { server_name: name, certificates: [await site.write(name, await site.issue(name))], backends: [backend], ...more };
}

const passedHost = (name: string, backend: string, more: object = {}) => ({ server_name: name, tls: 'passthrough', backends: [tcp(backend)], ...more });

/** nginx with TLS of its own, and this certificate. */
async function startTlsNginx(site: Site, stem: string): Promise<{ url: string }> {
  const { host } = new URL(await closedPort());
  await site.use(
    startNginx(
      site.folder,
      `server {
        listen ${host} ssl http2;
        ssl_certificate ${site.file(`${stem}.pem`)};
        ssl_certificate_key ${site.file(`${stem}.key`)};
        location / { return 200 "nginx $request_method $request_uri host=$http_host\\n"; }
      }`,
    ),
  );
  return { url: `tcp://${host}` };
}

const greeting = randomBytes(100_000).toString('latin1');

/** Answers the first bytes of a connection, whatever they are, with bytes that are no TLS. */
function binary(t: TestContext): Promise<RawBackend> {
  return new RawBackend(
    () => {},
    ({ socket }) => socket.write(Buffer.from(greeting, 'latin1')),
  ).listen(t);
}

async function reload(site: Site, program: Program, config: object): Promise<void> {
  const from = program.log.length;
  await site.configure(config);
  await program.line(/code=reloaded/, from);
}

test('nginx with a certificate of its own is reached by its name, others by theirs', { ...limit, ...needs('nginx', 'curl', 'openssl') }, async (t) => {
  const site = await Site.create(t);
  await site.write('mail', await site.issue('mail.test'));
  const nginx = await startTlsNginx(site, 'mail');
  const backend = await answering('opened here').listen(t);
  const program = await site.serving(configuration([await openedHost(site, 'a.test', backend.url), passedHost('mail.test', nginx.url)]));
  const at = (name: string) => ['-sS', '--cacert', site.ca, '--noproxy', '*', '--resolve', `${name}:${program.port()}:127.0.0.1`];

  // HTTP/2, which only the application speaks.
  const { stdout, stderr } = await execute('curl', [...at('mail.test'), '-w', '%{http_version}', '--http2', `https://mail.test:${program.port()}/x`]);
  assert.equal(stdout, `nginx GET /x host=mail.test:${program.port()}\n2`, stderr);
  const { answer } = await getOnce({ port: program.port(), name: 'a.test', ca: site.root.pem });
  assert.equal(answer.body, 'opened here');
  assert.match(
    await program.line(/ passthrough mail\.test /),
    /received=\d{3,} bytes=\d{3,} ms=\d+ client=127\.0\.0\.1 backend=tcp:\/\/127\.0\.0\.1:\d+ virtual_host=mail\.test/,
  );

  const status = await staplegate('status', '--config', site.file('config.yaml'));
  assert.match(status.stdout, new RegExp(`^mail\\.test\\n  passthrough to ${nginx.url}$`, 'm'));
  assert.equal(status.code, 0, status.stdout);
  const check = await staplegate('check', '--config', site.file('config.yaml'));
  assert.match(check.stdout, new RegExp(`^mail\\.test\\n  passthrough to ${nginx.url}$`, 'm'));
  assert.equal(check.code, 0, check.stdout);
});

test('every byte arrives, however the hello is cut, and nothing is added', { ...limit, ...needs('curl') }, async (t) => {
  const site = await Site.create(t);
  const backend = await binary(t);
  // No certificate anywhere: nothing here needs one.
  const program = await site.serving(configuration([passedHost('mail.test', backend.url)]));
  // GREASE ECH (RFC 9849, 6.2) is an encrypted_client_hello of random bytes.
  const ech = buildHello({
    extensions: [
      [0x0a0a, Buffer.alloc(0)],
      [0, serverNameExtension('mail.test')],
      [0xfe0d, Buffer.concat([Buffer.of(0, 0, 1, 0, 1, 7, 0, 32), randomBytes(32), Buffer.of(0, 239), randomBytes(239)])],
      [0xfafa, Buffer.of(0)],
    ],
  });
  const hellos = [ech, inRecordsOf(7, ech), await curlHello('mail.test'), inRecordsOf(100, await curlHello('mail.test'))];
  for (const [n, hello] of hellos.entries()) {
    const client = await RawClient.connect(program.port());
    client.socket.setNoDelay(true);
    const rest = randomBytes(70_000);
    const sent = Buffer.concat([hello, rest]);
    for (const end of [5, 6, hello.length - 1]) client.socket.write(sent.subarray(end === 5 ? 0 : end === 6 ? 5 : 6, end));
    client.socket.write(sent.subarray(hello.length - 1));
    client.socket.end();
    await backend.until((connections) => connections[n]?.ended === true);
    assert.equal(backend.connections[n]?.text === sent.toString('latin1'), true, `hello ${n}`);
    await client.until(() => client.text.length === greeting.length);
    assert.equal(client.text === greeting, true);
    backend.connections[n]?.socket.end();
    await client.toEnd();
  }
});

test('as the default it gets unknown names and none, and its names open no other virtual host', limit, async (t) => {
  const site = await Site.create(t);
  const [application, secret] = [await binary(t), await answering('a').listen(t)];
  const hosts = [await openedHost(site, 'a.test', secret.url), passedHost('mail.test', application.url, { aliases: ['*.mail.test'], default: true })];
  const program = await site.serving(configuration(hosts));
  const names = ['mail.test', 'x.mail.test', 'unknown.test', undefined];
  for (const [n, name] of names.entries()) {
    const hello = buildHello({ extensions: name === undefined ? [] : [[0, serverNameExtension(name)]] });
    const client = await RawClient.connect(program.port());
    client.socket.write(hello);
    await application.until((connections) => connections[n]?.text === hello.toString('latin1'));
    client.socket.destroy();
  }

  const client = await HttpsClient.connect({ port: program.port(), name: 'a.test', ca: site.root.pem });
  for (const host of ['mail.test', 'x.mail.test', 'unknown.test']) {
    client.raw.send(`GET / HTTP/1.1\r\nHost: ${host}\r\n\r\n`);
    assert.equal((await client.raw.answer()).status, 421, host);
  }
  assert.equal((await client.get()).body, 'a');
  client.close();

  const plain = await RawClient.connect(program.port());
  plain.send('GET / HTTP/1.1\r\nHost: mail.test\r\n\r\n');
  assert.equal((await plain.answer()).status, 400);
  assert.equal(application.connections.length, names.length);
  assert.equal(secret.connections.length, 1);
});

test('without a backend the handshake is refused with an alert', { ...limit, ...needs('openssl') }, async (t) => {
  const site = await Site.create(t);
  const program = await site.serving(configuration([passedHost('mail.test', await closedPort())]));
  const { stderr } = await execute('openssl', ['s_client', '-connect', `127.0.0.1:${program.port()}`, '-servername', 'mail.test']);
  assert.match(stderr, /SSL alert number 80/);
  await program.line(/warn .*no connection to the backend .*code=backend_unreachable/);
});

test('plain HTTP for its name is sent to https, ACME challenges too: the application has the certificate', limit, async (t) => {
  const site = await Site.create(t);
  const backend = await binary(t);
  await mkdir(site.file('challenges'));
  await writeFile(site.file('challenges', 'token'), 'from the folder');
  const hosts = [passedHost('mail.test', backend.url), await openedHost(site, 'a.test', backend.url)];
  const program = await site.serving(configuration(hosts, { acme_challenge_dir: 'challenges' }));
  const client = await RawClient.connect(program.port('http'));
  for (const path of ['/inbox?x', '/.well-known/acme-challenge/token']) {
    client.send(`GET ${path} HTTP/1.1\r\nHost: mail.test\r\n\r\n`);
    const { status, head } = await client.answer();
    assert.equal(status, 308);
    assert.equal(/^location: https:\/\/mail\.test(?::\d+)?(.*)$/im.exec(head)?.[1], path);
  }
  client.send('GET /.well-known/acme-challenge/token HTTP/1.1\r\nHost: a.test\r\n\r\n');
  assert.equal((await client.answer()).body, 'from the folder');
  assert.equal(backend.connections.length, 0);
});

test('a reload changes new connections only, from passthrough and to it; no request gets where HTTP is not spoken', limit, async (t) => {
  const site = await Site.create(t);
  const [application, backend] = [await binary(t), await answering('over HTTP').listen(t)];
  const opened = await openedHost(site, 'a.test', backend.url);
  const passed = passedHost('a.test', application.url);
  const program = await site.serving(configuration([passed]));
  const hello = buildHello({ extensions: [[0, serverNameExtension('a.test')]] });
  const carried = await RawClient.connect(program.port());
  carried.socket.write(hello);
  await carried.until(() => carried.text === greeting);

  await reload(site, program, configuration([opened]));
  const target = { port: program.port(), name: 'a.test', ca: site.root.pem };
  const client = await HttpsClient.connect(target);
  assert.equal((await client.get()).body, 'over HTTP');
  carried.send('more');
  await application.until(([first]) => first?.text.endsWith('more') === true);

  await reload(site, program, configuration([passed]));
  // Its handshake was made here, but the virtual host has no HTTP any more.
  await client.raw.toEnd();
  const next = await RawClient.connect(program.port());
  next.socket.write(hello);
  await next.until(() => next.text === greeting);
  assert.equal(application.connections.length, 2);
  assert.doesNotMatch(application.text, /HTTP\/1\.1/);
  carried.socket.destroy();
  next.socket.destroy();
});

for (const workers of [1, 0]) {
  test(`SIGTERM (workers: ${workers}): an open connection goes on within shutdown_grace, and is cut after it`, limit, async (t) => {
    const site = await Site.create(t);
    const backend = await binary(t);
    const open = async (program: Program): Promise<RawClient> => {
      const client = await RawClient.connect(program.port());
      client.socket.write(buildHello({ extensions: [[0, serverNameExtension('a.test')]] }));
      await client.until(() => client.text === greeting);
      program.process.kill('SIGTERM');
      for (;;) {
        // Nobody accepts any more.
        const socket = net.connect(program.port(), '127.0.0.1');
        const refused = await once(socket, 'connect').then(
          () => false,
          () => true,
        );
        socket.destroy();
        if (refused) return client;
      }
    };
    const patient = await site.serving(configuration([passedHost('a.test', backend.url)], { workers, shutdown_grace: '20s' }));
    const client = await open(patient);
    client.send('still here');
    await backend.until(([first]) => first?.text.endsWith('still here') === true);
    backend.connections[0]?.socket.end('bye');
    assert.equal(await client.toEnd(), `${greeting}bye`);
    await patient.ended;
    assert.equal(patient.process.exitCode, 0);

    const hasty = await site.serving(configuration([passedHost('a.test', backend.url)], { workers, shutdown_grace: '50ms' }));
    await (await open(hasty)).toEnd();
    await hasty.ended;
    assert.equal(hasty.process.exitCode, 0);
  });
}

test('client certificates and the half-close of TLS 1.3 are between the client and the application', limit, async (t) => {
  const site = await Site.create(t);
  const { pem, keyPem } = await site.issue('a.test');
  const application = tls.createServer(
    { cert: pem, key: keyPem, ca: site.authority.pem, requestCert: true, rejectUnauthorized: false, allowHalfOpen: true },
    (socket) => {
      let text = '';
      socket.on('error', () => {});
      socket.setEncoding('utf8').on('data', (piece: string) => (text += piece));
      socket.on('end', () => socket.end(`${text} from ${String(socket.getPeerCertificate().subject?.CN)}`));
    },
  );
  application.listen(0, '127.0.0.1');
  await once(application, 'listening');
  t.after(() => application.close());
  const { port } = application.address() as net.AddressInfo;
  const program = await site.serving(configuration([passedHost('a.test', `tcp://127.0.0.1:${port}`)]));
  const client = await site.authority.issue({ commonName: 'Ada', clientAuth: true });
  const raw = net.connect({ port: program.port(), host: '127.0.0.1', allowHalfOpen: true });
  const socket = tls.connect({ socket: raw, servername: 'a.test', ca: [site.root.pem, site.authority.pem], cert: client.pem, key: client.keyPem });
  let answer = '';
  socket.setEncoding('utf8').on('data', (piece: string) => (answer += piece));
  // close_notify and FIN go through, and the answer comes after them.
  socket.end('question');
  await once(socket, 'end');
  assert.equal(answer, 'question from Ada');
});
