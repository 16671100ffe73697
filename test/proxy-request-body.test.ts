import assert from 'node:assert/strict';
import test from 'node:test';
import { RequestBody } from '../src/proxy/request-body.ts';

/** How long a client may take for a request body: times in ms, made up. */

const pace = { pause: 60_000, rate: 500 };

/** Sends `bytes` every `every` ms. @returns when the client is cut; undefined when it has sent `pieces` */
function cutAt({ bytes, every, pieces = 1_000, rate = 500 }: { bytes: number; every: number; pieces?: number; rate?: number }): number | undefined {
  const body = new RequestBody({ ...pace, rate }, false, false);
  const written: Buffer[] = [];
  const backend = { write: (piece: Buffer) => written.push(piece) > 0 } as unknown as Parameters<RequestBody['add']>[2];
  for (let now = 0; written.length < pieces; now += every) {
    const deadline = body.deadline(now);
    // Whatever else happens while the client is awaited gives it no more time.
    assert.equal(body.deadline(now + every / 2), deadline);
    if (deadline < now + every) return deadline;
    body.add(Buffer.alloc(bytes), undefined, backend, now + every);
  }
  return undefined;
}

test('a pause is as long as it may be', () => {
  assert.equal(cutAt({ bytes: 1_000_000, every: 60_000 }), undefined);
  assert.equal(cutAt({ bytes: 1_000_000, every: 60_001 }), 60_000);
});

test('a client that sends one byte after the other ends', () => {
  const at = cutAt({ bytes: 1, every: 1_000 });
  assert.ok(at !== undefined && at > 60_000 && at < 61_000, String(at));
  assert.equal(cutAt({ bytes: 1, every: 50_000 }), 60_002);
});

test('a client that keeps the rate does not', () => {
  assert.equal(cutAt({ bytes: 500, every: 1_000 }), undefined);
  assert.notEqual(cutAt({ bytes: 499, every: 1_000, pieces: 100_000 }), undefined);
});

test('much at once buys no more than one pause', () => {
  assert.equal(cutAt({ bytes: 100_000_000, every: 61_000 }), 60_000);
});

test('a rate of 0 leaves it at pauses', () => {
  assert.equal(cutAt({ bytes: 1, every: 59_999, rate: 0 }), undefined);
});

test('while the backend takes no more, the client is not to blame', () => {
  const body = new RequestBody(pace, false, false);
  const full = { write: () => false } as unknown as Parameters<RequestBody['add']>[2];
  assert.equal(body.deadline(0), 60_000);
  assert.equal(body.add(Buffer.alloc(1), undefined, full, 30_000), false);
  assert.equal(body.awaitsClient, false);
  body.isBlocked = false;
  assert.equal(body.deadline(1_000_000), 1_030_002, 'half of the patience is left');
});

test('the error names the setting that decided', () => {
  const body = new RequestBody(pace, false, false);
  assert.equal(body.late().facts['setting'], 'timeouts.request_body');
  body.deadline(0);
  body.add(Buffer.alloc(1), undefined, undefined, 30_000);
  assert.equal(body.late().facts['setting'], 'limits.request_body_rate');
});

test('what a backend was given can be given to another one, once, as long as it is all and little', () => {
  const given = (isKept: boolean, ...pieces: number[]): [isBack: boolean, lengths: number[], end: boolean, again: boolean] => {
    const body = new RequestBody(pace, false, isKept);
    const backend = { write: () => true, end: () => {} } as unknown as Parameters<RequestBody['send']>[0];
    for (const bytes of pieces) body.add(Buffer.alloc(bytes), undefined, backend, 0);
    const isBack = body.takeBack();
    // It waits for another backend meanwhile.
    assert.equal(body.add(Buffer.alloc(1), undefined, undefined, 0), false);
    body.end([]);
    const lengths: number[] = [];
    let isEnded = false;
    const other = { write: (piece: Buffer) => lengths.push(piece.length) > 0, end: () => (isEnded = true) } as unknown as Parameters<RequestBody['send']>[0];
    body.send(other);
    return [isBack, lengths, isEnded, body.takeBack()];
  };
  assert.deepEqual(given(true, 10_000, 6_384), [true, [10_000, 6_384, 1], true, false]);
  assert.deepEqual(given(true), [true, [1], true, false]);
  assert.deepEqual(given(true, 10_000, 6_385), [false, [1], true, false]);
  const single = Array.from({ length: 64 }, () => 1);
  assert.equal(given(true, ...single)[0], true);
  assert.equal(given(true, ...single, 1)[0], false, 'pieces cost more than their bytes');
  assert.deepEqual(given(false, 1), [false, [1], true, false]);
});

test('what is kept of a piece that is given back is a copy', () => {
  const body = new RequestBody(pace, false, true);
  const sent: string[] = [];
  const backend = { write: (piece: Buffer) => sent.push(piece.toString()) > 0 } as unknown as Parameters<RequestBody['send']>[0];
  const piece = Buffer.from('first');
  body.add(piece, () => {}, backend, 0);
  piece.fill('x');
  body.takeBack();
  body.send(backend);
  assert.deepEqual(sent, ['first', 'first']);
});
