import assert from 'node:assert/strict';
import { once } from 'node:events';
import * as http2 from 'node:http2';
import * as net from 'node:net';
import test, { type TestContext } from 'node:test';
import { setImmediate as immediate } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { ConnectionError, ErrorCode, HEADERS, PREFACE } from '../src/http2/frames.ts';
import { FrameReader } from '../src/http2/frame-reader.ts';
import { HpackDecoder } from '../src/http2/hpack-decoder.ts';
import { blockBound, HpackEncoder } from '../src/http2/hpack-encoder.ts';
import { field } from '../src/proxy/headers.ts';
import { flags, frame, frameTypes, headerBlock } from './support/http2.ts';
import { seeded } from './support/random.ts';

type Pair = readonly [name: string, value: string];

function decode(decoder: HpackDecoder, block: Buffer, maxSize = 65_536): Pair[] {
  return decoder.decode(block, 0, block.length, maxSize).fields.map(({ name, value }) => [name, value]);
}

function hex(text: string): Buffer {
  return Buffer.from(text.replaceAll(' ', ''), 'hex');
}

function encode(encoder: HpackEncoder, status: number | undefined, pairs: readonly Pair[]): Buffer {
  const fields = pairs.map(([name, value]) => field(name, value));
  const output = Buffer.alloc(blockBound(fields));
  return output.subarray(0, encoder.encode(status, fields, output, 0));
}

function isCompressionError(error: unknown): boolean {
  return error instanceof ConnectionError && error.code === ErrorCode.COMPRESSION_ERROR;
}

const get: Pair[] = [
  [':method', 'GET'],
  [':scheme', 'http'],
  [':path', '/'],
  [':authority', 'www.example.com'],
];
const custom: Pair[] = [
  [':method', 'GET'],
  [':scheme', 'https'],
  [':path', '/index.html'],
  [':authority', 'www.example.com'],
  ['custom-key', 'custom-value'],
];

test('the examples of RFC 7541, C are read as they are explained there', () => {
  const single: [string, Pair][] = [
    ['400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572', ['custom-key', 'custom-header']],
    ['040c 2f73 616d 706c 652f 7061 7468', [':path', '/sample/path']],
    ['1008 7061 7373 776f 7264 0673 6563 7265 74', ['password', 'secret']],
    ['82', [':method', 'GET']],
  ];
  for (const [bytes, expected] of single) assert.deepEqual(decode(new HpackDecoder(), hex(bytes)), [expected]);
  const series: string[][] = [
    // C.3 and C.4: the same requests without and with Huffman coding.
    [
      '8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d',
      '8286 84be 5808 6e6f 2d63 6163 6865',
      '8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65',
    ],
    ['8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff', '8286 84be 5886 a8eb 1064 9cbf', '8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf'],
  ];
  for (const requests of series) {
    const decoder = new HpackDecoder();
    assert.deepEqual(
      requests.map((bytes) => decode(decoder, hex(bytes))),
      [get, [...get, ['cache-control', 'no-cache']], custom],
    );
  }
});

test('answers of RFC 7541, C.6, in a table of 256 bytes: entries are evicted', () => {
  const decoder = new HpackDecoder();
  const resize = hex('3fe1 01');
  const [date, later] = ['Mon, 21 Oct 2013 20:13:21 GMT', 'Mon, 21 Oct 2013 20:13:22 GMT'];
  const location: Pair = ['location', 'https://www.example.com'];
  const first = '4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3';
  assert.deepEqual(decode(decoder, Buffer.concat([resize, hex(first)])), [[':status', '302'], ['cache-control', 'private'], ['date', date], location]);
  assert.deepEqual(decode(decoder, hex('4883 640e ffc1 c0bf')), [[':status', '307'], ['cache-control', 'private'], ['date', date], location]);
  const third =
    '88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07';
  assert.deepEqual(decode(decoder, hex(third)), [
    [':status', '200'],
    ['cache-control', 'private'],
    ['date', later],
    location,
    ['content-encoding', 'gzip'],
    ['set-cookie', 'foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1'],
  ]);
});

test('what cannot be decoded ends the connection', () => {
  const wrong: [what: string, bytes: string][] = [
    ['index 0', '80'],
    ['an index beyond the table', 'be'],
    ['a name beyond the table', '7f00 0161'],
    ['a size behind a field', '82 20'],
    ['a size beyond what we said', '3fe2 1f'],
    ['a string that is cut off', '4003 6162'],
    ['a field that is cut off', '4001 61'],
    ['an integer that is cut off', 'ff80'],
    ['an integer without end', 'ff80 8080 8080 8080 8080 8000'],
    ['an integer of 32 bits', '00ff ffff ffff 0f'],
    ['the end symbol of Huffman', '0001 6184 ffff fffc'],
    ['padding of zeroes', '0001 6181 18'],
    ['padding of a byte', '0001 6182 1fff'],
  ];
  for (const [what, bytes] of wrong) assert.throws(() => decode(new HpackDecoder(), hex(bytes)), isCompressionError, what);
  // Sizes at the beginning are right, down to nothing and up again.
  assert.deepEqual(decode(new HpackDecoder(), hex('20 3fe1 1f 82')), [[':method', 'GET']]);
});

test('a list that is too large is read to its end, for later blocks refer to it, but not kept', () => {
  const decoder = new HpackDecoder();
  const large = Buffer.concat([hex('4001 61'), hex('7f 8101'), Buffer.alloc(256, 'x')]);
  const { fields, isTooLarge } = decoder.decode(Buffer.concat([large, Buffer.alloc(1_000, 0xbe)]), 0, large.length + 1_000, 1_000);
  assert.deepEqual([fields.length, isTooLarge], [3, true]);
  assert.deepEqual(decode(decoder, hex('be')), [['a', 'x'.repeat(256)]]);
});

test('what was evicted is let go of: a table of 4 KB holds no more than that', async () => {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const decoder = new HpackDecoder();
  const evicted = Array.from({ length: 128 }, (_, n) => {
    const block = headerBlock([[`x-${n}`, 'y'.repeat(3_900)]]);
    block[0] = 0x40;
    return new WeakRef(decoder.decode(block, 0, block.length, 65_536).fields[0]!);
  });
  await immediate();
  collect();
  assert.equal(evicted.filter((one) => one.deref() !== undefined).length, 1);
  assert.deepEqual(decode(decoder, Buffer.of(0x80 | 62))[0]?.[0], 'x-127');
});

test('a field is indexed when it comes a second time, and costs a byte from then on; secrets never are', () => {
  const encoder = new HpackEncoder();
  const fields: Pair[] = [
    ['server', 'nginx'],
    ['x-odd', 'value'],
  ];
  const sizes = Array.from({ length: 4 }, () => encode(encoder, 200, fields).length);
  assert.deepEqual(sizes.slice(2), [3, 3]);
  for (const secret of ['set-cookie', 'authorization']) {
    for (let n = 0; n < 3; n += 1) {
      const block = encode(encoder, undefined, [[secret, 'secret']]);
      assert.equal((block[0] ?? 0) & 0xf0, 0x10, 'never indexed (RFC 7541, 6.2.3)');
      assert.ok(block.includes('secret'));
    }
  }
});

test('a client may make the table smaller, down to nothing, and is told when we have', () => {
  const encoder = new HpackEncoder();
  const decoder = new HpackDecoder();
  const fields: Pair[] = [['server', 'nginx']];
  const answered: Pair[] = [[':status', '200'], ...fields];
  const same = (): Buffer => {
    const block = encode(encoder, 200, fields);
    assert.deepEqual(decode(decoder, block), answered);
    return block;
  };
  for (let n = 0; n < 3; n += 1) same();
  encoder.limit(0);
  encoder.limit(100);
  assert.deepEqual(same().subarray(0, 3), hex('20 3f45'));
  for (let n = 0; n < 3; n += 1) same();
  encoder.limit(1_000_000);
  assert.deepEqual(same().subarray(0, 3), hex('3fe1 1f'));
  for (let n = 0; n < 3; n += 1) same();
});

/** Fields as they may be, with many repetitions. */
function randomFields(random: () => number): Pair[] {
  const pick = <T>(choices: readonly T[]): T => choices[Math.floor(random() * choices.length)]!;
  const value = (): string =>
    Array.from({ length: Math.floor(random() ** 3 * 300) }, () =>
      String.fromCharCode(pick([0x21 + Math.floor(random() * 94), 0x80 + Math.floor(random() * 128)])),
    ).join('');
  const names = ['accept', 'accept-language', 'x-a', 'x-b', 'cookie', 'x-'.padEnd(200, 'n'), 'cache-control'];
  return Array.from({ length: Math.floor(random() * 12) }, () => [pick(names), random() < 0.6 ? pick(['one', '/two', 'a b c', '*/*']) : value()]);
}

/** node:http2's client, connected to frames: `headers` gets its header blocks, and may answer on the socket. */
async function nodeClient(t: TestContext, headers: (stream: number, block: Buffer, socket: net.Socket) => void): Promise<http2.ClientHttp2Session> {
  const server = net.createServer((socket) => {
    const reader = new FrameReader(
      {
        headers(stream, _flags, block, start, end) {
          headers(stream, block.subarray(start, end), socket);
        },
        dataBegins() {},
        data() {},
        dataEnds() {},
        frame() {},
      },
      PREFACE,
    );
    socket.on('data', (bytes) => reader.read(bytes));
    socket.on('error', () => {});
    socket.write(frame(frameTypes.settings, 0, 0));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  const session = http2.connect(`http://127.0.0.1:${(server.address() as net.AddressInfo).port}`, { peerMaxConcurrentStreams: 1_000 });
  t.after(() => session.destroy());
  return session;
}

test('what the client of node:http2 encodes, we decode', async (t) => {
  const random = seeded(7);
  const heads = Array.from({ length: 200 }, () => randomFields(random));
  const decoder = new HpackDecoder();
  const decoded: Pair[][] = [];
  const { promise, resolve } = Promise.withResolvers<void>();
  const session = await nodeClient(t, (_stream, block) => {
    decoded.push(decode(decoder, block).filter(([name]) => !name.startsWith(':')));
    if (decoded.length === heads.length) resolve();
  });
  session.on('error', () => {});
  for (const head of heads) session.request([':path', '/', ...head.flat()]).on('error', () => {});
  await promise;
  assert.deepEqual(decoded, heads);
});

test('what we encode, the client of node:http2 decodes', async (t) => {
  const random = seeded(8);
  const encoder = new HpackEncoder();
  const heads = Array.from({ length: 200 }, () => [...randomFields(random), ['set-cookie', `id=${Math.floor(random() * 3)}`] as const]);
  let asked = 0;
  const session = await nodeClient(t, (stream, _block, socket) => {
    // Odd sizes for a table are no less right.
    if (asked === 100) encoder.limit(60);
    if (asked === 150) encoder.limit(4_096);
    socket.write(frame(frameTypes.headers, flags.endHeaders | flags.endStream, stream, encode(encoder, [200, 404, 299][asked % 3], heads[asked]!)));
    asked += 1;
  });
  for (const [n, head] of heads.entries()) {
    const stream = session.request({ ':path': '/' });
    const [headers, , raw] = (await once(stream, 'response')) as [http2.IncomingHttpHeaders, number, string[]];
    stream.resume();
    assert.equal(headers[':status'], [200, 404, 299][n % 3]);
    assert.deepEqual(raw.slice(2), head.flat());
  }
});

test('blocks are read alike, however their bytes are cut', () => {
  const block = headerBlock(custom);
  const bytes = Buffer.concat([
    PREFACE,
    frame(frameTypes.settings, 0, 0),
    frame(HEADERS, 0x8 | 0x20 | flags.endHeaders, 1, Buffer.concat([Buffer.from([3, 0, 0, 0, 0, 1]), block, Buffer.alloc(3)])),
    frame(HEADERS, flags.endStream, 3, block.subarray(0, 7)),
    frame(frameTypes.continuation, 0, 3, block.subarray(7, 9)),
    frame(frameTypes.continuation, flags.endHeaders, 3, block.subarray(9)),
    frame(frameTypes.data, 0, 1, Buffer.from('hello')),
    frame(frameTypes.data, 0x8 | flags.endStream, 1, Buffer.from([2, 0x77, 0, 0])),
    frame(0x55, 0xff, 7, Buffer.from('unknown')),
  ]);
  const reading = (pieces: Buffer[]): unknown[] => {
    const seen: unknown[] = [];
    const decoder = new HpackDecoder();
    let data = '';
    const reader = new FrameReader(
      {
        headers: (stream, flagBits, from, start, end) => seen.push(['headers', stream, flagBits & 1, decode(decoder, from.subarray(start, end))]),
        dataBegins: (stream, flagBits, occupied, length) => seen.push(['data', stream, flagBits & 1, occupied, length]),
        data: (piece) => (data += piece.toString()),
        dataEnds: () => {
          seen.push(data);
          data = '';
        },
        frame: (type, _flags, stream, from, start, end) => seen.push([type, stream, from.toString('latin1', start, end)]),
      },
      PREFACE,
    );
    for (const piece of pieces) reader.read(piece);
    return seen;
  };
  const whole = reading([bytes]);
  assert.deepEqual(whole.slice(1), [
    ['headers', 1, 0, custom],
    ['headers', 3, 1, custom],
    ['data', 1, 0, 5, 5],
    'hello',
    ['data', 1, 1, 4, 1],
    'w',
    [0x55, 7, 'unknown'],
  ]);
  for (let at = 1; at < bytes.length; at += 1) assert.deepEqual(reading([bytes.subarray(0, at), bytes.subarray(at)]), whole, `cut at ${at}`);
  assert.deepEqual(reading(Array.from(bytes, (byte) => Buffer.of(byte))), whole);
});
