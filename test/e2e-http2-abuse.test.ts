import assert from 'node:assert/strict';
import { once } from 'node:events';
import test from 'node:test';
import * as tls from 'node:tls';
import { RawBackend, answering } from './support/backend.ts';
import { flags, frame, FrameClient, frameTypes, getHead, headerBlock } from './support/http2.ts';
import { childrenOf } from './support/processes.ts';
import { ServedSite } from './support/served-site.ts';

/** What clients may do to a worker through HTTP/2, by advisories; the good client beside them is served. */

const { data, headers, priority, rstStream, settings, ping, windowUpdate, continuation } = frameTypes;
const whole = flags.endHeaders | flags.endStream;
const megabyte = 1024 ** 2;

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

function head(path: string, ...fields: [string, string][]): Buffer {
  return headerBlock([...getHead.slice(0, 3), [':path', path], ...fields]);
}

/** The same frames again and again. */
function repeated(count: number, one: Buffer): () => Buffer {
  const many = Buffer.concat(Array.from({ length: count }, () => one));
  return () => many;
}

/** New streams, `count` at a time. */
function streams(count: number, frames: (stream: number) => Buffer): () => Buffer {
  let next = 1;
  return () =>
    Buffer.concat(
      Array.from({ length: count }, () => {
        next += 2;
        return frames(next);
      }),
    );
}

/** A literal that is indexed (RFC 7541, 6.2.1), and then its index many times. */
function bomb(): () => Buffer {
  const entry = headerBlock([['x'.repeat(30), 'y'.repeat(3_900)]]);
  entry[0] = 0x40;
  const once = frame(headers, whole, 1, Buffer.concat([head('/silent'), entry]));
  const more = streams(20, (stream) => frame(headers, flags.endHeaders, stream, Buffer.concat([head('/silent'), Buffer.alloc(14, 0x80 | 62)])));
  let first = true;
  return () => {
    const frames = first ? Buffer.concat([once, more()]) : more();
    first = false;
    return frames;
  };
}

/** Frames to send first, and then until the connection ends. */
const endless: Record<string, { first?: Buffer; next: () => Buffer }> = {
  'rapid reset (CVE-2023-44487)': {
    next: streams(50, (stream) => Buffer.concat([frame(headers, whole, stream, head('/silent')), frame(rstStream, 0, stream, uint32(8))])),
  },
  'streams that make the server reset them (CVE-2025-8671)': {
    next: streams(50, (stream) => Buffer.concat([frame(headers, whole, stream, head('/silent')), frame(windowUpdate, 0, stream, uint32(0))])),
  },
  'malformed heads': { next: streams(50, (stream) => frame(headers, whole, stream, head('/', ['connection', 'close']))) },
  'more streams than allowed': { next: streams(50, (stream) => frame(headers, whole, stream, head('/silent'))) },
  'CONTINUATION without end (CVE-2024-27983)': {
    first: frame(headers, flags.endStream, 1, head('/')),
    next: repeated(20, frame(continuation, 0, 1, headerBlock([['x-a', 'y'.repeat(1_000)]]))),
  },
  'empty CONTINUATION': { first: frame(headers, flags.endStream, 1, head('/')), next: repeated(100, frame(continuation, 0, 1)) },
  'a header bomb (CVE-2016-1544)': { next: bomb() },
  'SETTINGS (CVE-2019-9515)': { next: repeated(5_000, frame(settings, 0, 0, Buffer.from([0, 3, 0, 0, 0, 100]))) },
  'empty DATA (CVE-2019-9518)': { first: frame(headers, flags.endHeaders, 1, head('/silent')), next: repeated(200, frame(data, 0, 1)) },
  'PRIORITY (CVE-2019-9513)': { next: repeated(200, frame(priority, 0, 3, Buffer.alloc(5))) },
};

/** Sends as fast as it is taken, until the connection ends. */
async function flood(client: FrameClient, next: () => Buffer): Promise<void> {
  const ended = client.toEnd();
  while (!client.closed) {
    if (client.socket.write(next())) continue;
    const drained = Promise.withResolvers<void>();
    client.socket.once('drain', drained.resolve);
    await Promise.race([drained.promise, ended]);
  }
}

test('floods end their connection; the worker stays up and small, and serves the others', { timeout: 60_000 }, async (t) => {
  const backend = await answering().listen(t);
  const silent = await new RawBackend(() => {}).listen(t);
  const large = await answering('x'.repeat(5_000_000)).listen(t);
  const routes = [
    { path: '/silent', backends: [silent.url] },
    { path: '/large', backends: [large.url] },
  ];
  const server = await ServedSite.start(t, { 'a.test': { backends: [backend.url], routes } }, { timeouts: { response_body: '1s' } });
  const workers = childrenOf(server.program.process.pid);
  const connect = async (window?: number): Promise<FrameClient> => {
    const socket = tls.connect({ port: server.port, host: '127.0.0.1', servername: 'a.test', ca: server.site.root.pem, ALPNProtocols: ['h2'] });
    t.after(() => socket.destroy());
    await once(socket, 'secureConnect');
    return FrameClient.begin(socket, window);
  };
  const good = await connect();
  let stream = 1;
  const served = async (what: string): Promise<void> => {
    good.headers(stream, getHead);
    assert.equal(await good.outcome(stream), 200, what);
    stream += 2;
  };
  await served('before');
  for (const [what, { first, next }] of Object.entries(endless)) {
    const client = await connect();
    if (first) client.send(first);
    await flood(client, next);
    await served(what);
  }

  // Within the rules: answers that are not read stop the reading of more (CVE-2019-9512).
  const pinging = await connect();
  pinging.socket.pause();
  pinging.send(repeated(100_000, frame(ping, 0, 0, Buffer.alloc(8)))());
  await served('PING');

  // So are streams that wait: what they occupy is bounded, and so is their time.
  const stalled = await connect(0);
  for (let n = 0; n < 128; n += 1) stalled.send(frame(headers, whole, 2 * n + 1, head('/large')));
  await served('windows that stay closed');
  for (let n = 0; n < 128; n += 1) await stalled.frame((one) => one.type === rstStream && one.stream === 2 * n + 1);

  assert.deepEqual(childrenOf(server.program.process.pid), workers);
  const most = await server.mostMemory();
  assert.ok(most < 300 * megabyte, `${most / megabyte} MB`);
});
