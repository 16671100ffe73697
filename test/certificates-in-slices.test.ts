import assert from 'node:assert/strict';
import test from 'node:test';
import { inSlices } from '../src/certificates/in-slices.ts';

test('every item is worked on, in order, and events are handled in between', { timeout: 20_000 }, async () => {
  const seen: number[] = [];
  let handled = 0;
  const timer = setInterval(() => (handled += 1), 1);
  await inSlices([1, 2, 3, 4], (item) => {
    seen.push(item);
    const end = performance.now() + 15;
    while (performance.now() < end);
  });
  clearInterval(timer);
  assert.deepEqual(seen, [1, 2, 3, 4]);
  assert.ok(handled >= 3, `${handled} events were handled`);
});

test('what fails ends it', async () => {
  await assert.rejects(
    inSlices([1], () => {
      throw new Error('broken');
    }),
    /broken/,
  );
});
