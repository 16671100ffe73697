import assert from 'node:assert/strict';
import { EventEmitter, once } from 'node:events';
import test from 'node:test';
import type { SnapshotUpdate } from '../src/snapshot.ts';
import { StapleBatch } from '../src/supervisor/staple-batch.ts';

const staple = { der: Buffer.from('staple'), validUntil: 1 };

test('a staple goes to the workers at once; in a storm many go together, the newest of each certificate', async () => {
  const sent = new EventEmitter<{ update: [SnapshotUpdate] }>();
  let storm = false;
  const batch = new StapleBatch({ isStorming: () => storm, send: (update) => void sent.emit('update', update) });
  let single: SnapshotUpdate | undefined;
  sent.once('update', (update) => (single = update));
  batch.add('a', staple);
  assert.deepEqual(single, { type: 'staples', staples: new Map([['a', staple]]) });

  storm = true;
  const together = once(sent, 'update');
  batch.add('a', undefined);
  batch.add('b', undefined);
  batch.add('b', staple);
  assert.deepEqual(await together, [
    {
      type: 'staples',
      staples: new Map([
        ['a', undefined],
        ['b', staple],
      ]),
    },
  ]);

  const last = once(sent, 'update');
  batch.add('c', staple);
  storm = false;
  batch.add('d', staple);
  const [update] = (await last) as [Extract<SnapshotUpdate, { type: 'staples' }>];
  assert.deepEqual([...update.staples.keys()], ['c', 'd'], 'what waited goes with the first that need not');
  batch.close();
});
