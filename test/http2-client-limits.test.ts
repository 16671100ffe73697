import assert from 'node:assert/strict';
import test from 'node:test';
import { ErrorCode } from '../src/http2/frames.ts';
import { flags, frame, frameTypes, headerBlock } from './support/http2.ts';
import { ServerPeer } from './support/http2-client-session.ts';
import { settingsPayload, uint32 } from './support/http2-peer.ts';

/** What a server may make a client do, and keep. */

const { data, headers, rstStream, settings, ping, goaway, windowUpdate, continuation } = frameTypes;
const { FLOW_CONTROL_ERROR, ENHANCE_YOUR_CALM, CANCEL } = ErrorCode;
const whole = flags.endHeaders | flags.endStream;
const maxConcurrentStreams = 3;
const ok = headerBlock([[':status', '200']]);

test('streams are begun as the server allows, and never more than 256', () => {
  const peer = new ServerPeer(frame(settings, 0, 0, settingsPayload([maxConcurrentStreams, 2])));
  peer.ask();
  assert.ok(peer.session.hasRoom);
  peer.ask();
  assert.ok(!peer.session.hasRoom);
  peer.settings([maxConcurrentStreams, 3]);
  assert.ok(peer.session.hasRoom);
  peer.settings([maxConcurrentStreams, 0]);
  assert.ok(!peer.session.hasRoom);
  peer.headers(1);
  peer.headers(3);
  assert.ok(!peer.session.hasRoom);
  peer.settings([maxConcurrentStreams, 2 ** 32 - 1]);
  for (let n = 0; n < 256; n += 1) {
    assert.ok(peer.session.hasRoom);
    peer.ask();
  }
  assert.ok(!peer.session.hasRoom);
  assert.equal(peer.allowed, 4);
});

test('no stream is begun for a server that takes nothing', () => {
  const peer = new ServerPeer(frame(settings, 0, 0, settingsPayload([4, 2 ** 31 - 1])));
  peer.update(0, 2 ** 31 - 1 - 65_535);
  const one = peer.ask('/', false);
  peer.takes = false;
  while (one.stream.write(Buffer.alloc(65_536), false));
  peer.said();
  assert.ok(!peer.session.hasRoom);
  peer.take();
  assert.ok(peer.session.hasRoom);
});

test('a slow client holds up its own stream and no other, and what is held is bounded by its window', () => {
  const peer = new ServerPeer();
  peer.consumes = false;
  const slow = Array.from({ length: 100 }, () => peer.ask());
  for (const { stream } of slow) {
    peer.headers(stream.id, false);
    for (let n = 0; n < 16; n += 1) peer.data(stream.id, 16_384);
  }
  const updates = peer.said().filter(({ type, stream }) => type === windowUpdate && stream !== 0);
  assert.deepEqual(updates, [], 'none of them may have more');
  peer.consumes = true;
  const quick = peer.ask();
  peer.headers(quick.stream.id, false);
  for (let n = 0; n < 2_000; n += 1) {
    peer.data(quick.stream.id, 16_384);
    peer.said();
  }
  assert.equal(peer.error, undefined);
  assert.equal(quick.body.length, 2_000 * 16_384);
  // Nor may the server ignore the windows.
  peer.data(slow[0]!.stream.id, 1);
  assert.equal(peer.ended(), `RST ${FLOW_CONTROL_ERROR}`);
  slow[1]!.stream.consumed(262_144);
  assert.deepEqual(
    peer.said().map(({ type, stream, payload }) => [type, stream, payload.readUInt32BE()]),
    [[windowUpdate, slow[1]!.stream.id, 262_144]],
    'the connection has had it already',
  );
});

test('what was on its way when streams were reset is no error, for as many as there may be', () => {
  const peer = new ServerPeer();
  for (let n = 0; n < 2_000; n += 1) {
    const { stream } = peer.ask();
    peer.headers(stream.id, false);
    stream.reset(CANCEL);
    peer.said();
  }
  for (let n = 0; n < 2_000; n += 1) for (let times = 0; times < 4; times += 1) peer.data(2 * n + 1, 16_384);
  peer.headers(1, true, [['x-trailer', '1']]);
  assert.equal(peer.error, undefined);
  const one = peer.ask();
  peer.headers(one.stream.id);
  assert.equal(one.status, 200);
});

/** Sends until the connection ends. @returns how often */
function flood(peer: ServerPeer, next: (n: number) => Buffer, most = 5_000): number {
  for (let n = 0; n < most; n += 1) {
    if (peer.error) {
      assert.equal(peer.ended(), `GOAWAY ${ENHANCE_YOUR_CALM}`, peer.error.message);
      return n;
    }
    peer.send(next(n));
  }
  return most;
}

test('floods of what carries nothing end the connection, whatever it is', () => {
  const floods: [what: string, one: Buffer][] = [
    ['PING', frame(ping, 0, 0, Buffer.alloc(8))],
    ['SETTINGS', frame(settings, 0, 0, settingsPayload([maxConcurrentStreams, 100]))],
    ['SETTINGS that acknowledge', frame(settings, flags.ack, 0)],
    ['empty DATA', frame(data, 0, 1)],
    ['WINDOW_UPDATE', frame(windowUpdate, 0, 1, uint32(1))],
    ['WINDOW_UPDATE of a closed stream', frame(windowUpdate, 0, 3, uint32(1))],
    ['RST_STREAM of a closed stream', frame(rstStream, 0, 3, uint32(8))],
    ['interim answers', frame(headers, flags.endHeaders, 5, headerBlock([[':status', '103']]))],
    ['trailers of a stream that was reset', frame(headers, whole, 3, headerBlock([['x-a', '1']]))],
    ['GOAWAY', frame(goaway, 0, 0, Buffer.concat([uint32(2 ** 31 - 1), uint32(0)]))],
    ['unknown', frame(0x42, 0, 0)],
  ];
  for (const [what, one] of floods) {
    const peer = new ServerPeer();
    peer.ask();
    peer.ask().stream.reset(CANCEL);
    peer.ask();
    peer.headers(1, false);
    const times = flood(peer, () => one);
    assert.ok(times > 490 && times < 1_020, `${times} ${what}`);
  }
});

test('a server that makes us say more than it takes is found out', () => {
  const peer = new ServerPeer();
  peer.ask();
  peer.headers(1, false);
  peer.takes = false;
  for (let n = 0; n < 50_000 && !peer.session.sender.isClogged; n += 1) peer.send(frame(data, 0, 1, Buffer.alloc(256)), frame(ping, 0, 0, Buffer.alloc(8)));
  assert.equal(peer.error, undefined);
  assert.ok(peer.session.sender.isClogged && peer.session.sender.writer.backlog < 300_000);
});

test('headers without end, and those that grow when they are decoded, are not kept', () => {
  for (const fragment of [Buffer.alloc(0), Buffer.alloc(16_384, 0x88)]) {
    const peer = new ServerPeer();
    const one = peer.ask();
    peer.send(frame(headers, flags.endStream, 1, ok));
    assert.ok(flood(peer, () => frame(continuation, 0, 1, fragment)) <= 9);
    assert.ok(one.isClosed && one.status === undefined);
  }
  const peer = new ServerPeer();
  const [one] = [peer.ask(), peer.ask()];
  const entry = headerBlock([['x', 'y'.repeat(3_900)]]);
  entry[0] = 0x40;
  peer.send(frame(headers, whole, 1, Buffer.concat([ok, entry, Buffer.alloc(10_000, 0x80 | 62)])));
  assert.equal(peer.ended(), `RST ${ENHANCE_YOUR_CALM}`);
  assert.ok(one.isClosed && one.fields.length === 0);
});

test('a server that says PING and WINDOW_UPDATE for what it gets is right to', () => {
  const peer = new ServerPeer(frame(settings, 0, 0, settingsPayload([4, 16_384])));
  const { stream } = peer.ask('/', false);
  for (let n = 0; n < 5_000; n += 1) {
    stream.write(Buffer.alloc(16_384), false);
    assert.equal(peer.saidData()[0]?.[1], 16_384, peer.error?.message);
    peer.send(frame(windowUpdate, 0, 1, uint32(16_384)), frame(windowUpdate, 0, 0, uint32(16_384)), frame(ping, 0, 0, Buffer.alloc(8)));
  }
});
