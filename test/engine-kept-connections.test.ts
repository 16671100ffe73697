import assert from 'node:assert/strict';
import test from 'node:test';
import { answering, type RawConnection } from './support/backend.ts';
import { LeapingClock } from './support/clock.ts';
import { configOf } from './support/config.ts';
import { both, startFront } from './support/front.ts';

/** How long connections to backends are kept: never as long as the backend keeps them. */

const GET = 'GET / HTTP/1.1\r\nHost: a.test\r\n\r\n';
const isGone = ({ ended, socket }: RawConnection): boolean => ended || socket.destroyed;

const limits: [said: string, ms: number][] = [
  ['', 4_000],
  ['Keep-Alive: timeout=60, max=100\r\n', 4_000],
  ['Keep-Alive: timeout=5\r\n', 4_000],
  ['Keep-Alive: max=7, timeout=3\r\n', 2_000],
];

for (const [said, ms] of limits) {
  test(`a backend that says ${JSON.stringify(said.trim())} finds its connection idle for ${ms} ms at most`, { timeout: 10_000 }, async (t) => {
    const clock = new LeapingClock(t);
    const backend = await answering('ok', said).listen(t);
    const front = await startFront(t, configOf({ backends: [backend.url] }));
    for (let n = 0; n < 3; n += 1) {
      assert.equal((await front.ask(GET)).body, 'ok');
      await clock.leap(front, ms / 2);
    }
    assert.equal(backend.connections.length, 1, 'each request begins the time anew');
    await clock.leap(front, ms / 2);
    await backend.until((connections) => connections.every(isGone));
    assert.equal((await front.ask(GET)).body, 'ok');
    assert.equal(backend.connections.length, 2);
  });
}

both('a connection that the backend keeps for a second only is not kept', async (t, engine) => {
  for (const said of ['Keep-Alive: timeout=1\r\n', 'Keep-Alive: timeout=0\r\n', 'Connection: close\r\n']) {
    const backend = await answering('ok', said).listen(t);
    const front = await startFront(t, configOf({ engine, backends: [backend.url] }));
    for (let n = 1; n <= 2; n += 1) {
      assert.equal((await front.ask(GET)).body, 'ok');
      assert.equal(backend.connections.length, n);
      await backend.until((connections) => connections.every(isGone));
    }
  }
});
