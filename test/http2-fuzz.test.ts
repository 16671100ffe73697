import assert from 'node:assert/strict';
import test from 'node:test';
import { ConnectionError, ErrorCode } from '../src/http2/frames.ts';
import { HpackDecoder } from '../src/http2/hpack-decoder.ts';
import { decodeHuffman } from '../src/http2/huffman.ts';
import { headerBlockCase } from './fuzz/cases.ts';
import { Dice } from './fuzz/dice.ts';
import { headerBlocks } from './fuzz/hpack.ts';
import { seeded } from './support/random.ts';

function isCompressionError(error: unknown): boolean {
  return error instanceof ConnectionError && error.code === ErrorCode.COMPRESSION_ERROR;
}

test('generated header blocks: what nghttp2 reads we read alike, and what it refuses, we refuse', async () => {
  let alike = 0;
  let leftOut = 0;
  for (let number = 0; number < 2_000; number += 1) {
    const { text, finding, rule, ...verdict } = await headerBlockCase(number);
    assert.equal(finding, undefined, `case ${number}: ${text}`);
    alike += verdict.alike;
    if (rule !== undefined) leftOut += 1;
  }
  assert.ok(alike > 3_000 && leftOut > 20, `${alike} alike, ${leftOut} with a field that nghttp2 leaves out`);
});

test('mutated blocks are decoded or refused, and give no more fields than they have bytes', () => {
  const random = seeded(9);
  let refused = 0;
  for (let number = 0; number < 20_000; number += 1) {
    const block = Buffer.concat(headerBlocks(new Dice(number)));
    for (let changes = number % 4; changes > 0; changes -= 1) block[Math.floor(random() * block.length)] = Math.floor(random() * 256);
    try {
      const { fields } = new HpackDecoder().decode(block, 0, block.length, 65_536);
      assert.ok(fields.length <= block.length);
    } catch (error) {
      assert.ok(isCompressionError(error), String(error));
      refused += 1;
    }
  }
  assert.ok(refused > 5_000 && refused < 19_000, `${refused} refused`);
});

test('Huffman: any bytes are read, or refused as a wrong code', () => {
  const random = seeded(10);
  for (let n = 0; n < 20_000; n += 1) {
    const bytes = Buffer.from(Array.from({ length: Math.floor(random() * 20) }, () => Math.floor(random() * 256)));
    try {
      assert.ok(decodeHuffman(bytes, 0, bytes.length).length <= (bytes.length * 8) / 5);
    } catch (error) {
      assert.ok(isCompressionError(error), String(error));
    }
  }
});
