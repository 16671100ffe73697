import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import * as http2 from 'node:http2';
import test from 'node:test';
import { Application, type Told } from './support/application.ts';
import { answering } from './support/backend.ts';
import { Http2Load } from './support/http2-load.ts';
import { answerOf } from './support/http2.ts';
import { childrenOf } from './support/processes.ts';
import { execute } from './support/program.ts';
import { ServedSite } from './support/served-site.ts';
import { slowBackend } from './support/slow-backend.ts';
import { needs } from './support/tools.ts';

/** HTTP/2 of the real program, with TLS in front and real clients. */

const tools = { ...needs('curl', 'h2load'), timeout: 60_000 };

function sum(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** A session with 127.0.0.1, named in the handshake. */
async function connect(server: ServedSite, name: string): Promise<http2.ClientHttp2Session> {
  const session = http2.connect(`https://127.0.0.1:${server.port}`, { ca: server.site.root.pem, servername: name });
  server.site.defer(async () => session.destroy());
  await once(session, 'connect');
  return session;
}

test('curl and h2load choose HTTP/2, and older clients what they know', tools, async (t) => {
  const application = await Application.start(t);
  const server = await ServedSite.start(t, { 'app.test': { backends: [application.url] }, 'old.test': { engine: 'http-proxy', backends: [application.url] } });

  await t.test('the handshake chooses the version', async () => {
    const version = (...options: string[]) => server.get('-o', '/dev/null', '-w', '%{http_version} ', ...options);
    assert.equal(await version('--http2', 'https://app.test/'), '2 ');
    assert.equal(await version('--http1.1', 'https://app.test/'), '1.1 ');
    assert.equal(await version('--no-alpn', 'https://app.test/'), '1.1 ');
    assert.match((await server.curl(['-v', '--http2', 'https://app.test/'])).stderr, /ALPN: server accepted h2/);
  });

  for (const name of ['app.test', 'old.test']) {
    await t.test(`bodies arrive whole in both directions (${name})`, async () => {
      const body = randomBytes(20_000_000);
      // Of known and, from a pipe, of unknown length.
      for (const [options, framing] of [
        [['--data-binary', '@-'], 'content-length'],
        [['-T', '-'], 'Transfer-Encoding'],
      ] as const) {
        const { stdout, stderr } = await server.curl(['--http2', '-X', 'POST', ...options, `https://${name}/`], body);
        const told = JSON.parse(stdout || stderr) as Told;
        assert.deepEqual([told.method, told.length, told.sha256, told.rawHeaders.includes(framing)], ['POST', body.length, sum(body), true]);
      }
      const pieces = await server.get('--http2', '-i', `https://${name}/pieces`);
      assert.match(pieces, /^HTTP\/2 200 \r\n[^]*\r\n\r\none two three$/);
      assert.match(await server.get('--http2', '-I', `https://${name}/`), /^HTTP\/2 200 \r\n/);
    });
  }

  await t.test('many streams on few connections', async () => {
    const args = ['-n', '3000', '-c', '10', '-m', '20', '--connect-to', `127.0.0.1:${server.port}`, `https://app.test:${server.port}/`];
    const { stdout } = await execute('h2load', args);
    assert.match(stdout, /^Application protocol: h2$/m);
    assert.match(stdout, /3000 succeeded, 0 failed, 0 errored, 0 timeout$/m);
  });

  await t.test('a stream for another virtual host is 421, although the certificate is for both', async () => {
    const session = await connect(server, 'app.test');
    for (const [authority, status] of [
      ['old.test', 421],
      ['app.test', 200],
    ] as const) {
      assert.equal((await answerOf(session.request({ ':authority': `${authority}:${server.port}` }))).status, status);
    }
  });
});

test('workers come and go under load, and no request is lost', { timeout: 60_000 }, async (t) => {
  const backend = await answering().listen(t);
  const server = await ServedSite.start(t, { 'app.test': { backends: [backend.url] } }, { workers: 2, shutdown_grace: '10s', log: { level: 'debug' } });
  const { program, site } = server;
  const load = await site.use(new Http2Load({ port: server.port, name: 'app.test', ca: site.root.pem }));
  await load.until(({ requests }) => requests > 100);
  for (const worker of childrenOf(program.process.pid)) {
    const [from, served] = [program.log.length, load.requests];
    process.kill(worker, 'SIGTERM');
    await program.line(/worker \d+ is listening/, from);
    await load.until(({ requests }) => requests > served + 200);
  }
  const opened = load.connections;
  assert.ok(opened > 3, 'the clients were told to go elsewhere');
  await load.stop();
  assert.deepEqual(load.failures, []);
});

test('SIGTERM: streams under way are answered, and the connection ends', { timeout: 60_000 }, async (t) => {
  const backend = await slowBackend(t);
  const server = await ServedSite.start(t, { 'app.test': { backends: [backend.url] } }, { shutdown_grace: '10s' });
  const session = await connect(server, 'app.test');
  const slow = answerOf(session.request({ ':authority': 'app.test', ':path': '/slow' }));
  await backend.asked();
  server.program.process.kill('SIGTERM');
  backend.release();
  assert.deepEqual([(await slow).status, (await slow).rstCode], [200, 0]);
  await server.program.ended;
  assert.equal(server.program.process.exitCode, 0);
});
