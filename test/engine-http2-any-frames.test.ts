import assert from 'node:assert/strict';
import test from 'node:test';
import { configOf } from './support/config.ts';
import { startFront } from './support/front.ts';
import { flags, frame, frameTypes, headerBlock, Http2Client, startHttp2Front } from './support/http2.ts';
import { FrameBackend } from './support/http2-backend.ts';
import { settingsPayload, uint32 } from './support/http2-peer.ts';
import { seeded } from './support/random.ts';

const { data, headers, ping, pushPromise, settings, windowUpdate, rstStream, continuation, goaway } = frameTypes;
const whole = flags.endHeaders | flags.endStream;

test('whatever frames a backend sends, each request ends, and no fault is ours', { timeout: 60_000 }, async (t) => {
  const random = seeded(21);
  const below = (limit: number): number => Math.floor(random() * limit);
  const pick = <T>(...of: T[]): T => of[below(of.length)]!;
  let isGood = false;
  const some = (stream: number): Buffer => {
    const on = pick(stream, stream, stream, Math.max(0, stream - 2), stream + 2, 0);
    const ok = headerBlock([
      [':status', pick('200', '200', '103', '204', '101', '999')],
      [pick('x-a', 'content-length', 'Bad', ':path'), pick('1', '5', 'x')],
    ]);
    return pick(
      () => frame(headers, pick(flags.endHeaders, whole), on, pick(ok, headerBlock([[':status', '200']]))),
      () => frame(headers, pick(flags.endHeaders, whole), on, headerBlock([[':status', '200']])),
      () => frame(data, pick(0, 0, flags.endStream), on, Buffer.alloc(below(16_384))),
      () => Buffer.concat(Array.from({ length: 20 }, () => frame(data, 0, on, Buffer.alloc(16_384)))),
      () => Buffer.concat([frame(headers, 0, on, ok.subarray(0, 2)), frame(continuation, flags.endHeaders, on, ok.subarray(2))]),
      () => frame(rstStream, 0, on, uint32(below(14))),
      () => frame(windowUpdate, 0, on, uint32(pick(0, 1, 65_535, 2 ** 31 - 1))),
      () => frame(settings, 0, 0, settingsPayload([pick(1, 3, 4), pick(0, 1, 100, 65_536)])),
      () => frame(ping, 0, 0, Buffer.alloc(8)),
      () => frame(goaway, 0, 0, Buffer.concat([uint32(pick(0, stream, 2 ** 31 - 1)), uint32(below(14))])),
      () => frame(pushPromise, flags.endHeaders, on, uint32(2)),
      () => Buffer.from(Array.from({ length: below(60) }, () => below(256))),
    )();
  };
  const backend = await FrameBackend.listen(t, (connection, stream) => {
    if (isGood) return connection.headers(stream, [[':status', '204']]);
    for (let count = below(8); count >= 0 && !connection.closed; count -= 1) connection.send(some(stream));
    if (random() < 0.1) connection.socket.destroy();
  });
  const timeouts = { response_header: '200ms', response_body: '200ms', request_body: '200ms', connect: '200ms' };
  const config = configOf({ routes: [{ path: '/', backends: [backend.url], http_version: 2, max_connections: 40 }] }, { timeouts });
  const front = await startHttp2Front(t, config);
  const old = await startFront(t, config);
  const client = await Http2Client.connect(t, front.port);
  const visit = async (n: number): Promise<void> => {
    if (n % 4 === 0) {
      const one = await old.connect();
      one.send(`POST /${n} HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n`);
      await one.answer().catch(() => {});
      return one.socket.destroy() && undefined;
    }
    const stream = client.open([':method', pick('GET', 'POST'), ':path', `/${n}`], { endStream: false });
    const closed = new Promise((resolve) => stream.once('close', resolve));
    stream.resume().end(Buffer.alloc(below(100_000)));
    await closed;
  };
  for (let round = 0; round < 12; round += 1) await Promise.all(Array.from({ length: 60 }, (_, n) => visit(round * 100 + n)));
  assert.deepEqual(
    [...front.log, ...old.log].filter(({ level }) => level === 'error'),
    [],
  );
  isGood = true;
  // Sessions that were led astray end with who waits on them, and no place stays taken.
  const answered = async (): Promise<boolean> =>
    (await Promise.all(Array.from({ length: 40 }, () => client.get('/last')))).every(({ status }) => status === 204);
  while (!(await answered()));
});
