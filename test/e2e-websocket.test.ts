import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
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
