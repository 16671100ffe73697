import assert from 'node:assert/strict';
import test from 'node:test';
import { ErrorCode, PREFACE } from '../src/http2/frames.ts';
import { flags, frame, frameTypes, getHead, headerBlock } from './support/http2.ts';
import { settingsPayload, uint32 } from './support/http2-peer.ts';
import { ok, SessionPeer } from './support/http2-session.ts';
import { seeded } from './support/random.ts';

/** The rules of RFC 9113, frame by frame. */

const { data, headers, priority, rstStream, settings, ping, goaway, windowUpdate, continuation } = frameTypes;
const { PROTOCOL_ERROR, FLOW_CONTROL_ERROR, STREAM_CLOSED, FRAME_SIZE_ERROR, REFUSED_STREAM, COMPRESSION_ERROR } = ErrorCode;
const whole = flags.endHeaders | flags.endStream;
const padded = 0x8;

test('it begins with its settings and a larger window, and acknowledges those of the client', () => {
  const peer = new SessionPeer({ webSocket: true });
  const said = peer.said();
  assert.deepEqual(
    said.map(({ type, flags: bits }) => [type, bits]),
    [
      [settings, 0],
      [windowUpdate, 0],
      [settings, flags.ack],
    ],
  );
  assert.ok(said[0]?.payload.equals(settingsPayload([3, 128], [4, 262_144], [6, 65_536], [8, 1])));
});

test('errors of the connection: each ends it, with its code', () => {
  const block = headerBlock(getHead);
  const wrong: [what: string, code: number, bytes: Buffer[]][] = [
    ['DATA of stream 0', PROTOCOL_ERROR, [frame(data, 0, 0)]],
    ['DATA of an idle stream', PROTOCOL_ERROR, [frame(data, 0, 1)]],
    ['HEADERS of stream 0', PROTOCOL_ERROR, [frame(headers, whole, 0, block)]],
    ['HEADERS of an even stream', PROTOCOL_ERROR, [frame(headers, whole, 2, block)]],
    ['a frame that is too large', FRAME_SIZE_ERROR, [frame(data, 0, 1, Buffer.alloc(16_385))]],
    ['more padding than DATA', PROTOCOL_ERROR, [frame(headers, flags.endHeaders, 1, block), frame(data, padded, 1, Buffer.of(1))]],
    ['padded DATA without padding', FRAME_SIZE_ERROR, [frame(headers, flags.endHeaders, 1, block), frame(data, padded, 1)]],
    ['more padding than HEADERS', PROTOCOL_ERROR, [frame(headers, whole | padded, 1, Buffer.of(9, 1))]],
    ['HEADERS too short for their priority', FRAME_SIZE_ERROR, [frame(headers, whole | 0x20, 1, Buffer.alloc(4))]],
    ['a block that is cut off', COMPRESSION_ERROR, [frame(headers, whole, 1, block.subarray(0, -1))]],
    ['PRIORITY of stream 0', PROTOCOL_ERROR, [frame(priority, 0, 0, Buffer.alloc(5))]],
    ['PRIORITY of a wrong size', FRAME_SIZE_ERROR, [frame(priority, 0, 1, Buffer.alloc(4))]],
    ['RST_STREAM of stream 0', PROTOCOL_ERROR, [frame(rstStream, 0, 0, uint32(8))]],
    ['RST_STREAM of an idle stream', PROTOCOL_ERROR, [frame(rstStream, 0, 1, uint32(8))]],
    ['RST_STREAM of a wrong size', FRAME_SIZE_ERROR, [frame(headers, whole, 1, block), frame(rstStream, 0, 1, Buffer.alloc(5))]],
    ['SETTINGS of a stream', PROTOCOL_ERROR, [frame(settings, 0, 1)]],
    ['SETTINGS of a wrong size', FRAME_SIZE_ERROR, [frame(settings, 0, 0, Buffer.alloc(5))]],
    ['SETTINGS that acknowledge something', FRAME_SIZE_ERROR, [frame(settings, flags.ack, 0, Buffer.alloc(6))]],
    ['ENABLE_PUSH of 2', PROTOCOL_ERROR, [frame(settings, 0, 0, settingsPayload([2, 2]))]],
    ['a window that is too large', FLOW_CONTROL_ERROR, [frame(settings, 0, 0, settingsPayload([4, 2 ** 31]))]],
    ['frames that are too small', PROTOCOL_ERROR, [frame(settings, 0, 0, settingsPayload([5, 16_383]))]],
    ['frames that are too large', PROTOCOL_ERROR, [frame(settings, 0, 0, settingsPayload([5, 2 ** 24]))]],
    ['PUSH_PROMISE', PROTOCOL_ERROR, [frame(5, 0, 1, Buffer.alloc(8))]],
    ['PING of a stream', PROTOCOL_ERROR, [frame(ping, 0, 1, Buffer.alloc(8))]],
    ['PING of a wrong size', FRAME_SIZE_ERROR, [frame(ping, 0, 0, Buffer.alloc(7))]],
    ['GOAWAY of a stream', PROTOCOL_ERROR, [frame(goaway, 0, 1, Buffer.alloc(8))]],
    ['WINDOW_UPDATE of a wrong size', FRAME_SIZE_ERROR, [frame(windowUpdate, 0, 0, Buffer.alloc(3))]],
    ['WINDOW_UPDATE of 0', PROTOCOL_ERROR, [frame(windowUpdate, 0, 0, uint32(0))]],
    ['WINDOW_UPDATE of an idle stream', PROTOCOL_ERROR, [frame(windowUpdate, 0, 1, uint32(1))]],
    ["the connection's window beyond 2^31-1", FLOW_CONTROL_ERROR, [frame(windowUpdate, 0, 0, uint32(2 ** 31 - 1))]],
    ['CONTINUATION of nothing', PROTOCOL_ERROR, [frame(continuation, flags.endHeaders, 1, block)]],
    ['something else within a header block', PROTOCOL_ERROR, [frame(headers, flags.endStream, 1, block), frame(ping, 0, 0, Buffer.alloc(8))]],
    ["another stream's CONTINUATION", PROTOCOL_ERROR, [frame(headers, flags.endStream, 1, block), frame(continuation, 4, 3, block)]],
    ['an older stream', STREAM_CLOSED, [frame(headers, whole, 3, block), frame(headers, whole, 1, block)]],
  ];
  for (const [what, code, bytes] of wrong) {
    const peer = new SessionPeer();
    peer.send(...bytes);
    assert.equal(peer.ended(), `GOAWAY ${code}`, what);
    assert.equal(peer.error?.code, code);
    for (const { isClosed } of peer.seen.values()) assert.ok(isClosed, what);
    peer.headers(9);
    assert.equal(peer.seen.get(9), undefined, 'nothing more is read');
  }
});

test('what is no HTTP/2 is not taken for it, at the first wrong byte', () => {
  for (const bytes of ['GET / HTTP/1.1\r\n\r\n', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\rX']) {
    const other = new SessionPeer({ preface: Buffer.from(bytes) });
    assert.equal(other.ended(), `GOAWAY ${PROTOCOL_ERROR}`);
  }
  for (const first of [frame(ping, 0, 0, Buffer.alloc(8)), frame(settings, flags.ack, 0)]) {
    const hasty = new SessionPeer({ preface: Buffer.concat([PREFACE, first]) });
    assert.equal(hasty.ended(), `GOAWAY ${PROTOCOL_ERROR}`, 'SETTINGS of its own come first (RFC 9113, 3.4)');
  }
});

test('errors of a stream: it is reset, and its siblings go on', () => {
  const wrong: [what: string, code: number, act: (peer: SessionPeer) => void][] = [
    ['DATA behind its end', STREAM_CLOSED, (peer) => peer.data(1, 1)],
    ['HEADERS behind its end', STREAM_CLOSED, (peer) => peer.headers(1)],
    ['WINDOW_UPDATE of 0', PROTOCOL_ERROR, (peer) => peer.update(1, 0)],
    ['a window beyond 2^31-1', FLOW_CONTROL_ERROR, (peer) => peer.update(1, 2 ** 31 - 1)],
    ['trailers that do not end it', PROTOCOL_ERROR, (peer) => peer.headers(3, false, [['x-a', '1']])],
    ['trailers with a pseudo-header field', PROTOCOL_ERROR, (peer) => peer.headers(3, true, [[':path', '/']])],
    ['malformed trailers', PROTOCOL_ERROR, (peer) => peer.headers(3, true, [['X-A', '1']])],
    [
      'more DATA than its window',
      FLOW_CONTROL_ERROR,
      (peer) => {
        peer.consumes = false;
        for (let n = 0; n < 17; n += 1) peer.data(3, 16_384);
      },
    ],
  ];
  for (const [what, code, act] of wrong) {
    const peer = new SessionPeer();
    peer.headers(1);
    peer.headers(3, false);
    act(peer);
    assert.equal(peer.ended(), `RST ${code}`, what);
    assert.equal([...peer.seen.values()].filter(({ isClosed }) => isClosed).length, 1, what);
    peer.headers(5);
    ok(peer, 5, Buffer.from('ok'));
    assert.deepEqual(peer.saidData(), [[5, 2, true]]);
  }
});

test('frames that nobody knows, priorities and acknowledgements change nothing', () => {
  const peer = new SessionPeer();
  peer.send(
    frame(0x77, 0xff, 1, Buffer.alloc(100)),
    frame(priority, 0, 9, Buffer.alloc(5)),
    frame(settings, flags.ack, 0),
    frame(ping, flags.ack, 0, Buffer.alloc(8)),
  );
  peer.settings([0x99, 7], [6, 1]);
  peer.headers(1);
  ok(peer, 1, Buffer.from('ok'));
  assert.deepEqual(peer.saidData(), [[1, 2, true]]);
  assert.equal(peer.heard, 0);
});

test('a PING is answered with its bytes', () => {
  const peer = new SessionPeer();
  peer.said();
  peer.send(frame(ping, 0, 0, Buffer.from('abcdefgh')));
  const [answer] = peer.said();
  assert.deepEqual([answer?.type, answer?.flags, answer?.payload.toString()], [ping, flags.ack, 'abcdefgh']);
});

test('what was on its way when a stream was reset is no error, and is given back to the connection', () => {
  const peer = new SessionPeer();
  peer.headers(1, false);
  peer.get(1).stream.reset(ErrorCode.CANCEL);
  peer.said();
  for (let n = 0; n < 200; n += 1) peer.data(1, 16_384);
  peer.send(frame(headers, whole, 1, headerBlock([['x-trailer', '1']])));
  const updates = peer.said().filter(({ type, stream }) => type === windowUpdate && stream === 0);
  assert.ok(updates.length > 0);
  assert.equal(peer.error, undefined);
  // A stream that has ended in order is another thing.
  peer.headers(3);
  ok(peer, 3, Buffer.from('ok'));
  peer.data(3, 1);
  assert.equal(peer.ended(), `GOAWAY ${STREAM_CLOSED}`);
});

test('only so many streams are remembered', () => {
  const peer = new SessionPeer();
  for (let stream = 1; stream < 2 * 513; stream += 2) {
    peer.headers(stream, false);
    peer.get(stream).stream.reset(ErrorCode.CANCEL);
  }
  peer.data(3, 1);
  assert.equal(peer.error, undefined);
  peer.data(1, 1);
  assert.equal(peer.ended(), `GOAWAY ${STREAM_CLOSED}`);
});

test('the end: announced, heard, and said; later streams are not looked at', () => {
  const peer = new SessionPeer();
  peer.headers(1);
  peer.said();
  peer.session.announceEnd();
  const [announcement, asked] = peer.said();
  assert.deepEqual([announcement?.type, announcement?.payload.readUInt32BE()], [goaway, 2 ** 31 - 1]);
  peer.headers(3);
  peer.send(frame(ping, flags.ack, 0, asked?.payload));
  assert.equal(peer.heard, 1);
  peer.session.close();
  const [final] = peer.said();
  assert.deepEqual([final?.type, final?.payload.readUInt32BE()], [goaway, 3]);
  // Its fields are read all the same: later blocks may refer to them.
  const indexed = headerBlock([['x-a', 'kept']]);
  indexed[0] = 0x40;
  peer.send(frame(headers, flags.endHeaders, 5, Buffer.concat([headerBlock(getHead), indexed])), frame(data, 0, 5, Buffer.alloc(10)));
  assert.equal(peer.seen.get(5), undefined);
  assert.equal(peer.error, undefined);
  ok(peer, 3, Buffer.from('ok'));
  assert.deepEqual(peer.saidData(), [[3, 2, true]]);
  assert.ok(peer.get(3).isClosed);
});

test('the last stream number is served like the first', () => {
  const peer = new SessionPeer();
  peer.headers(2 ** 31 - 1);
  ok(peer, 2 ** 31 - 1, Buffer.from('ok'));
  assert.deepEqual(peer.saidData(), [[2 ** 31 - 1, 2, true]]);
});

test('more streams than were allowed are refused, and say that they were not looked at', () => {
  const peer = new SessionPeer();
  for (let n = 0; n < 128; n += 1) peer.headers(2 * n + 1);
  peer.said();
  peer.headers(257);
  assert.equal(peer.ended(), `RST ${REFUSED_STREAM}`);
  ok(peer, 1, Buffer.from('ok'));
  peer.headers(259);
  assert.ok(peer.get(259));
});

test('any bytes end in frames, resets or GOAWAY, never in anything else', () => {
  const random = seeded(11);
  const good = [
    frame(headers, whole, 1, headerBlock(getHead)),
    frame(headers, flags.endHeaders, 3, headerBlock(getHead)),
    frame(data, 0, 3, Buffer.from('hello')),
    frame(data, padded | flags.endStream, 3, Buffer.from([2, 0x77, 0, 0])),
    frame(settings, 0, 0, settingsPayload([4, 10], [1, 0])),
    frame(windowUpdate, 0, 0, uint32(100)),
    frame(ping, 0, 0, Buffer.alloc(8)),
    frame(priority, 0, 5, Buffer.alloc(5)),
    frame(headers, 0, 5, headerBlock(getHead).subarray(0, 9)),
    frame(continuation, flags.endHeaders, 5, headerBlock(getHead).subarray(9)),
    frame(rstStream, 0, 5, uint32(8)),
  ];
  let failed = 0;
  for (let n = 0; n < 5_000; n += 1) {
    const peer = new SessionPeer();
    peer.sendMangled(good, 1 + (n % 4), random, () => {
      for (const { stream, isClosed } of peer.seen.values()) if (!isClosed && random() < 0.2) ok(peer, stream.id, Buffer.alloc(50));
      peer.said();
    });
    if (peer.error) failed += 1;
    peer.session.abandon();
    for (const { isClosed } of peer.seen.values()) assert.ok(isClosed);
  }
  assert.ok(failed > 500 && failed < 4_500, `${failed} connections ended`);
});
