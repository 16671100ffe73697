import assert from 'node:assert/strict';
import * as net from 'node:net';
import test from 'node:test';
import * as tls from 'node:tls';
import { proxyHeader } from '../src/proxy/proxy-protocol.ts';
import { Application, type Told } from './support/application.ts';
import { answering, closedPort } from './support/backend.ts';
import { RawClient } from './support/front.ts';
import { getOnce, Load } from './support/load.ts';
import { execute, type Program } from './support/program.ts';
import { Site } from './support/site.ts';
import { needs } from './support/tools.ts';

/** Where the real program listens, and who its clients are. */

const limit = { timeout: 60_000 };

test('IPv4, IPv6 and unix sockets at once; behind trusted proxies the client is who their PROXY header names', limit, async (t) => {
  const site = await Site.create(t);
  const application = await Application.start(t);
  const host = { server_name: 'a.test', certificates: [await site.write('a', await site.issue('a.test'))], backends: [application.url] };
  const program = await site.serving({
    listen: [
      { address: '127.0.0.1:0' },
      { address: '[::1]:0' },
      { address: `unix:${site.file('plain.sock')}` },
      { address: `unix:${site.file('proxied.sock')}`, proxy_protocol: true },
      { address: '127.0.0.1:0', protocol: 'http', proxy_protocol: true },
      { address: '[::1]:0', proxy_protocol: true },
      { address: '0.0.0.0:0', proxy_protocol: true },
    ],
    trusted_proxies: ['127.0.0.2', '::1'],
    shutdown_grace: '1s',
    log: { access: true },
    virtual_hosts: [host],
  });
  const proxied = program.port('https', '0.0.0.0');

  /** What the application was told, and the client in the access log; undefined when there was no connection. */
  const said = async (where: net.NetConnectOpts, first: Buffer | string = ''): Promise<{ told: Told; logged: string } | undefined> => {
    const from = program.log.length;
    const raw = net.connect(where);
    raw.on('error', () => {});
    raw.write(first);
    const socket = tls.connect({ socket: raw, servername: 'a.test', ca: site.root.pem });
    socket.write('GET / HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-For: 203.0.113.9\r\nConnection: close\r\n\r\n');
    const text = await new RawClient(socket).toEnd();
    socket.destroy();
    if (text === '') return undefined;
    const logged = /client=(\S+)/.exec(await program.line(/ GET a\.test\/ /, from))?.[1] ?? '';
    return { told: JSON.parse(/\{.*\}/.exec(text)?.[0] ?? '') as Told, logged };
  };
  const fieldOf = (told: Told, name: string): string | undefined =>
    told.rawHeaders[told.rawHeaders.findIndex((one, i) => i % 2 === 0 && one.toLowerCase() === name) + 1];
  const seen = async (where: net.NetConnectOpts, first?: Buffer | string): Promise<unknown[] | undefined> => {
    const answer = await said(where, first);
    return answer && [fieldOf(answer.told, 'x-forwarded-for'), fieldOf(answer.told, 'x-forwarded-port'), answer.logged];
  };
  const client = (address: string, to: string) => ({ source: { address, port: 5000 }, destination: { address: to, port: 8443 } });
  const unix = { path: site.file('proxied.sock') };
  const lb = { port: proxied, host: '127.0.0.1', localAddress: '127.0.0.2' };
  const lb6 = { port: program.port('https', '[::1]'), host: '::1' };

  await t.test('every address serves', async () => {
    const port = Number(/127\.0\.0\.1:(\d+) \(https\)/.exec(program.log.join('\n'))?.[1]);
    assert.deepEqual(await seen({ port, host: '127.0.0.1' }), ['127.0.0.1', String(port), '127.0.0.1']);
    const port6 = Number(/\[::1\]:(\d+) \(https\)/.exec(program.log.join('\n'))?.[1]);
    assert.deepEqual(await seen({ port: port6, host: '::1' }), ['203.0.113.9, ::1', String(port6), '::1'], 'a trusted proxy is believed');
    const { told } = (await said({ path: site.file('plain.sock') }))!;
    assert.equal(told.url, '/');
    assert.ok(!told.rawHeaders.includes('203.0.113.9'), 'what the client claims is not believed');
  });

  await t.test('a PROXY header in version 1 or 2, over IPv4, IPv6 and a unix socket', async () => {
    for (const version of ['v1', 'v2'] as const) {
      const four = proxyHeader(version, client('192.0.2.7', '198.51.100.1'));
      const six = proxyHeader(version, client('2001:db8::7', '2001:db8::1'));
      for (const where of [unix, lb, lb6]) {
        assert.deepEqual(await seen(where, four), ['192.0.2.7', '8443', '192.0.2.7'], version);
        assert.deepEqual(await seen(where, six), ['2001:db8::7', '8443', '2001:db8::7'], version);
      }
      // A proxy that speaks for itself, as HAProxy's health checks do.
      const own = proxyHeader(version, { source: { address: '', port: 0 }, destination: { address: '', port: 0 } });
      const self = (await said(lb, own))!;
      assert.equal(self.logged, '127.0.0.2', 'UNKNOWN and LOCAL mean the connection itself');
      assert.match(fieldOf(self.told, 'x-forwarded-for') ?? '', /^203\.0\.113\.9, ?127\.0\.0\.2$/, 'which is that of a trusted proxy');
    }
  });

  await t.test('curl comes over IPv6, over a unix socket, and behind a PROXY header of its own', needs('curl'), async () => {
    const answered = async (port: number, host: string, ...options: string[]): Promise<Told | undefined> => {
      const to = ['--cacert', site.ca, '--connect-to', `a.test:${port}:${host}:${port}`, '--noproxy', '*'];
      const { stdout } = await execute('curl', ['-s', ...to, ...options, `https://a.test:${port}/`]);
      return stdout === '' ? undefined : (JSON.parse(stdout) as Told);
    };
    const port6 = Number(/\[::1\]:(\d+) \(https\)/.exec(program.log.join('\n'))?.[1]);
    assert.equal(fieldOf((await answered(port6, '[::1]'))!, 'x-forwarded-for'), '::1');
    assert.equal((await answered(443, '', '--unix-socket', site.file('plain.sock')))?.url, '/');
    // It names its own two ends.
    const proxiedBy = await answered(proxied, '127.0.0.1', '--interface', '127.0.0.2', '--haproxy-protocol');
    assert.equal(fieldOf(proxiedBy!, 'x-forwarded-for'), '127.0.0.2');
    assert.equal(await answered(proxied, '127.0.0.1', '--haproxy-protocol'), undefined, 'from anybody else');
  });

  await t.test('a plain listener takes the header, too', async () => {
    const redirected = net.connect({ port: program.port('http'), host: '127.0.0.1', localAddress: '127.0.0.2' });
    const from = program.log.length;
    redirected.write('PROXY TCP4 192.0.2.7 198.51.100.1 5000 80\r\nGET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n');
    assert.match(await new RawClient(redirected).toEnd(), /^HTTP\/1\.1 308 /);
    assert.match(await program.line(/ GET a\.test\/ /, from), /client=192\.0\.2\.7/);
  });

  await t.test('from anybody else, or without the header, there is no connection', async () => {
    const header = proxyHeader('v2', client('192.0.2.7', '198.51.100.1'));
    assert.equal(await seen({ port: proxied, host: '127.0.0.1' }, header), undefined);
    assert.match(await program.line(/warn .*connection from 127\.0\.0\.1 refused/), /not in trusted_proxies code=proxy_protocol/);
    assert.equal(await seen(lb), undefined);
    await program.line(/warn .*connection from 127\.0\.0\.2 refused: no PROXY header/);
    const port = Number(/127\.0\.0\.1:(\d+) \(https\)/.exec(program.log.join('\n'))?.[1]);
    assert.equal(await seen({ port, host: '127.0.0.1', localAddress: '127.0.0.2' }, header), undefined, 'a header that nobody asked for');
  });
});

for (const workers of [2, 0]) {
  test(`127.0.0.1 becomes 0.0.0.0 and 127.0.0.1 again (workers: ${workers}) without a failed connection`, limit, async (t) => {
    const site = await Site.create(t);
    const backend = await answering('one').listen(t);
    const host = { server_name: 'a.test', certificates: [await site.write('a', await site.issue('a.test'))], backends: [backend.url] };
    const port = Number(new URL(await closedPort()).port);
    const listening = (on: string) => ({ listen: [{ address: `${on}:${port}` }], workers, shutdown_grace: '5s', virtual_hosts: [host] });
    const program: Program = await site.serving(listening('127.0.0.1'));
    const target = { port, name: 'a.test', ca: site.root.pem };
    const elsewhere = (): Promise<unknown> => getOnce(target, '/', { host: '127.0.0.2' });
    const load = await site.use(new Load(target));
    for (const on of ['0.0.0.0', '127.0.0.1', '0.0.0.0', '127.0.0.1']) {
      const from = program.log.length;
      await site.configure(listening(on));
      await program.line(/code=reloaded/, from);
      const listeners = program.log.slice(from).filter((line) => line.includes(' listening on '));
      assert.equal(listeners.length, 1);
      assert.ok(listeners[0]?.endsWith(`listening on ${on}:${port} (https)`), listeners[0]);
      if (on === '0.0.0.0') await elsewhere();
      // Workers of before accept until their queue is empty.
      else
        while (
          await elsewhere().then(
            () => true,
            (error: NodeJS.ErrnoException) => error.code !== 'ECONNREFUSED',
          )
        );
      const before = load.requests;
      await load.until(({ requests }) => requests > before + 50);
    }
    await load.stop();
    assert.deepEqual(load.failures, []);
  });
}
