import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFile, rename, writeFile } from 'node:fs/promises';
import test from 'node:test';
import * as tls from 'node:tls';
import { gunzipSync } from 'node:zlib';
import { Authority } from '../src/demo/authority.ts';
import { startApache } from './support/apache.ts';
import { closedPort } from './support/backend.ts';
import { startNginx } from './support/nginx.ts';
import { pythonPackage, startPython } from './support/python.ts';
import { ServedSite } from './support/served-site.ts';
import { Site } from './support/site.ts';
import { needs } from './support/tools.ts';

/** The real program before the servers that stand behind proxies in the world, each installed from Debian. */

const limit = { timeout: 60_000 };
const sha256 = (bytes: string | Buffer): string => createHash('sha256').update(bytes).digest('hex');

test('nginx with TLS: verified with an authority of its own, which may change', { ...needs('curl', 'nginx'), ...limit }, async (t) => {
  const site = await Site.create(t);
  const [backends, others] = [await Authority.root('Backends'), await Authority.root('Others')];
  await site.write('app', await backends.issue({ names: ['app.internal'] }));
  const { host } = new URL(await closedPort());
  await site.use(
    startNginx(
      site.folder,
      `server {
        listen ${host} ssl;
        ssl_certificate ${site.file('app.pem')};
        ssl_certificate_key ${site.file('app.key')};
        ssl_protocols TLSv1.3;
        location / { return 200 "$ssl_server_name $ssl_protocol resumed=$ssl_session_reused host=$http_host"; }
      }`,
    ),
  );
  const put = async (pem: string): Promise<void> => {
    await writeFile(site.file('ca.new'), pem);
    await rename(site.file('ca.new'), site.file('ca.pem'));
  };
  await put(backends.pem);
  const route = { path: '/', backends: [`https://${host}`], backend_tls: { ca: 'ca.pem', server_name: 'app.internal' } };
  const server = await ServedSite.start(t, { 'app.test': { routes: [route] } }, {}, site);
  const url = 'https://app.test/';
  assert.equal(await server.get(url), 'app.internal TLSv1.3 resumed=. host=app.test');

  let from = server.program.log.length;
  await put(others.pem);
  await server.program.line(/ configuration reloaded/, from);
  assert.equal(await server.get('-o', '/dev/null', '-w', '%{http_code}', url), '502');
  assert.match(
    await server.program.line(/code=backend_tls/, from),
    new RegExp(
      `the TLS handshake with the backend failed.* backend=https://${host} .*backend_tls\\.ca.*the authority that issued its certificate is not known`,
    ),
  );

  from = server.program.log.length;
  await put('nonsense');
  assert.match(await server.program.line(/code=backend_tls_file/, from), /ca\.pem cannot be used \(.*backend_tls\.ca\), what was read before stays in force/);
  await server.program.line(/ configuration reloaded/, from);

  from = server.program.log.length;
  await put(backends.pem);
  await server.program.line(/ configuration reloaded/, from);
  assert.match(await server.get(url), /^app\.internal /);
});

test('Apache: files, compressed in chunks; CGI programs with bodies of known and unknown length', { ...needs('curl', 'apache2'), ...limit }, async (t) => {
  const site = await Site.create(t);
  const apache = await site.use(startApache(site.folder));
  const text = `All work and no play. ${randomBytes(300_000).toString('hex')}`;
  await writeFile(site.file('apache', 'www', 'text.txt'), text);
  const server = await ServedSite.start(t, { 'app.test': { backends: [apache.url] } }, {}, site);
  assert.equal(await server.sum('https://app.test/text.txt'), sha256(text));
  assert.equal(await server.sum('--compressed', 'https://app.test/text.txt'), sha256(text));
  const { stdout, stderr } = await server.curl(['-sv', '-o', site.file('text.gz'), '-H', 'Accept-Encoding: gzip', 'https://app.test/text.txt']);
  assert.match(stdout + stderr, /^< Transfer-Encoding: chunked/m);
  assert.equal(sha256(gunzipSync(await readFile(site.file('text.gz')))), sha256(text));
  assert.equal(await server.get('-r', '4-7', 'https://app.test/text.txt'), 'work');

  const body = randomBytes(300_000);
  const told = (...args: string[]) => server.curl([...args, '--data-binary', '@-', 'https://app.test/cgi/told?a=b'], body);
  assert.equal((await told()).stdout, `POST /cgi/told?a=b 300000 ${sha256(body)}\n`);
  assert.equal((await told('-X', 'PUT', '-H', 'Transfer-Encoding: chunked')).stdout, `PUT /cgi/told?a=b none ${sha256(body)}\n`);
  assert.equal(
    (await told('-H', 'Expect: 100-continue', '-H', 'Transfer-Encoding: chunked', '-X', 'DELETE')).stdout,
    `DELETE /cgi/told?a=b none ${sha256(body)}\n`,
  );
});

const fileServer = `
import http.server
server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), http.server.SimpleHTTPRequestHandler)
print(server.server_port)
server.serve_forever()`;

/** It knows HTTP/1.0 only: it reads what Content-Length says, and ends its answers by closing. */
const oldApplication = `
import hashlib, http.server
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers['Content-Length']))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f'{self.requestline} {len(body)} {hashlib.sha256(body).hexdigest()} {self.headers["Host"]}'.encode())
    def do_GET(self):
        self.send_response(200)
        self.send_header('Content-Type', 'text/event-stream')
        self.end_headers()
        for event in ('one', 'two'):
            self.wfile.write(f'data: {event}\\n\\n'.encode())
            self.wfile.flush()
            self.connection.recv(1)
server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
print(server.server_port)
server.serve_forever()`;

test(
  "Python's http.server: files with HTTP/1.0, and an application that is told the length of everything",
  { ...needs('curl', 'python3'), ...limit },
  async (t) => {
    const site = await Site.create(t);
    const [files, old] = [await site.use(startPython(fileServer)), await site.use(startPython(oldApplication))];
    const routes = [{ path: '/', backends: [old.url], http_version: 1.0 }];
    const server = await ServedSite.start(t, { 'files.test': { backends: [files.url] }, 'old.test': { routes } }, {}, site);
    const page = await readFile('package.json');
    assert.equal(await server.sum('https://files.test/package.json'), sha256(page));
    assert.match(await server.get('-I', 'https://files.test/package.json'), new RegExp(`^HTTP/1\\.1 200 OK\r\n[^]*^Content-Length: ${page.length}\r$`, 'm'));
    assert.equal(await server.get('-o', '/dev/null', '-w', '%{http_code}', 'https://files.test/missing'), '404');

    const body = randomBytes(700_000);
    const told = `POST /a HTTP/1.0 700000 ${sha256(body)} old.test`;
    for (const how of [[], ['-H', 'Transfer-Encoding: chunked'], ['-H', 'Transfer-Encoding: chunked', '-H', 'Expect: 100-continue']]) {
      const { stdout, stderr } = await server.curl([...how, '--data-binary', '@-', 'https://old.test/a'], body);
      assert.equal(stdout, told, stderr);
    }
    const tooLarge = await server.curl(
      ['-o', '/dev/null', '-w', '%{http_code}', '-H', 'Transfer-Encoding: chunked', '--data-binary', '@-', 'https://old.test/a'],
      randomBytes(1_100_000),
    );
    assert.equal(tooLarge.stdout, '411');

    // An answer that ends when its connection does, and has begun to come long before.
    const client = await server.connect('old.test');
    client.send('/events');
    await client.raw.until(() => client.raw.text.includes('data: one\n\n'));
    assert.doesNotMatch(client.raw.text, /data: two/);
    client.close();
  },
);

const webSockets = `
import asyncio, websockets
async def echo(socket):
    print(socket.path, socket.request_headers['X-Forwarded-For'], [one.name for one in socket.extensions])
    async for message in socket:
        await socket.send(message)
async def main():
    server = await websockets.serve(echo, '127.0.0.1', 0)
    print(server.sockets[0].getsockname()[1])
    await asyncio.Future()
asyncio.run(main())`;

test("Python's websockets: messages of all sizes, compressed; the end of both sides", { ...needs(pythonPackage('websockets')), ...limit }, async (t) => {
  const site = await Site.create(t);
  const backend = await site.use(startPython(webSockets));
  const server = await ServedSite.start(t, { 'app.test': { backends: [backend.url], aliases: ['localhost'] } }, {}, site);
  // The built-in client takes no certificates of its own.
  const known = tls.getCACertificates('default');
  tls.setDefaultCACertificates([site.root.pem]);
  t.after(() => tls.setDefaultCACertificates(known));

  const socket = new WebSocket(`wss://localhost:${server.port}/chat?room=1`);
  socket.binaryType = 'arraybuffer';
  await once(socket, 'open');
  assert.equal(await backend.line(), "/chat?room=1 127.0.0.1 ['permessage-deflate']");
  for (const size of [0, 1, 125, 126, 65_536, 900_000]) {
    const message = randomBytes(size);
    const answer = once(socket, 'message') as Promise<[MessageEvent]>;
    socket.send(message);
    assert.ok(message.equals(Buffer.from((await answer)[0].data as ArrayBuffer)), String(size));
  }
  const closed = once(socket, 'close') as Promise<[CloseEvent]>;
  socket.close(4000, 'enough');
  const [{ code, wasClean }] = await closed;
  assert.deepEqual([code, wasClean], [4000, true]);
});
