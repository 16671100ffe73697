import assert from 'node:assert/strict';
import test from 'node:test';
import { ErrorCode, PREFACE } from '../src/http2/frames.ts';
import { flags, frame, frameTypes, headerBlock } from './support/http2.ts';
import { ServerPeer } from './support/http2-client-session.ts';
import { settingsPayload, uint32 } from './support/http2-peer.ts';
import { seeded } from './support/random.ts';

/** The rules of RFC 9113 for who asks, frame by frame. Those for both sides are in http2-session. */

const { data, headers, rstStream, settings, pushPromise, ping, goaway, windowUpdate, continuation } = frameTypes;
const { PROTOCOL_ERROR, FLOW_CONTROL_ERROR, STREAM_CLOSED, FRAME_SIZE_ERROR, REFUSED_STREAM, COMPRESSION_ERROR, ENHANCE_YOUR_CALM, CANCEL } = ErrorCode;
const whole = flags.endHeaders | flags.endStream;
const maxConcurrentStreams = 3;
const ok = headerBlock([[':status', '200']]);

test('it begins with the preface, wants no pushes, and acknowledges the settings of the server', () => {
  const peer = new ServerPeer();
  const frames = peer.said();
  assert.deepEqual(peer.preface, PREFACE);
  assert.deepEqual(
    frames.map(({ type, flags: bits }) => [type, bits]),
    [
      [settings, 0],
      [windowUpdate, 0],
      [settings, flags.ack],
    ],
  );
  assert.ok(frames[0]?.payload.equals(settingsPayload([2, 0], [4, 262_144], [6, 65_536])));
});

test('a request and its answer, with what comes before and behind it', () => {
  const peer = new ServerPeer();
  const one = peer.ask('/', false);
  peer.said();
  one.stream.write(Buffer.from('hello'), false);
  one.stream.end([]);
  assert.deepEqual(peer.saidData(), [[1, 5, true]], 'the end is said with the last piece');
  peer.headers(1, false, [[':status', '103']]);
  peer.headers(1, false, [
    [':status', '200'],
    ['x-a', '1'],
  ]);
  peer.data(1, 'wor');
  peer.data(1, 'ld');
  assert.ok(!one.isClosed);
  peer.headers(1, true, [['x-last', 'z']]);
  assert.deepEqual([one.interim, one.status, one.fields.map(({ name }) => name), one.body, one.trailers], [[103], 200, ['x-a'], 'world', [['x-last', 'z']]]);
  assert.ok(one.isClosed && one.stream.resetCode === undefined && one.stream.misuse === undefined);
  const two = peer.ask();
  assert.equal(two.stream.id, 3);
  peer.headers(3, true, [[':status', '204']]);
  assert.deepEqual([two.status, two.trailers, two.isClosed], [204, [], true]);
  assert.ok(peer.session.isIdle);
});

test('errors of the connection: each ends it, with its code', () => {
  const wrong: [what: string, code: number, bytes: Buffer[]][] = [
    ['HEADERS of a stream that was not begun', PROTOCOL_ERROR, [frame(headers, whole, 3, ok)]],
    ['HEADERS of an even stream', PROTOCOL_ERROR, [frame(headers, whole, 2, ok)]],
    ['HEADERS of stream 0', PROTOCOL_ERROR, [frame(headers, whole, 0, ok)]],
    ['DATA of a stream that was not begun', PROTOCOL_ERROR, [frame(data, 0, 3, Buffer.alloc(1))]],
    ['DATA of stream 0', PROTOCOL_ERROR, [frame(data, 0, 0, Buffer.alloc(1))]],
    ['RST_STREAM of a stream that was not begun', PROTOCOL_ERROR, [frame(rstStream, 0, 3, uint32(8))]],
    ['WINDOW_UPDATE of a stream that was not begun', PROTOCOL_ERROR, [frame(windowUpdate, 0, 3, uint32(1))]],
    ['PUSH_PROMISE', PROTOCOL_ERROR, [frame(pushPromise, flags.endHeaders, 1, Buffer.concat([uint32(2), ok]))]],
    ['SETTINGS that want pushes', PROTOCOL_ERROR, [frame(settings, 0, 0, settingsPayload([2, 1]))]],
    ['DATA of a stream that has ended', STREAM_CLOSED, [frame(headers, whole, 1, ok), frame(data, 0, 1, Buffer.alloc(1))]],
    ['HEADERS of a stream that has ended', STREAM_CLOSED, [frame(headers, whole, 1, ok), frame(headers, whole, 1, ok)]],
    ['a frame that is too large', FRAME_SIZE_ERROR, [frame(data, 0, 1, Buffer.alloc(16_385))]],
    ['a block that is cut off', COMPRESSION_ERROR, [frame(headers, whole, 1, headerBlock([[':status', '200']]).subarray(0, -1))]],
    ['something else within a header block', PROTOCOL_ERROR, [frame(headers, flags.endStream, 1, ok), frame(ping, 0, 0, Buffer.alloc(8))]],
    ['CONTINUATION of nothing', PROTOCOL_ERROR, [frame(continuation, flags.endHeaders, 1, ok)]],
    ['GOAWAY of a wrong size', FRAME_SIZE_ERROR, [frame(goaway, 0, 0, Buffer.alloc(7))]],
    ["the connection's window beyond 2^31-1", FLOW_CONTROL_ERROR, [frame(windowUpdate, 0, 0, uint32(2 ** 31 - 1))]],
  ];
  for (const [what, code, bytes] of wrong) {
    const peer = new ServerPeer();
    const one = peer.ask();
    peer.send(...bytes);
    assert.equal(peer.ended(), `GOAWAY ${code}`, what);
    assert.equal(peer.session.failure?.code, code);
    assert.ok(one.isClosed && peer.error && !peer.session.hasRoom, what);
  }
});

test('what does not begin with SETTINGS is no HTTP/2', () => {
  for (const greeting of [Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n'), frame(ping, 0, 0, Buffer.alloc(8)), frame(goaway, 0, 0, Buffer.alloc(8))]) {
    const peer = new ServerPeer(greeting);
    assert.equal(peer.ended(), `GOAWAY ${PROTOCOL_ERROR}`);
    assert.ok(!peer.session.isReady);
  }
});

test('errors of a stream: it is reset and says why, and its siblings go on', () => {
  const answer = (...fields: [string, string][]) => [[':status', '200'], ...fields] as [string, string][];
  const wrong: [what: string, code: number, act: (peer: ServerPeer) => void][] = [
    ['no :status', PROTOCOL_ERROR, (peer) => peer.headers(1, true, [['x-a', '1']])],
    ['a :status that is none', PROTOCOL_ERROR, (peer) => peer.headers(1, true, [[':status', '2000']])],
    ['two of them', PROTOCOL_ERROR, (peer) => peer.headers(1, true, answer([':status', '200']))],
    ['a pseudo-header field of requests', PROTOCOL_ERROR, (peer) => peer.headers(1, true, answer([':path', '/']))],
    ['a field in upper case', PROTOCOL_ERROR, (peer) => peer.headers(1, true, answer(['X-A', '1']))],
    ['a line break', PROTOCOL_ERROR, (peer) => peer.headers(1, true, answer(['x-a', '1\r\nset-cookie: evil=1']))],
    ['a blank at the end', PROTOCOL_ERROR, (peer) => peer.headers(1, true, answer(['x-a', '1 ']))],
    ['Connection', PROTOCOL_ERROR, (peer) => peer.headers(1, true, answer(['connection', 'close']))],
    ['Transfer-Encoding', PROTOCOL_ERROR, (peer) => peer.headers(1, false, answer(['transfer-encoding', 'chunked']))],
    ['101', PROTOCOL_ERROR, (peer) => peer.headers(1, false, [[':status', '101']])],
    ['an interim answer that ends it', PROTOCOL_ERROR, (peer) => peer.headers(1, true, [[':status', '103']])],
    ['a head that is too large', ENHANCE_YOUR_CALM, (peer) => peer.send(frame(headers, whole, 1, Buffer.concat([ok, Buffer.alloc(2_000, 0x80 | 32)])))],
    ['DATA before the answer', PROTOCOL_ERROR, (peer) => peer.data(1, 'x')],
    ['trailers that do not end it', PROTOCOL_ERROR, (peer) => (peer.headers(1, false), peer.headers(1, false, [['x-a', '1']]))],
    ['trailers with :status', PROTOCOL_ERROR, (peer) => (peer.headers(1, false), peer.headers(1, true))],
    ['WINDOW_UPDATE of 0', PROTOCOL_ERROR, (peer) => peer.update(1, 0)],
    ['a window beyond 2^31-1', FLOW_CONTROL_ERROR, (peer) => peer.update(1, 2 ** 31 - 1)],
    [
      'more DATA than its window',
      FLOW_CONTROL_ERROR,
      (peer) => {
        peer.consumes = false;
        peer.headers(1, false);
        for (let n = 0; n < 17; n += 1) peer.data(1, 16_384);
      },
    ],
  ];
  for (const [what, code, act] of wrong) {
    const peer = new ServerPeer();
    const [one, two] = [peer.ask(), peer.ask()];
    act(peer);
    assert.equal(peer.ended(), `RST ${code}`, what);
    assert.ok(one.isClosed && one.stream.misuse !== undefined && one.trailers === undefined, what);
    peer.headers(3, false);
    peer.data(3, 'fine', true);
    assert.deepEqual([two.body, two.trailers], ['fine', []], what);
    assert.equal(peer.error, undefined);
  }
});

test('the length that is said is the length that comes', () => {
  for (const [length, pieces, isWhole] of [
    [5, ['hel', 'lo'], true],
    [5, ['hel'], false],
    [5, ['hello', '!'], false],
  ] as const) {
    const peer = new ServerPeer();
    const one = peer.ask();
    peer.headers(1, false);
    one.stream.contentLeft = length;
    for (const [at, piece] of pieces.entries()) peer.data(1, piece, at === pieces.length - 1);
    assert.equal(one.trailers !== undefined, isWhole);
    assert.equal(peer.ended(), isWhole ? 'nothing' : `RST ${PROTOCOL_ERROR}`);
  }
});

test('GOAWAY: what the server will not look at is known, what it looks at goes on, and nothing more is begun', () => {
  const peer = new ServerPeer();
  const [one, two, three] = [peer.ask(), peer.ask('/', false), peer.ask()];
  // The last stream is not known yet: a graceful server says so first.
  peer.send(frame(goaway, 0, 0, Buffer.concat([uint32(2 ** 31 - 1), uint32(0)])));
  assert.deepEqual(
    [one, two, three].map(({ isClosed }) => isClosed),
    [false, false, false],
  );
  assert.ok(!peer.session.hasRoom && peer.session.isLeft);
  peer.send(frame(goaway, 0, 0, Buffer.concat([uint32(3), uint32(ENHANCE_YOUR_CALM), Buffer.from('calm')])));
  assert.deepEqual(
    [one, two, three].map(({ stream }) => stream.resetCode),
    [undefined, undefined, REFUSED_STREAM],
  );
  assert.ok(three.isClosed);
  // Whoever answers all the same is not heard, and harms nobody.
  peer.headers(5);
  assert.equal(three.status, undefined);
  two.stream.write(Buffer.from('more'), true);
  two.stream.end([]);
  peer.headers(1);
  peer.headers(3);
  assert.deepEqual([one.status, two.status, peer.leaving], [200, 200, [0, ENHANCE_YOUR_CALM]]);
  assert.ok(peer.session.isIdle && peer.error === undefined);
});

test('RST_STREAM tells its code, and what comes before an end is no end', () => {
  const peer = new ServerPeer();
  const [one, two] = [peer.ask(), peer.ask()];
  peer.headers(1, false);
  peer.data(1, 'part');
  peer.send(frame(rstStream, 0, 1, uint32(0)), frame(rstStream, 0, 3, uint32(REFUSED_STREAM)));
  assert.deepEqual([one.stream.resetCode, one.trailers, one.stream.isReceived], [0, undefined, false]);
  assert.equal(two.stream.resetCode, REFUSED_STREAM);
  const three = peer.ask('/', false);
  peer.headers(5, true);
  peer.send(frame(rstStream, 0, 5, uint32(0)));
  assert.deepEqual([three.trailers, three.stream.isReceived, three.isClosed], [[], true, true], 'this one is whole (RFC 9113, 8.1)');
});

test('any bytes of a server end in answers, resets or GOAWAY, never in anything else, and nothing is left behind', () => {
  const random = seeded(12);
  const good = [
    frame(headers, flags.endHeaders, 1, headerBlock([[':status', '103']])),
    frame(headers, flags.endHeaders, 1, ok),
    frame(data, 0, 1, Buffer.from('hello')),
    frame(headers, whole, 1, headerBlock([['x-a', '1']])),
    frame(headers, whole, 3, ok),
    frame(headers, 0, 5, ok.subarray(0, 1)),
    frame(continuation, flags.endHeaders, 5, ok.subarray(1)),
    frame(data, 0x8 | flags.endStream, 5, Buffer.from([2, 0x77, 0, 0])),
    frame(settings, 0, 0, settingsPayload([4, 10], [1, 0], [maxConcurrentStreams, 9])),
    frame(windowUpdate, 0, 0, uint32(100)),
    frame(ping, 0, 0, Buffer.alloc(8)),
    frame(rstStream, 0, 7, uint32(8)),
    frame(goaway, 0, 0, Buffer.concat([uint32(9), uint32(0)])),
  ];
  let failed = 0;
  for (let n = 0; n < 5_000; n += 1) {
    const peer = new ServerPeer();
    const asked = Array.from({ length: 6 }, (_, at) => peer.ask('/', at % 2 === 0));
    peer.sendMangled(good, 1 + (n % 4), random, () => {
      for (const { stream } of asked) if (random() < 0.1) stream.write(Buffer.alloc(50), false);
      if (random() < 0.05) asked[Math.floor(random() * 6)]!.stream.reset(CANCEL);
      peer.said();
    });
    if (peer.error) failed += 1;
    peer.session.abandon();
    for (const { isClosed, stream } of asked) assert.ok(isClosed && stream.waiting.length === 0);
    assert.ok(peer.session.isIdle);
  }
  assert.ok(failed > 500 && failed < 4_500, `${failed} connections ended`);
});
