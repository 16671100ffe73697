import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { createInterface } from 'node:readline';
import test from 'node:test';
import * as tls from 'node:tls';
import { Application } from './support/application.ts';
import { httpBackend } from './support/backend.ts';
import { browsers } from './support/browsers.ts';
import { ServedSite } from './support/served-site.ts';
import { needs } from './support/tools.ts';
import { echoWebSockets, frame, opcodes } from './support/websocket.ts';

test('WebSockets pass through TLS: messages, pings and the ends of both sides', { timeout: 30_000 }, async (t) => {
  const application = await Application.start(t);
  const server = await ServedSite.start(t, { 'app.test': { backends: [application.url], aliases: ['localhost'] } });
  // The built-in client takes no certificates of its own.
  const known = tls.getCACertificates('default');
  tls.setDefaultCACertificates([server.site.root.pem]);
  t.after(() => tls.setDefaultCACertificates(known));

  const open = async (): Promise<{ socket: WebSocket; ask: (message: string | Buffer) => Promise<unknown> }> => {
    const socket = new WebSocket(`wss://localhost:${server.port}/socket?x`);
    socket.binaryType = 'arraybuffer';
    await once(socket, 'open');
    const ask = async (message: string | Buffer): Promise<unknown> => {
      const answer = once(socket, 'message');
      socket.send(message);
      return ((await answer) as [MessageEvent])[0].data;
    };
    return { socket, ask };
  };

  const { socket, ask } = await open();
  assert.equal(await ask('grüß dich'), 'grüß dich');
  const large = randomBytes(1024 ** 2);
  assert.ok(large.equals(Buffer.from((await ask(large)) as ArrayBuffer)));
  assert.equal(await ask('ping me'), 'pong: are you there', 'a ping of the backend, and the pong of the client');
  let closed = once(socket, 'close') as Promise<[CloseEvent]>;
  socket.close(4000, 'enough');
  const [{ code, reason, wasClean }] = await closed;
  assert.deepEqual([code, reason, wasClean], [4000, 'enough', true], 'closed by the client');

  const second = await open();
  closed = once(second.socket, 'close') as Promise<[CloseEvent]>;
  second.socket.send('close me');
  const [event] = await closed;
  assert.deepEqual([event.code, event.reason, event.wasClean], [4001, 'as asked', true], 'closed by the backend');

  const client = await server.connect('app.test');
  client.raw.send(
    'GET / HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: eA==\r\nSec-WebSocket-Version: 13\r\n\r\n',
  );
  await client.raw.until(() => client.raw.text.endsWith('\r\n\r\n'));
  client.raw.text = '';
  client.raw.send(frame({ opcode: opcodes.ping, payload: Buffer.from('hi') }, randomBytes(4)).toString('latin1'));
  await client.raw.until(() => client.raw.text === frame({ opcode: opcodes.pong, payload: Buffer.from('hi') }).toString('latin1'));
  client.close();
});

/** The server that most Node applications have, as Debian packages it. It says its port, then each handshake. */
const WS = `
const { WebSocketServer } = require('/usr/share/nodejs/ws');
const server = new WebSocketServer({ host: '127.0.0.1', port: 0, perMessageDeflate: { threshold: 0 }, handleProtocols: (offered) => [...offered].at(-1) });
server.on('listening', () => console.log(server.address().port));
server.on('connection', (socket, request) => {
  console.log(request.url, request.headers['x-forwarded-for'], request.headers.origin, socket.extensions);
  socket.on('message', (data, isBinary) => {
    if (String(data) === 'terminate') socket.terminate();
    else if (String(data) === 'ping') socket.ping('still there?'), socket.once('pong', (pong) => socket.send('pong: ' + pong));
    else socket.send(data, { binary: isBinary });
  });
});`;

for (const engine of ['native', 'http-proxy'] as const) {
  test(
    `ws: subprotocols, compressed messages of all sizes, pings, and ends in order and out of it (${engine})`,
    { ...needs('/usr/share/nodejs/ws'), timeout: 30_000 },
    async (t) => {
      const child = spawn(process.execPath, ['-e', WS], { stdio: ['ignore', 'pipe', 'inherit'] });
      const exited = once(child, 'exit');
      t.after(async () => {
        child.kill('SIGKILL');
        await exited;
      });
      const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
      const line = async (): Promise<unknown> => (await lines.next()).value;
      const server = await ServedSite.start(t, { 'app.test': { engine, backends: [`http://127.0.0.1:${String(await line())}`], aliases: ['localhost'] } });
      const known = tls.getCACertificates('default');
      tls.setDefaultCACertificates([server.site.root.pem]);
      t.after(() => tls.setDefaultCACertificates(known));

      const open = async (): Promise<WebSocket> => {
        const socket = new WebSocket(`wss://localhost:${server.port}/chat//room?x=%2f`, ['first', 'second']);
        socket.binaryType = 'arraybuffer';
        await once(socket, 'open');
        return socket;
      };
      const ask = async (socket: WebSocket, message: string | Buffer): Promise<unknown> => {
        const answer = once(socket, 'message') as Promise<[MessageEvent]>;
        socket.send(message);
        return (await answer)[0].data;
      };
      const socket = await open();
      assert.equal(await line(), '/chat//room?x=%2f 127.0.0.1 undefined permessage-deflate');
      assert.deepEqual([socket.protocol, socket.extensions], ['second', 'permessage-deflate']);
      for (const size of [0, 1, 125, 126, 65_535, 65_536, 2_000_000]) {
        const message = randomBytes(size);
        assert.ok(message.equals(Buffer.from((await ask(socket, message)) as ArrayBuffer)), String(size));
      }
      assert.equal(await ask(socket, 'grüß dich '.repeat(10_000)), 'grüß dich '.repeat(10_000));
      assert.equal(await ask(socket, 'ping'), 'pong: still there?');
      const closed = once(socket, 'close') as Promise<[CloseEvent]>;
      socket.close(4000, 'enough');
      const [{ code, wasClean }] = await closed;
      assert.deepEqual([code, wasClean], [4000, true]);

      const other = await open();
      const broken = once(other, 'close') as Promise<[CloseEvent]>;
      other.send('terminate');
      assert.equal((await broken)[0].code, 1006, 'what broke off is not taken for an end');
      // It wants a handshake, and says so to everybody else.
      assert.match(await server.get('-i', 'https://app.test/'), /^HTTP\/1\.1 426 Upgrade Required\r\n[^]*\r\n\r\nUpgrade Required$/);
    },
  );
}

const PAGE = `<img src="/wait"><script>
  const socket = new WebSocket('wss://' + location.host + '/socket');
  socket.onopen = () => socket.send('over ' + performance.getEntriesByType('navigation')[0].nextHopProtocol);
  socket.onmessage = ({ data }) => fetch('/told?' + encodeURIComponent(data)).then(() => socket.close());
</script>`;

for (const [browser, open] of Object.entries(browsers)) {
  test(`${browser} opens a WebSocket on the connection that it has`, { ...needs(browser, 'certutil'), timeout: 60_000 }, async (t) => {
    let told: string | undefined;
    let waiting: ServerResponse | undefined;
    const { url, server: backend } = await httpBackend(t, (request, response) => {
      if (request.url === '/') return response.setHeader('content-type', 'text/html').end(PAGE);
      if (request.url === '/wait' && told === undefined) return (waiting = response);
      if (request.url?.startsWith('/told?') === true) {
        told = decodeURIComponent(request.url.slice('/told?'.length));
        waiting?.end();
      }
      return response.end();
    });
    const names: string[] = [];
    backend.on('upgrade', ({ rawHeaders }) => names.push(...rawHeaders.filter((_, n) => n % 2 === 0)));
    echoWebSockets(backend);
    const server = await ServedSite.start(t, { 'app.test': { backends: [url] } }, { http2: { websocket: true } });
    await open(`https://app.test:${server.port}/`, server.site.folder, server.site.ca);
    assert.equal(told, 'over h2');
    // HTTP/2 has names in lower case.
    assert.ok(names.includes('sec-websocket-version'), names.join());
  });
}
