import assert from 'node:assert/strict';
import test from 'node:test';
import { ErrorCode } from '../src/http2/frames.ts';
import { Role } from '../src/http2/header-field.ts';
import { Pieces } from '../src/http2/pieces.ts';
import { flags, frame, frameTypes, getHead, headerBlock } from './support/http2.ts';
import { settingsPayload, uint32 } from './support/http2-peer.ts';
import { SessionPeer } from './support/http2-session.ts';

/** What a client may do at once, frame by frame; the same floods against the whole program are in e2e-http2-abuse. */

const { data, headers, priority, rstStream, settings, ping, goaway, windowUpdate, continuation } = frameTypes;
const whole = flags.endHeaders | flags.endStream;
const calm = `GOAWAY ${ErrorCode.ENHANCE_YOUR_CALM}`;
const get = headerBlock(getHead);

/** Sends until the connection ends. @returns how often */
function flood(peer: SessionPeer, next: (n: number) => Buffer, most = 5_000): number {
  for (let n = 0; n < most; n += 1) {
    if (peer.error) {
      assert.equal(peer.ended(), calm, peer.error.message);
      return n;
    }
    peer.send(next(n));
  }
  return most;
}

function request(n: number, isComplete = true): Buffer {
  return frame(headers, flags.endHeaders | (isComplete ? flags.endStream : 0), 2 * n + 1, get);
}

test('rapid reset (CVE-2023-44487): a page full of requests may be taken back, no more', () => {
  const reset = (n: number): Buffer => Buffer.concat([request(n), frame(rstStream, 0, 2 * n + 1, uint32(8))]);
  const peer = new SessionPeer();
  assert.equal(flood(peer, reset, 200), 200);
  assert.equal(peer.error, undefined);
  assert.equal(
    flood(peer, (n) => reset(n + 200)),
    1,
  );
  assert.equal(peer.seen.size, 0, 'what was taken back at once was never looked at');
  // A second later, some more.
  const patient = new SessionPeer();
  flood(patient, reset, 200);
  patient.now = 1_000;
  assert.equal(
    flood(patient, (n) => reset(n + 200)),
    34,
  );
});

test('a request that is taken back after it was looked at counts as well', () => {
  const peer = new SessionPeer();
  const times = flood(peer, (n) => (n % 2 === 0 ? request(n / 2) : frame(rstStream, 0, n, uint32(8))));
  assert.equal(times, 402);
  assert.ok([...peer.seen.values()].every(({ isClosed }) => isClosed));
});

test('streams that make us reset them (CVE-2025-8671) count like those that the client resets', () => {
  const ways: ((n: number) => Buffer)[] = [
    (n) => frame(windowUpdate, 0, 2 * n + 1, uint32(0)),
    (n) => frame(windowUpdate, 0, 2 * n + 1, uint32(2 ** 31 - 1)),
    (n) => frame(data, 0, 2 * n + 1, Buffer.alloc(1)),
    (n) => frame(headers, whole, 2 * n + 1, get),
  ];
  for (const way of ways)
    assert.equal(
      flood(new SessionPeer(), (n) => Buffer.concat([request(n), way(n)])),
      201,
    );
});

test('streams beyond those that are allowed count, too', () => {
  assert.equal(
    flood(new SessionPeer(), (n) => request(n)),
    128 + 201,
  );
});

test('CONTINUATION without end (CVE-2024-27983) ends the connection before it is decoded', () => {
  for (const fragment of [Buffer.alloc(0), Buffer.alloc(16_384, 0x82)]) {
    const peer = new SessionPeer();
    peer.send(frame(headers, flags.endStream, 1, get));
    assert.ok(flood(peer, () => frame(continuation, 0, 1, fragment)) <= 9);
    assert.equal(peer.seen.size, 0);
  }
});

test('a header list that is too large is read, not kept, and its stream is reset; a bomb (CVE-2016-1544) ends the connection', () => {
  const peer = new SessionPeer();
  const entry = headerBlock([['x', 'y'.repeat(3_900)]]);
  entry[0] = 0x40;
  peer.send(frame(headers, whole, 1, Buffer.concat([get, entry, Buffer.alloc(250, 0x80 | 62)])));
  assert.equal(peer.ended(), `RST ${ErrorCode.ENHANCE_YOUR_CALM}`);
  assert.equal(peer.seen.size, 0);
  peer.send(frame(headers, whole, 3, Buffer.concat([get, Buffer.of(0x80 | 62)])));
  assert.equal(peer.get(3).head.fields.at(-1)?.value.length, 3_900);
  peer.send(frame(headers, whole, 5, Buffer.concat([get, Buffer.alloc(300, 0x80 | 62)])));
  assert.equal(peer.ended(), calm);
});

test('fields without a name (CVE-2019-9516) are malformed, and count like others', () => {
  const peer = new SessionPeer();
  const nothing = Buffer.from([0, 0, 0]);
  peer.send(frame(headers, whole, 1, Buffer.concat([get, nothing])));
  assert.equal(peer.get(1).head.fields.at(-1)?.role, Role.MALFORMED);
  peer.send(frame(headers, whole, 3, Buffer.concat([get, Buffer.concat(Array.from({ length: 5_000 }, () => nothing))])));
  assert.equal(peer.ended(), `RST ${ErrorCode.ENHANCE_YOUR_CALM}`);
});

test('frames that carry nothing: a thousand at once, and a hundred a second', () => {
  const floods: [what: string, one: Buffer][] = [
    ['PING (CVE-2019-9512)', frame(ping, 0, 0, Buffer.alloc(8))],
    ['acknowledged PING', frame(ping, flags.ack, 0, Buffer.alloc(8))],
    ['SETTINGS (CVE-2019-9515)', frame(settings, 0, 0, settingsPayload([3, 100]))],
    ['SETTINGS that acknowledge', frame(settings, flags.ack, 0)],
    ['DATA (CVE-2019-9518)', frame(data, 0, 1)],
    ['padding', frame(data, 0x8, 1, Buffer.of(3, 0, 0, 0))],
    ['PRIORITY (CVE-2019-9513)', frame(priority, 0, 3, Buffer.alloc(5))],
    ['WINDOW_UPDATE', frame(windowUpdate, 0, 1, uint32(1))],
    ['GOAWAY', frame(goaway, 0, 0, Buffer.alloc(8))],
    ['unknown', frame(0x42, 0, 0)],
  ];
  for (const [what, one] of floods) {
    const peer = new SessionPeer();
    peer.send(request(0, false));
    const times = flood(peer, () => one);
    assert.ok(times > 900 && times < 1_010, `${times} ${what}`);
    const slow = new SessionPeer();
    slow.send(request(0, false));
    const later = flood(slow, (n) => {
      slow.now = n * 20;
      return one;
    });
    assert.equal(later, 5_000, what);
  }
});

test('a window that a frame names a thousand times is taken once, to open streams', (t) => {
  const peer = new SessionPeer();
  const resize = t.mock.method(peer.session.sender, 'resizeWindows');
  peer.settings(...Array.from({ length: 1_000 }, (_, n): [number, number] => [4, 70_000 + n]));
  assert.deepEqual(
    resize.mock.calls.map(({ arguments: [size] }) => size),
    [70_999],
  );
});

test('frames of streams that are not open any more are bounded, too', () => {
  const peer = new SessionPeer();
  peer.send(request(0));
  peer.get(1).stream.reset(ErrorCode.CANCEL);
  const times = flood(peer, () => frame(windowUpdate, 0, 1, uint32(1)));
  assert.ok(times < 1_010);
});

test('single bytes on request (CVE-2019-9511) are not sent for ever', () => {
  const peer = new SessionPeer({ settings: settingsPayload([4, 0]) });
  peer.headers(1);
  const { stream } = peer.get(1);
  stream.respond(200, [], false);
  stream.write(Buffer.alloc(50_000), true);
  assert.ok(flood(peer, () => frame(windowUpdate, 0, 1, uint32(1))) < 1_010);
});

test('a client that says WINDOW_UPDATE for every frame of a long answer is right to, and be its windows small', () => {
  for (const size of [16_384, 400]) {
    const peer = new SessionPeer({ settings: settingsPayload([4, size]) });
    peer.headers(1);
    const { stream } = peer.get(1);
    stream.respond(200, [], false);
    for (let n = 0; n < 5_000; n += 1) {
      stream.write(Buffer.alloc(size), false);
      const [sent] = peer.saidData();
      assert.equal(sent?.[1], size, peer.error?.message);
      peer.send(frame(windowUpdate, 0, 1, uint32(size)), frame(windowUpdate, 0, 0, uint32(size)));
    }
  }
});

test('a client that widens both windows and says PING for each little message is right to', () => {
  const peer = new SessionPeer();
  peer.headers(1);
  const { stream } = peer.get(1);
  stream.respond(200, [], false);
  for (let n = 0; n < 5_000; n += 1) {
    stream.write(Buffer.alloc(6), false);
    assert.equal(peer.saidData().length, 1, peer.error?.message);
    peer.send(frame(windowUpdate, 0, 1, uint32(6)), frame(windowUpdate, 0, 0, uint32(6)), frame(ping, 0, 0, Buffer.alloc(8)));
  }
});

test('windows that are opened by someone who reads nothing (CVE-2019-9517) fill no memory', () => {
  const peer = new SessionPeer({ settings: settingsPayload([4, 2 ** 31 - 1]) });
  peer.update(0, 2 ** 31 - 1 - 65_535);
  peer.takes = false;
  for (let n = 0; n < 128; n += 1) {
    peer.headers(2 * n + 1);
    const { stream } = peer.get(2 * n + 1);
    stream.respond(200, [], false);
    const piece = Buffer.alloc(65_536);
    while (stream.write(piece, false));
  }
  assert.ok(peer.session.sender.writer.backlog < 200_000);
  // Nor do heads: nothing more is read then.
  for (let n = 0; n < 1_000 && !peer.session.sender.isClogged; n += 1)
    peer.get(1).stream.respond(103, [{ name: 'link', key: 'link', value: String(n).repeat(300) }], false);
  assert.ok(peer.session.sender.isClogged);
});

test('single bytes that nobody takes are held in few pieces, and come in order', () => {
  const pieces = new Pieces();
  const bytes = Array.from({ length: 20_000 }, (_, n) => String.fromCharCode(97 + (n % 26)));
  let released = 0;
  const release = (): void => void (released += 1);
  for (const byte of bytes) pieces.add(Buffer.from(byte), release);
  assert.equal(released, 20_000, 'they are copies');
  const large = Buffer.alloc(5_000, 'x');
  pieces.add(large, release);
  pieces.add(Buffer.from('>'), release);
  assert.deepEqual([pieces.length, released], [25_001, 20_001]);
  const got: Buffer[] = [];
  while (pieces.length > 0) {
    got.push(pieces.first(10_000));
    pieces.drop(got.at(-1)!.length);
    // What comes meanwhile does not overwrite what was given.
    if (got.length === 1) pieces.add(Buffer.from('!'));
  }
  assert.equal(Buffer.concat(got).toString(), `${bytes.join('')}${'x'.repeat(5_000)}>!`);
  assert.equal(released, 20_002);
  assert.ok(got.length < 8, `${got.length} pieces`);
  pieces.add(large, release);
  pieces.clear();
  assert.deepEqual([pieces.length, released], [0, 20_003]);
});
