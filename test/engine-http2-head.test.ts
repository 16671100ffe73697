import assert from 'node:assert/strict';
import test from 'node:test';
import { Http2HeadReader, sortFields } from '../src/engine/http2-head.ts';
import { headerField } from '../src/http2/header-field.ts';
import { getHead } from './support/http2.ts';

type Pair = readonly [name: string, value: string];

/** Fields as they come from a decoder: new ones each time. */
function read(heads: Http2HeadReader, pairs: readonly Pair[], isComplete = true): ReturnType<Http2HeadReader['read']> {
  return heads.read(
    sortFields(
      pairs.map(([name, value]) => headerField(name, value)),
      isComplete,
      false,
    ),
    isComplete,
  );
}

test('what has been read once is recognised, whatever the method and the path, and nothing else is', () => {
  const heads = new Http2HeadReader();
  const usual: Pair[] = [...getHead, ['accept', '*/*'], ['x-a', '1']];
  const { facts } = read(heads, usual);
  const again = read(
    heads,
    usual.map(([name, value]): Pair => (name === ':path' ? [name, '/other?x'] : name === ':method' ? [name, 'PUT'] : [name, value])),
  );
  assert.equal(again.facts, facts);
  assert.deepEqual([again.method, again.target, again.path], ['PUT', '/other?x', '/other']);
  const others: Pair[][] = [
    [...getHead, ['accept', '*/*'], ['x-a', '2']],
    [...getHead, ['accept', '*/*'], ['x-b', '1']],
    [...getHead, ['accept', '*/*']],
    [...usual, ['x-a', '1']],
    [...usual, ['host', 'a.test']],
    usual.map(([name, value]): Pair => [name, name === ':authority' ? 'b.test' : value]),
  ];
  for (const other of others) {
    read(heads, usual);
    const head = read(heads, other);
    assert.deepEqual(
      head.fields.map(({ name, value }) => [name, value]),
      [['Host', head.host], ...other.filter(([name]) => !name.startsWith(':') && name !== 'host')],
    );
  }
  read(heads, usual);
  assert.deepEqual([read(heads, usual, false).framing, read(heads, usual).framing], ['chunked', 'none']);
});

test('a long head is not kept', () => {
  const heads = new Http2HeadReader();
  const long: Pair[] = [...getHead, ['cookie', 'x'.repeat(5_000)]];
  assert.notEqual(read(heads, long).facts, read(heads, long).facts);
});
