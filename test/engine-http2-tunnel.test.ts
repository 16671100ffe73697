import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import type { ClientHttp2Stream } from 'node:http2';
import type { TestContext } from 'node:test';
import { answering, RawBackend, type RawConnection } from './support/backend.ts';
import { configOf, type Keys } from './support/config.ts';
import { both, type TestFront } from './support/front.ts';
import { answerOf, errorCodes, FrameClient, frameTypes, getHead, Http2Client, startHttp2Front } from './support/http2.ts';

/** WebSockets over HTTP/2 (RFC 8441); to the backend they are those of HTTP/1.1. */

const open = [':method', 'CONNECT', ':protocol', 'websocket', ':path', '/ws?x', 'sec-websocket-version', '13', 'sec-websocket-protocol', 'chat'];

function switching(text: string, accept?: string): string {
  const key = /^Sec-WebSocket-Key: (.*)\r$/m.exec(text)?.[1];
  const right = createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64');
  return `HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: ${accept ?? right}\r\nSec-WebSocket-Protocol: chat\r\n\r\n`;
}

/** Switches protocols and then sends back what it gets. */
function echoing(): RawBackend {
  return new RawBackend(({ socket, text }) => {
    if (!text.endsWith('\r\n\r\n')) return;
    socket.write(switching(text));
    socket.removeAllListeners('data');
    socket.pipe(socket);
  });
}

async function start(t: TestContext, engine: string, backend: RawBackend, top: Keys = {}): Promise<{ front: TestFront; client: Http2Client }> {
  await backend.listen(t);
  const front = await startHttp2Front(t, configOf({ engine, backends: [backend.url] }, { http2: { websocket: true }, log: { access: true }, ...top }));
  const client = await Http2Client.connect(t, front.port);
  if (!client.session.remoteSettings.enableConnectProtocol) await once(client.session, 'remoteSettings');
  return { front, client };
}

/** The answer to what has been asked by `open`. */
async function opened(stream: ClientHttp2Stream): Promise<Record<string, unknown>> {
  const [headers] = (await once(stream, 'response')) as [Record<string, unknown>];
  return headers;
}

async function gone({ ended, socket }: RawConnection, backend: RawBackend): Promise<void> {
  await backend.until(() => ended || socket.destroyed);
}

both('a WebSocket is carried both ways, and the backend sees one of HTTP/1.1', async (t, engine) => {
  const backend = echoing();
  const { client } = await start(t, engine, backend);
  const stream = client.open(open, { endStream: false });
  const headers = await opened(stream);
  assert.deepEqual(
    [headers[':status'], headers['sec-websocket-protocol'], headers['sec-websocket-accept'], headers['upgrade'], headers['connection']],
    [200, 'chat', undefined, undefined, undefined],
  );
  assert.match(
    backend.text,
    /^GET \/ws\?x HTTP\/1.1\r\nHost: a.test\r\nsec-websocket-version: 13\r\nsec-websocket-protocol: chat\r\nSec-WebSocket-Key: [\w+/]{22}==\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Forwarded-For/,
  );
  const bytes = randomBytes(3_000_000);
  const back: Buffer[] = [];
  let length = 0;
  stream.write(bytes);
  for await (const piece of stream.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    back.push(piece);
    length += piece.length;
    if (length === bytes.length) break;
  }
  assert.ok(Buffer.concat(back).equals(bytes));
});

both('what the client sends early reaches the backend after it has switched', async (t, engine) => {
  const backend = await new RawBackend(() => {}).listen(t);
  const front = await startHttp2Front(t, configOf({ engine, backends: [backend.url] }, { http2: { websocket: true } }));
  const client = await FrameClient.connect(t, front.port);
  const head: [string, string][] = [
    [':method', 'CONNECT'],
    [':protocol', 'websocket'],
    ...getHead.slice(1).map(([name, value]): [string, string] => [name, value]),
    ['sec-websocket-key', 'eA=='],
  ];
  client.headers(1, head, false);
  for (const byte of 'early') client.data(1, byte, false);
  await backend.until((connections) => connections.length === 1 && connections[0]!.text.endsWith('\r\n\r\n'));
  assert.doesNotMatch(backend.text, /early|eA==/);
  backend.connections[0]!.socket.write(switching(backend.text));
  await backend.until(() => backend.text.endsWith('\r\n\r\nearly'));
  assert.equal(await client.outcome(1), 200);
});

both('what waits for a backend that does not read stays what it was, whatever others send meanwhile', async (t, engine) => {
  const backend = await new RawBackend(({ socket, text }) => {
    socket.write(switching(text));
    socket.removeAllListeners('data');
    socket.pause();
  }).listen(t);
  const other = await answering().listen(t);
  const routes = [
    { path: '/', backends: [backend.url] },
    { path: '/other', backends: [other.url] },
  ];
  const front = await startHttp2Front(t, configOf({ engine, routes }, { http2: { websocket: true } }));
  const [client, others] = [await Http2Client.connect(t, front.port), await Http2Client.connect(t, front.port)];
  const stream = client.open(open, { endStream: false });
  await opened(stream);
  const bytes = randomBytes(12_000_000);
  stream.write(bytes);
  for (let n = 0; n < 20; n += 1) assert.equal((await others.ask([':method', 'POST', ':path', '/other'], 'x'.repeat(200_000))).status, 200);
  const got: Buffer[] = [];
  let length = 0;
  for await (const piece of backend.connections[0]!.socket.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    got.push(piece);
    length += piece.length;
    if (length === bytes.length) break;
  }
  assert.ok(Buffer.concat(got).equals(bytes));
});

both('either side ends the other: in order, by reset, or with its connection', async (t, engine) => {
  const backend = echoing();
  const { front, client } = await start(t, engine, backend);
  const endings: [what: string, end: (stream: ClientHttp2Stream, connection: RawConnection) => void, rstCode: number][] = [
    ['client ends', (stream) => stream.end(), errorCodes.noError],
    ['client resets', (stream) => stream.close(errorCodes.cancel), errorCodes.cancel],
    ['backend ends', (_stream, { socket }) => socket.end(), errorCodes.noError],
    ['backend breaks', (_stream, { socket }) => socket.resetAndDestroy(), errorCodes.internalError],
  ];
  for (const [what, end, rstCode] of endings) {
    const stream = client.open(open, { endStream: false });
    await opened(stream);
    stream.resume();
    const connection = backend.connections.at(-1)!;
    const closed = new Promise((resolve) => {
      stream.on('close', resolve);
    });
    end(stream, connection);
    await closed;
    assert.equal(stream.rstCode, rstCode, what);
    await gone(connection, backend);
  }
  const last = client.open(open, { endStream: false });
  await opened(last);
  client.session.destroy();
  await gone(backend.connections.at(-1)!, backend);
  assert.equal(front.log.filter(({ facts }) => facts['status'] === 101).length >= endings.length, true);
});

both('what is not a WebSocket is not passed off as one', async (t, engine) => {
  const answers = ['HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno', switching('', 'wrong'), 'HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno'];
  let asked = 0;
  const backend = new RawBackend(({ socket, text }) => {
    if (text.endsWith('\r\n\r\n')) socket.write(answers[asked++] ?? '');
  });
  const { client } = await start(t, engine, backend);
  for (const status of [502, 502, 403]) {
    const stream = client.open(open, { endStream: false });
    const answer = await answerOf(stream);
    assert.deepEqual([answer.status, answer.rstCode], [status, errorCodes.noError]);
  }
  await backend.until((connections) => connections.every(({ ended, socket }) => ended || socket.destroyed));
  const other = await answerOf(
    client.open(
      [...open, ':protocol', 'connect-udp'].filter((_, n) => n !== 2 && n !== 3),
      { endStream: false },
    ),
  );
  assert.equal(other.status, 405);
});

both('an idle WebSocket ends after timeouts.tunnel, and is no idle connection before', async (t, engine) => {
  const backend = echoing();
  const { client } = await start(t, engine, backend, { timeouts: { tunnel: '500ms', keep_alive: '50ms' } });
  const stream = client.open(open, { endStream: false });
  await opened(stream);
  stream.on('data', () => {});
  stream.write('still here');
  await once(stream, 'close').catch(() => {});
  await gone(backend.connections[0]!, backend);
});

both('what a client does not take of a WebSocket that has ended is not kept for ever', async (t, engine) => {
  const backend = await new RawBackend(({ socket, text }) => socket.end(switching(text) + 'x'.repeat(1_000))).listen(t);
  const config = configOf({ engine, backends: [backend.url] }, { http2: { websocket: true }, timeouts: { response_body: '100ms' } });
  const front = await startHttp2Front(t, config);
  const client = await FrameClient.connect(t, front.port, 10);
  client.headers(1, [[':method', 'CONNECT'], [':protocol', 'websocket'], ...getHead.slice(1)], false);
  assert.equal(await client.outcome(1), 200);
  await client.frame(({ type, stream }) => type === frameTypes.rstStream && stream === 1);
});

both('without http2.websocket it is not offered, and refused', async (t, engine) => {
  const backend = await echoing().listen(t);
  const front = await startHttp2Front(t, configOf({ engine, backends: [backend.url] }));
  const client = await FrameClient.connect(t, front.port);
  client.headers(1, [[':method', 'CONNECT'], [':protocol', 'websocket'], ...getHead.slice(1)], false);
  assert.equal(await client.outcome(1), `RST ${errorCodes.protocolError}`);
  assert.equal(backend.connections.length, 0);
});
