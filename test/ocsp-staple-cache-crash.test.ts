import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readdir } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import test from 'node:test';
import { StapleCache } from '../src/ocsp/staple-cache.ts';
import { temporaryFolder } from './support/program.ts';
import { recordedLog } from './support/stapling.ts';

const keys = ['a', 'b', 'c'].map((letter) => ({ fingerprint: letter.repeat(64), issuerFingerprint: '0'.repeat(64) }));

/** Writes numbered responses, each with its checksum in front, until it is killed; says which are safe. */
const writer = `
  import { createHash } from 'node:crypto';
  import { StapleCache } from ${JSON.stringify(new URL('../src/ocsp/staple-cache.ts', import.meta.url))};
  const [, folder, start] = process.argv;
  const cache = new StapleCache(folder, console);
  await cache.open();
  for (let number = Number(start); ; number += 1) {
    for (const [i, key] of ${JSON.stringify(keys)}.entries()) {
      const body = Buffer.alloc(100 + number * 797 % 20000, String(number).padStart(8, '0'));
      await cache.storeResponse(key, Buffer.concat([createHash('sha256').update(body).digest(), body]));
      await cache.storeRecord(key, { name: String(number), failures: 0 });
      console.log(i + ' ' + number);
    }
  }`;

test('killed in the middle of writing, again and again, nothing is lost or damaged', async () => {
  await using folder = await temporaryFolder();
  const safe = [-1, -1, -1];
  for (let round = 0; round < 20; round += 1) {
    const args = ['--input-type=module', '-e', writer, '--', folder.path, String(Math.max(...safe) + 1)];
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    let lines = 0;
    for await (const line of createInterface({ input: child.stdout })) {
      const [index, number] = line.split(' ').map(Number) as [number, number];
      safe[index] = number;
      lines += 1;
      // At another point of the work in every round.
      if (lines === 1 + round) child.kill('SIGKILL');
    }
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
    assert.equal(child.signalCode, 'SIGKILL');

    const log = recordedLog();
    const cache = new StapleCache(folder.path, log);
    await cache.open();
    for (const [i, key] of keys.entries()) {
      if (safe[i] === -1) continue;
      const { der, record } = await cache.load(key, 65_536);
      assert.ok(der, `response ${i} is lost in round ${round}`);
      assert.deepEqual(der.subarray(0, 32), createHash('sha256').update(der.subarray(32)).digest(), 'damaged');
      assert.ok(Number(der.subarray(32, 40)) >= safe[i]!, `an older response came back in round ${round}`);
      assert.ok(Number(record?.name) >= safe[i]!);
    }
    assert.deepEqual(log.lines, []);
    await cache.close();
    assert.deepEqual(
      (await readdir(folder.path)).filter((name) => !/^[abc]{64}-0{64}\.(der|json)$/.test(name)),
      [],
    );
  }
});
