import assert from 'node:assert/strict';
import test from 'node:test';
import { ErrorCode } from '../src/http2/frames.ts';
import { frame, frameTypes } from './support/http2.ts';
import { settingsPayload, uint32 } from './support/http2-peer.ts';
import { ok, SessionPeer } from './support/http2-session.ts';

/** Who may send how much, and in which order (RFC 9113, 5.2 and 6.9). */

const { data, rstStream, windowUpdate } = frameTypes;
const { FLOW_CONTROL_ERROR } = ErrorCode;
const initialWindow = 4;
const padded = 0x8;

test('DATA is cut to frames that everybody takes, and to both windows', () => {
  const peer = new SessionPeer();
  peer.headers(1);
  ok(peer, 1, Buffer.alloc(100_000));
  assert.deepEqual(peer.saidData(), [
    [1, 16_384, false],
    [1, 16_384, false],
    [1, 16_384, false],
    [1, 16_383, false],
  ]);
  peer.update(1, 20_000);
  assert.deepEqual(peer.saidData(), [], "the connection's window is closed");
  peer.update(0, 1_000_000);
  assert.deepEqual(peer.saidData(), [
    [1, 16_384, false],
    [1, 3_616, false],
  ]);
  peer.update(1, 100_000);
  assert.deepEqual(peer.saidData(), [[1, 14_465, true]]);
  assert.ok(peer.get(1).isClosed);
});

test('a client may make open windows smaller, even negative, and larger again (RFC 9113, 6.9.2)', () => {
  const peer = new SessionPeer({ settings: settingsPayload([initialWindow, 100]) });
  peer.headers(1);
  ok(peer, 1, Buffer.alloc(300));
  assert.deepEqual(peer.saidData(), [[1, 100, false]]);
  peer.settings([initialWindow, 30]);
  peer.update(1, 70);
  assert.deepEqual(peer.saidData(), [], 'from -70 to 0');
  peer.update(1, 1);
  assert.deepEqual(peer.saidData(), [[1, 1, false]]);
  peer.settings([initialWindow, 1_000]);
  assert.deepEqual(peer.saidData(), [[1, 199, true]]);
  // An open stream whose window would pass 2^31-1 ends the connection.
  peer.headers(3);
  peer.update(3, 2 ** 31 - 1 - 1_000);
  peer.settings([initialWindow, 1_001]);
  assert.equal(peer.ended(), `GOAWAY ${FLOW_CONTROL_ERROR}`);
});

test('streams that wait take turns, and those with closed windows hold up nobody', () => {
  const peer = new SessionPeer({ settings: settingsPayload([initialWindow, 0]) });
  peer.update(0, 1_000_000);
  for (const stream of [1, 3, 5]) {
    peer.headers(stream);
    ok(peer, stream, Buffer.alloc(40_000));
  }
  peer.said();
  peer.send(frame(windowUpdate, 0, 1, uint32(40_000)), frame(windowUpdate, 0, 5, uint32(40_000)));
  assert.deepEqual(peer.saidData(), [
    [1, 16_384, false],
    [5, 16_384, false],
    [1, 16_384, false],
    [5, 16_384, false],
    [1, 7_232, true],
    [5, 7_232, true],
  ]);
});

test('no more than a bounded part waits for the socket; the giver is told to wait, and when there is room', () => {
  const peer = new SessionPeer({ settings: settingsPayload([initialWindow, 2 ** 31 - 1]) });
  peer.update(0, 2 ** 31 - 1 - 65_535);
  peer.headers(1);
  const one = peer.get(1);
  one.stream.respond(200, [], false);
  peer.takes = false;
  let released = 0;
  let given = 0;
  while (one.stream.write(Buffer.alloc(65_536), false, () => (released += 1))) given += 1;
  assert.ok(given <= 3, `${given} pieces of 64 KB`);
  assert.ok(peer.session.sender.writer.backlog < 200_000);
  peer.said();
  assert.equal(one.drains, 0);
  peer.take();
  peer.said();
  assert.deepEqual([one.drains, released], [1, given + 1]);
});

test('what a client sends is given back when it is consumed, half a window at a time', () => {
  const peer = new SessionPeer();
  peer.headers(1, false);
  peer.consumes = false;
  for (let n = 0; n < 16; n += 1) peer.data(1, 16_384);
  assert.deepEqual(peer.said().filter(({ type }) => type === windowUpdate).length, 1, 'only that of the beginning');
  const { stream, body } = peer.get(1);
  assert.equal(body.length, 262_144);
  stream.consumed(131_071);
  assert.deepEqual(peer.said(), []);
  stream.consumed(1);
  assert.deepEqual(
    peer.said().map(({ type, stream: id, payload }) => [type, id, payload.readUInt32BE()]),
    [[windowUpdate, 1, 131_072]],
  );
});

test('padding counts, and is given back at once', () => {
  const peer = new SessionPeer();
  peer.headers(1, false);
  peer.consumes = false;
  peer.said();
  for (let n = 0; n < 600; n += 1) peer.send(frame(data, padded, 1, Buffer.concat([Buffer.of(255), Buffer.from('x'), Buffer.alloc(255)])));
  assert.equal(peer.get(1).body.length, 600);
  const [update] = peer.said();
  assert.deepEqual([update?.type, update?.stream, (update?.payload.readUInt32BE() ?? 0) % 256], [windowUpdate, 1, 0]);
});

test('all streams together have a window, too', () => {
  const peer = new SessionPeer();
  peer.consumes = false;
  for (let stream = 1; stream < 33; stream += 2) {
    peer.headers(stream, false);
    for (let n = 0; n < 16; n += 1) peer.data(stream, 16_384);
  }
  assert.equal(peer.error, undefined);
  peer.headers(33, false);
  peer.data(33, 1);
  assert.equal(peer.ended(), `GOAWAY ${FLOW_CONTROL_ERROR}`);
});

test('what a closed stream held is given back to the connection', () => {
  const peer = new SessionPeer();
  peer.consumes = false;
  for (let stream = 1; stream < 100; stream += 2) {
    peer.headers(stream, false);
    for (let n = 0; n < 16; n += 1) peer.data(stream, 16_384);
    peer.send(frame(rstStream, 0, stream, uint32(8)));
  }
  assert.equal(peer.error, undefined);
});
