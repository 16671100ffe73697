import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, open, writeFile } from 'node:fs/promises';
import * as net from 'node:net';
import test from 'node:test';
import { Application, type Told } from './support/application.ts';
import { closedPort, httpBackend, RawBackend } from './support/backend.ts';
import { startNginx } from './support/nginx.ts';
import { ServedSite } from './support/served-site.ts';
import { Site } from './support/site.ts';
import { needs } from './support/tools.ts';

/** The real program between real clients and real applications: what requests and answers must survive on the way. */

const tools = { ...needs('curl', 'nginx', 'sha256sum'), timeout: 60_000 };
const megabyte = 1024 ** 2;

function fieldsOf({ rawHeaders }: Told, pattern: RegExp): string[] {
  return rawHeaders.flatMap((name, i) => (i % 2 === 0 && pattern.test(name) ? [`${name}: ${rawHeaders[i + 1]}`] : []));
}

/** 100 MB that no two of are alike; returns their SHA-256. */
async function writeLargeFile(file: string): Promise<string> {
  const hash = createHash('sha256');
  await using handle = await open(file, 'w');
  for (let n = 0; n < 100; n += 1) {
    const piece = randomBytes(megabyte);
    hash.update(piece);
    await handle.write(piece);
  }
  return hash.digest('hex');
}

test('curl, the application and nginx understand each other', tools, async (t) => {
  const site = await Site.create(t);
  const nginx = await site.use(startNginx(site.folder));
  const application = await Application.start(t);
  const server = await ServedSite.start(
    t,
    { 'app.test': { backends: [application.url] }, 'files.test': { backends: [nginx.url] } },
    { log: { access: true } },
    site,
  );
  const sum = (text: string | Buffer) => createHash('sha256').update(text).digest('hex');

  await t.test('GET, POST, PUT, HEAD', async () => {
    assert.match(await server.get('https://files.test/a/b?c=%20d'), /^nginx GET \/a\/b\?c=%20d host=files\.test proto=https\n$/);
    const [got] = await server.told('https://app.test/x?y');
    assert.deepEqual([got?.method, got?.url, got?.length], ['GET', '/x?y', 0]);
    const [posted] = await server.told('--data-binary', 'a=b', 'https://app.test/form');
    assert.deepEqual([posted?.method, posted?.url, posted?.sha256], ['POST', '/form', sum('a=b')]);
    const [put] = await server.told('-X', 'PUT', '--data-binary', 'hello', 'https://app.test/put');
    assert.deepEqual([put?.method, put?.url, put?.sha256], ['PUT', '/put', sum('hello')]);
    await writeFile(site.file('nginx/www/small.txt'), 'small');
    const head = await server.get('-I', 'https://files.test/static/small.txt');
    assert.match(head, /^HTTP\/1\.1 200 OK\r\n[^]*^Content-Length: 5\r\n[^]*\r\n\r\n$/m);
  });

  await t.test('100 MB up and 100 MB down arrive whole, and the worker stays small', async () => {
    const file = site.file('nginx/www/large.bin');
    const expected = await writeLargeFile(file);
    const before = await server.mostMemory();
    const [[told], received] = await Promise.all([server.told('-T', file, 'https://app.test/'), server.sum('https://files.test/static/large.bin')]);
    assert.deepEqual([told?.length, told?.sha256], [100 * megabyte, expected]);
    assert.equal(received, expected);
    // A slow reader, too, whom the backend outruns.
    assert.equal(await server.sum('--limit-rate', '100M', 'https://files.test/static/large.bin'), expected);
    const most = await server.mostMemory();
    assert.ok(most < 250 * megabyte, `${most} bytes, ${before} before`);
  });

  await t.test('HTTP/1.0 gets an answer of unknown length up to the end of the connection', async () => {
    const answer = await server.get('-0', '-i', 'https://app.test/pieces');
    assert.match(answer, /^HTTP\/1\.1 200 OK\r\n/);
    assert.doesNotMatch(answer, /transfer-encoding/i);
    assert.match(answer, /\r\nConnection: close\r\n(?:.*\r\n)*\r\none two three$/);
  });

  await t.test('connections are kept, to the client and to the backend', async () => {
    const text = await server.get('-w', '%{num_connects}\n', ...Array.from({ length: 3 }, (_, n) => `https://app.test/${n}`));
    const [first, one, second, two, third, three] = text.split('\n');
    assert.deepEqual([one, two, three], ['1', '0', '0']);
    const ports = [first, second, third].map((line) => (JSON.parse(line ?? '') as Told).port);
    assert.equal(new Set(ports).size, 1);
  });

  await t.test('a chunked upload stays chunked; Expect: 100-continue is asked of the backend', async () => {
    const body = randomBytes(300_000);
    const { stdout, stderr } = await server.curl(['-v', '-T', '-', 'https://app.test/'], body);
    const told = JSON.parse(stdout) as Told;
    assert.deepEqual([told.length, told.sha256], [body.length, sum(body)]);
    assert.deepEqual(fieldsOf(told, /^(transfer-encoding|content-length)$/i), ['Transfer-Encoding: chunked']);
    // curl asks before it sends a body of unknown length.
    assert.match(stderr, /^> Expect: 100-continue\r$[^]*^< HTTP\/1\.1 100 Continue\r$[^]*^< HTTP\/1\.1 200 OK\r$/m);

    const refused = await server.curl(['-v', '-T', '-', '--expect100-timeout', '30', 'https://app.test/refused'], body);
    assert.match(refused.stderr, /^< HTTP\/1\.1 403 Forbidden\r$/m);
    assert.doesNotMatch(refused.stderr, /100 Continue/);
    assert.equal(application.unwanted, 0);
  });

  await t.test('X-Forwarded-* are ours, whatever the client claims', async () => {
    const forged = ['X-Forwarded-For: 10.1.1.1', 'X-Forwarded-Proto: http', 'X_Forwarded_For: 10.1.1.1', 'X-Real-IP: 10.1.1.1', 'Forwarded: for=10.1.1.1'];
    const [told] = await server.told(...forged.flatMap((field) => ['-H', field]), 'https://app.test/');
    assert.deepEqual(fieldsOf(told!, /^host$|forwarded|real/i), [
      'Host: app.test',
      'X-Forwarded-For: 127.0.0.1',
      'X-Forwarded-Proto: https',
      'X-Forwarded-Host: app.test',
      `X-Forwarded-Port: ${server.port}`,
    ]);
  });

  await t.test('server-sent events arrive one by one, before the answer ends', async () => {
    const client = await server.connect('app.test');
    client.send('/events');
    await client.raw.until(() => client.raw.text.includes('\r\n\r\n'));
    for (const event of ['first', 'second']) {
      assert.doesNotMatch(client.raw.text, new RegExp(`data: ${event}`));
      application.say(event);
      await client.raw.until(() => client.raw.text.includes(`data: ${event}\n\n`));
    }
    client.close();
  });

  await t.test('http redirects to https with path and query, and a POST goes on as one', async () => {
    const format = '%{http_code} %{redirect_url}';
    assert.equal(await server.get('-w', format, 'http://app.test/a/b?c=%20d&e'), `308 https://app.test:${server.port}/a/b?c=%20d&e`);
    const [told] = await server.told('-L', '--data-binary', 'a=b', 'http://app.test/form?x');
    assert.deepEqual([told?.method, told?.url, told?.sha256], ['POST', '/form?x', sum('a=b')]);
  });

  await t.test('a Host of another virtual host than that of the handshake is 421', async () => {
    const client = await server.connect('app.test');
    client.raw.send('GET / HTTP/1.1\r\nHost: files.test\r\n\r\n');
    const { status, body } = await client.raw.answer();
    assert.equal(status, 421);
    assert.match(body, /421 Misdirected Request/);
    assert.equal((await client.get()).status, 200, 'the connection is as good as before');
    client.close();
  });

  await t.test('every request has its line in the access log', async () => {
    await server.get('https://app.test/logged?x');
    const line = await server.program.line(/ GET app\.test\/logged\?x /);
    assert.match(line, new RegExp(` info  GET app\\.test/logged\\?x status=200 bytes=\\d+ ms=\\d+ client=127\\.0\\.0\\.1 backend=${application.url}$`));
  });
});

test('backends: a unix socket, one of two that is down, and several by path', tools, async (t) => {
  const site = await Site.create(t);
  const unix = await Application.start(t, site.file('app.sock'));
  const plain = await Application.start(t);
  const reset = await new RawBackend(() => {}).listen(t);
  // Each says its name; /hold keeps the question open.
  const held: (() => void)[] = [];
  const named = await Promise.all(
    ['one', 'two'].map((name) =>
      httpBackend(t, (req, res) => {
        if (req.url === '/hold?x') held.push(() => res.end(name));
        else res.end(`${name} ${req.url}\n`);
      }),
    ),
  );
  const balanced = { path: '/api/', strip_prefix: true, balance: 'least_conn', backends: named.map(({ url }) => url) };
  const server = await ServedSite.start(
    t,
    {
      'unix.test': { backends: [unix.url] },
      'pair.test': { backends: [await closedPort(), plain.url] },
      'paths.test': { backends: [plain.url], routes: [balanced] },
      'reset.test': { backends: [reset.url] },
    },
    {},
    site,
  );

  await t.test('a unix socket', async () => {
    const [told] = await server.told('--data-binary', 'a', 'https://unix.test/x');
    assert.deepEqual([told?.url, told?.length], ['/x', 1]);
  });

  await t.test('of two backends the one that is there answers, also what has a body', async () => {
    const asked = await server.told('--data-binary', 'abc', ...Array.from({ length: 6 }, (_, n) => `https://pair.test/${n}`));
    assert.deepEqual(
      asked.map(({ url, length }) => [url, length]),
      Array.from({ length: 6 }, (_, n) => [`/${n}`, 3]),
    );
    assert.match(await server.program.line(/trying the next one/), / warn .*code=backend_unreachable .*setting=virtual_hosts\[\]\.routes\[\]\.backends/);
  });

  await t.test('by path, without the prefix, to whoever has least to do', async () => {
    const busy = await server.connect('paths.test');
    busy.send('/api/hold?x');
    const questions = ['https://paths.test/api/v1/a?b', 'https://paths.test/api/', 'https://paths.test/api/v1'];
    // The question that is held must have arrived before the others count.
    await Promise.race(named.map(({ server: backend }) => once(backend, 'request')));
    const answers = (await server.get(...questions)).trim().split('\n');
    held[0]!();
    const { body: holder } = await busy.raw.answer();
    const other = holder === 'one' ? 'two' : 'one';
    assert.deepEqual(answers, [`${other} /v1/a?b`, `${other} /`, `${other} /v1`]);
    assert.deepEqual((await server.told('https://paths.test/apis'))[0]?.url, '/apis');
    busy.close();
  });

  await t.test('a client that resets in the middle of an upload leaves no connection to the backend', async () => {
    const socket = net.connect(server.port, '127.0.0.1');
    const client = await server.connect('reset.test', { socket });
    client.raw.send('POST / HTTP/1.1\r\nHost: reset.test\r\nContent-Length: 1000000\r\n\r\nonly this');
    await reset.until(([connection]) => connection?.text.endsWith('only this') === true);
    socket.resetAndDestroy();
    await reset.until(([connection]) => connection?.ended === true || connection?.socket.destroyed === true);
  });
});

test('ACME challenges (RFC 8555, 8.3) are answered from the folder, or by the backend where there is none', tools, async (t) => {
  const site = await Site.create(t);
  const application = await Application.start(t);
  const hosts = { 'app.test': { backends: [application.url] } };
  const challenge = '/.well-known/acme-challenge/';
  await mkdir(site.file('challenges'));
  await writeFile(site.file('challenges', 'token-1_x'), 'token-1_x.thumbprint');

  const folder = await ServedSite.start(t, hosts, { acme_challenge_dir: 'challenges' }, site);
  assert.equal(await folder.get(`http://app.test${challenge}token-1_x`), 'token-1_x.thumbprint');
  assert.match(await folder.get('-i', `http://app.test${challenge}unknown`), /^HTTP\/1\.1 404 /);
  assert.match(await folder.get('-i', '--path-as-is', `http://app.test${challenge}../all.key`), /^HTTP\/1\.1 404 /);
  await folder.program.stop();

  const backend = await ServedSite.start(t, hosts, {}, site);
  const [told] = await backend.told(`http://app.test${challenge}token-1_x`);
  assert.deepEqual([told?.url, fieldsOf(told!, /proto$/i)], [`${challenge}token-1_x`, ['X-Forwarded-Proto: http']]);
});
