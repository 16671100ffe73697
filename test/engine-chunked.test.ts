import assert from 'node:assert/strict';
import test from 'node:test';
import { ChunkedDecoder, chunkHead, lastChunk } from '../src/engine/chunked.ts';
import { ProxyError, type ProxyErrorCode } from '../src/proxy/proxy-error.ts';

type Code = 'bad_request' | 'backend_bad_response';

/** Feeds segments as they come from a socket; `rest` is what the decoder left in the segment in which the body ended. */
function decode(segments: readonly string[], code: Code = 'bad_request') {
  const decoder = new ChunkedDecoder(code);
  let body = '';
  let rest = '';
  for (const segment of segments) {
    const bytes = Buffer.from(segment, 'latin1');
    const consumed = decoder.decode(bytes, (piece) => {
      assert.ok(piece.length > 0);
      body += piece.toString('latin1');
    });
    assert.ok(decoder.done || consumed === bytes.length);
    rest += bytes.toString('latin1', consumed);
  }
  return { body, rest, done: decoder.done, trailers: decoder.trailers.map(({ name, value }) => `${name}=${value}`) };
}

function refused(text: string, expected?: ProxyErrorCode): void {
  for (const code of ['bad_request', 'backend_bad_response'] as const) {
    for (const segments of [[text], text.length < 1_000 ? Array.from(text) : []]) {
      if (segments.length === 0) continue;
      assert.throws(
        () => decode(segments, code),
        (error: unknown) => error instanceof ProxyError && error.code === (code === 'bad_request' ? (expected ?? code) : code),
        `${JSON.stringify(text.slice(0, 100))} in ${segments.length} segments`,
      );
    }
  }
}

const BODY = '5\r\nhello\r\n1;a=b;c="d;\\" \r\te"\r\n \r\n00A\r\n0123456789\r\n0;last\r\nX-Sum: 1\r\nx-more:\t2 \r\n\r\n'.replace(' \r\te', ' \te');
const REST = 'GET / HTTP/1.1\r\n\r\n0\r\n\r\n';

test('chunks, their extensions and trailers in every split into two segments and in single bytes', () => {
  const whole = decode([BODY + REST]);
  assert.deepEqual(whole, { body: 'hello 0123456789', rest: REST, done: true, trailers: ['X-Sum=1', 'x-more=2'] });
  for (let at = 1; at < BODY.length; at += 1) {
    assert.deepEqual(decode([BODY.slice(0, at), BODY.slice(at) + REST]), whole, `split at ${at}`);
    assert.equal(decode([BODY.slice(0, at)]).done, false, `not done at ${at}`);
  }
  assert.deepEqual(decode(Array.from(BODY + REST)), whole);
});

test('an empty body, and one without trailers', () => {
  for (const [text, body] of [
    ['0\r\n\r\n', ''],
    ['0000000000000000\r\n\r\n', ''],
    ['1\r\nx\r\n0\r\n\r\n', 'x'],
  ] as const) {
    for (const segments of [[text + REST], [...Array.from(text), REST]]) assert.deepEqual(decode(segments), { body, rest: REST, done: true, trailers: [] });
  }
});

test('after its end the decoder takes nothing', () => {
  const decoder = new ChunkedDecoder('bad_request');
  const none = (): never => assert.fail('no data');
  assert.equal(decoder.decode(Buffer.from('0\r\n\r\n'), none), 5);
  assert.equal(decoder.decode(Buffer.from('1\r\nx\r\n'), none), 0);
  assert.equal(decoder.decode(Buffer.alloc(0), none), 0);
});

test('pieces are views of the segment, not copies', () => {
  const bytes = Buffer.from('3\r\nabc\r\n0\r\n\r\n');
  const pieces: Buffer[] = [];
  new ChunkedDecoder('bad_request').decode(bytes, (piece) => pieces.push(piece));
  assert.equal(pieces[0]?.buffer, bytes.buffer);
  assert.equal(pieces[0]?.byteOffset, bytes.byteOffset + 3);
});

test('a size is hexadecimal digits and nothing else', () => {
  for (const size of ['', ' 5', '5 ', '5\t', '\t5', '+5', '-5', '0x5', '5h', 'g', '5,', '5.0', '"5"', '\x005', '5\0', '5 ;a', '\xb5'])
    refused(`${size}\r\nhello\r\n0\r\n\r\n`);
  for (const size of ['ff', 'FF', 'fF', '0fF']) assert.equal(decode([`${size}\r\n${'x'.repeat(255)}\r\n0\r\n\r\n`]).body.length, 255);
});

test('a size is a safe integer of at most 16 digits', () => {
  for (const size of ['20000000000000', 'ffffffffffffffff', '10000000000000005', '00000000000000005', '100000000000000000']) refused(`${size}\r\nhello`);
  for (const size of ['1fffffffffffff', '0000000000000005']) assert.equal(decode([`${size}\r\nhello`]).body, 'hello');
});

test('every line ends with CRLF', () => {
  for (const text of [
    '5\nhello\r\n0\r\n\r\n',
    '5\rhello\r\n0\r\n\r\n',
    '5\r\rhello\r\n0\r\n\r\n',
    '5\n\rhello\r\n0\r\n\r\n',
    '5\r\nhello\n0\r\n\r\n',
    '5\r\nhello\r0\r\n\r\n',
    '5\r\nhello0\r\n\r\n',
    '5\r\nhello!\r\n0\r\n\r\n',
    '5\r\nhello\r\n\r\n0\r\n\r\n',
    '5\r\nhello\r\n0\n\r\n',
    '5\r\nhello\r\n0\r\n\n',
    '5\r\nhello\r\n0\r\n\r\r',
    '5;a\nhello\r\n0\r\n\r\n',
    '5;a\rhello\r\n0\r\n\r\n',
    '0\r\nX: 1\n\r\n',
    '0\r\nX: 1\n\n',
    '0\r\nX: 1\r\n\n',
    '0\r\nX: 1\rY: 2\r\n\r\n',
  ]) {
    refused(text);
  }
});

test('extensions are well-formed, and dropped', () => {
  for (const extension of [';a', ';a=b', ';a="b"', ';a=""', ';a="\\""', ';a="b\\\\"', ';a;b=c;d', ';a="\t ;=\xe9"']) {
    assert.equal(decode([`1${extension}\r\nx\r\n0${extension}\r\n\r\n`]).body, 'x', extension);
  }
  for (const extension of [
    ';',
    ';;',
    ';a;',
    ';=b',
    ';a=',
    ' ;a',
    '; a',
    ';a =b',
    ';a= b',
    ';a ',
    ';a="b',
    ';a="b"c',
    ';a=b"',
    ';a="\\',
    ';a="\x01"',
    ';a\0',
    ';\xe9',
    ';a="\x7f"',
    ';a=b=c',
    ',a',
  ]) {
    refused(`1${extension}\r\nx\r\n0\r\n\r\n`);
  }
});

test('extensions are bounded for a chunk and for a body', () => {
  const extension = (length: number): string => `1;${'a'.repeat(length - 1)}\r\nx\r\n`;
  assert.equal(decode([`${extension(4_096)}0\r\n\r\n`]).body, 'x');
  refused(extension(4_097), 'chunk_extensions_too_large');
  refused(`1;${'a'.repeat(4_096)}`, 'chunk_extensions_too_large');
  assert.throws(() => decode(['1', ...Array.from(`;${'a'.repeat(4_096)}`)]), { code: 'chunk_extensions_too_large' });
  assert.equal(decode([extension(2_048).repeat(8), '0\r\n\r\n']).body.length, 8);
  refused(`${extension(2_048).repeat(8)}0;aa\r\n\r\n`.repeat(2).replace('0;aa\r\n\r\n', '1;aaaaaaaaaaa\r\nx\r\n'), 'chunk_extensions_too_large');
  assert.throws(() => decode(Array.from({ length: 20_000 }, () => '1;a\r\nx\r\n')), { code: 'chunk_extensions_too_large' });
});

test('trailers obey the rules of fields', () => {
  for (const line of [
    'X : 1',
    ': 1',
    'X',
    ' X: 1',
    'X: 1\r\n folded',
    'X: \0',
    'X: \x7f',
    'X(: 1',
    ' ',
    'content-length: 0',
    'X: 1\r\nTransfer-Encoding: chunked',
  ])
    refused(`0\r\n${line}\r\n\r\n`);
  assert.deepEqual(decode(['0\r\nX:\xa0\xe9\r\nX: \r\n\r\n']).trailers, ['X=\xa0\xe9', 'X=']);
});

test('trailers are bounded in bytes and in number', () => {
  const section = (size: number): string => `0\r\nX: ${'a'.repeat(size - '\r\nX: \r\n\r\n'.length)}\r\n\r\n`;
  assert.equal(decode([section(8_192)]).done, true);
  assert.equal(decode(Array.from(section(8_192))).done, true);
  refused(section(8_193));
  refused(section(100_000).slice(0, 9_000));
  assert.throws(() => decode(Array.from(section(8_193))), { code: 'bad_request' });
  assert.equal(decode([`0\r\n${'X: 1\r\n'.repeat(100)}\r\n${REST}`]).rest, REST);
  refused(`0\r\n${'X: 1\r\n'.repeat(101)}\r\n`);
});

test('what is written can be read', () => {
  const text = ['a', 'x'.repeat(4_097)].map((piece) => `${chunkHead(piece.length)}${piece}\r\n`).join('');
  assert.equal(text.slice(0, 12), '1\r\na\r\n1001\r\n');
  assert.equal(lastChunk([]), '0\r\n\r\n');
  const trailers = [
    { name: 'X-Sum', value: '\xe9', key: 'x-sum' },
    { name: 'x', value: '', key: 'x' },
  ];
  assert.equal(lastChunk(trailers), '0\r\nX-Sum: \xe9\r\nx: \r\n\r\n');
  assert.deepEqual(decode([text + lastChunk(trailers)]), { body: `a${'x'.repeat(4_097)}`, rest: '', done: true, trailers: ['X-Sum=\xe9', 'x='] });
});
