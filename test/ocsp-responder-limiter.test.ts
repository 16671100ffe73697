import assert from 'node:assert/strict';
import test from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { Limiter } from '../src/ocsp/limiter.ts';
import { VirtualClock } from './support/virtual-clock.ts';

const outage = new Error('down');

/** A limiter whose tasks end when the test says so. */
function scene({ perSecond = 1000, burst = 1000 } = {}) {
  const clock = new VirtualClock();
  const limiter = new Limiter({ perResponder: 2, overall: 16, perSecond, burst, sickAfter: 3, isOutage: (error) => error === outage, clock });
  const running: { name: string; end: () => void; fail: (error: Error) => void }[] = [];
  const failed: string[] = [];
  const ask = (name: string, { signal = new AbortController().signal, urgent = false } = {}): void => {
    const task = () =>
      new Promise<void>((resolve, reject) => {
        const one = { name, end: () => finish(resolve), fail: (error: Error) => finish(() => reject(error)) };
        const finish = (settle: () => void): void => {
          running.splice(running.indexOf(one), 1);
          settle();
        };
        running.push(one);
      });
    limiter.run(name, task, { signal, urgent }).catch((error: Error) => failed.push(`${name}: ${error.message}`));
  };
  const names = (): string[] => running.map(({ name }) => name).sort();
  /** Lets one task of this name end, and what follows from it happen. */
  const end = async (name: string, error?: Error): Promise<void> => {
    const one = running.find((task) => task.name === name);
    assert.ok(one, `${name} is not running`);
    if (error) one.fail(error);
    else one.end();
    await setImmediate();
  };
  return { ask, end, names, failed, clock, limiter };
}

test('a responder gets one question until it has answered, then two at a time', async () => {
  const { ask, end, names } = scene();
  for (let i = 0; i < 5; i += 1) ask('a');
  assert.deepEqual(names(), ['a']);
  await end('a');
  assert.deepEqual(names(), ['a', 'a']);
  await end('a');
  assert.deepEqual(names(), ['a', 'a']);
});

test('a responder that hangs holds up nobody else', async () => {
  const { ask, end, names } = scene();
  for (let i = 0; i < 100; i += 1) ask('hangs');
  for (let i = 0; i < 3; i += 1) ask('works');
  assert.deepEqual(names(), ['hangs', 'works']);
  for (let i = 0; i < 3; i += 1) await end('works');
  assert.deepEqual(names(), ['hangs']);
});

test('many that hang leave a quarter of the places to those that answer', async () => {
  const { ask, end, names } = scene();
  ask('works');
  await end('works');
  for (let i = 0; i < 40; i += 1) ask(`hangs ${i}`);
  assert.equal(names().length, 12);
  ask('works');
  ask('works');
  assert.equal(names().filter((name) => name === 'works').length, 2);
});

test('never more than 16 at a time, and queues take turns', async () => {
  const { ask, end, names } = scene();
  const responders = Array.from({ length: 12 }, (_, i) => `r${i}`);
  for (const name of responders) {
    ask(name);
    await end(name);
  }
  for (let i = 0; i < 4; i += 1) for (const name of responders) ask(name);
  assert.equal(names().length, 16);
  for (const name of responders) assert.ok(names().includes(name), name);
});

test('three outages in a row are the answer for all who wait; then one question at a time finds out', async () => {
  const { ask, end, names, failed } = scene();
  for (let i = 0; i < 10; i += 1) ask('a');
  await end('a', outage);
  await end('a', outage);
  assert.equal(failed.length, 2);
  await end('a', outage);
  assert.equal(failed.length, 10);
  assert.deepEqual(names(), []);

  ask('a');
  ask('a');
  assert.deepEqual(names(), ['a']);
  await end('a');
  ask('a');
  assert.deepEqual(names(), ['a', 'a']);
});

test('an error about one certificate says nothing about the responder', async () => {
  const { ask, end, names, failed } = scene();
  for (let i = 0; i < 6; i += 1) ask('a');
  for (let i = 0; i < 4; i += 1) await end('a', new Error('unauthorized'));
  assert.equal(failed.length, 4);
  assert.equal(names().length, 1);
});

test('who gives up while waiting is not started', async () => {
  const { ask, end, names, failed } = scene();
  const controller = new AbortController();
  ask('a');
  ask('a', { signal: controller.signal });
  controller.abort(new Error('closed'));
  await end('a');
  assert.deepEqual([names(), failed], [[], ['a: closed']]);
});

test('after a burst all responders together are asked at a pace, however fast they answer', async () => {
  const { ask, end, names, clock, limiter } = scene({ perSecond: 10, burst: 3 });
  const responders = Array.from({ length: 8 }, (_, i) => `r${i}`);
  for (const name of responders) ask(name);
  assert.deepEqual([names(), limiter.waiting], [['r0', 'r1', 'r2'], 5]);
  for (const name of names()) await end(name);
  assert.deepEqual(names(), []);
  clock.advance(99);
  assert.deepEqual(names(), []);
  clock.advance(1);
  assert.deepEqual(names(), ['r3']);
  clock.advance(250);
  assert.deepEqual(names(), ['r3', 'r4', 'r5']);
  for (const name of names()) await end(name);
  clock.advance(10_000);
  assert.deepEqual([names(), limiter.waiting], [['r6', 'r7'], 0]);
  for (const name of names()) await end(name);
  for (const name of responders) ask(name);
  assert.equal(names().length, 3, 'quiet saves up one burst, no more');
});

test('urgent questions come before the others, in their order', async () => {
  const { ask, end, names, limiter } = scene();
  ask('a');
  const order: string[] = [];
  const wait = (label: string, urgent: boolean) =>
    void limiter.run('a', () => Promise.resolve(order.push(label)), { signal: new AbortController().signal, urgent });
  wait('plain', false);
  wait('urgent 1', true);
  wait('urgent 2', true);
  assert.deepEqual(names(), ['a']);
  await end('a');
  assert.deepEqual(order, ['urgent 1', 'urgent 2', 'plain']);
});

test('a limiter that is closed admits nobody who waits for the pace', async () => {
  const { ask, end, names, clock, limiter } = scene({ perSecond: 10, burst: 1 });
  ask('a');
  ask('b');
  await end('a');
  limiter.close();
  assert.equal(clock.next, undefined, 'no timer keeps the process alive');
  clock.advance(10_000);
  assert.deepEqual(names(), []);
});
