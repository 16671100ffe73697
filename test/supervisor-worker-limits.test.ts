import assert from 'node:assert/strict';
import test from 'node:test';
import { resources, warnOfLimits, workerLimits } from '../src/supervisor/worker-limits.ts';
import { memoryLog } from './support/certificate-files.ts';

const gigabyte = 1024 ** 3;
const limits = { connections: 'auto' as const, handshakes: 4000, connectionsPerAddress: undefined };

test('auto: half of the memory, as far as the descriptors of each worker reach', () => {
  const at = (descriptors: number, memory: number, workers = 2) => workerLimits(limits, { workers, descriptors, memory }).connections;
  assert.equal(at(1_048_576, gigabyte), 2048);
  assert.equal(at(1_048_576, 16 * gigabyte), 32_768);
  assert.equal(at(65_536, 64 * gigabyte), 32_704, 'LimitNOFILE of the systemd unit');
  assert.equal(at(1024, 64 * gigabyte), 448);
  assert.equal(at(64, gigabyte), 1, 'a limit that is good for nothing');
});

test('what is set is divided among the workers; half of it at most are handshakes', () => {
  const machine = { workers: 4, descriptors: 65_536, memory: gigabyte };
  assert.deepEqual(workerLimits({ ...limits, connections: 10_000, connectionsPerAddress: 7 }, machine), {
    connections: 2500,
    handshakes: 1000,
    connectionsPerAddress: 7,
  });
  assert.deepEqual(workerLimits({ ...limits, connections: 10 }, machine), { connections: 3, handshakes: 1, connectionsPerAddress: undefined });
  assert.equal(workerLimits({ ...limits, connections: 1_000_000 }, machine).connections, 32_704, 'never more than there are descriptors');
});

test('a setting that the descriptors do not carry is said to be lowered', () => {
  const lowered = (connections: 'auto' | number): unknown[] => {
    const log = memoryLog();
    warnOfLimits({ ...limits, connections }, { workers: 2, descriptors: 1024, memory: gigabyte }, log);
    return log.lines.map(({ code, message }) => [code, /to (\d+)/.exec(message)?.[1]]);
  };
  assert.deepEqual(lowered(100_000), [['connection_limit_lowered', '896']]);
  assert.deepEqual([lowered(896), lowered('auto')], [[], []]);
});

test('the machine is asked', () => {
  const { workers, descriptors, memory } = resources(0);
  assert.equal(workers, 1);
  assert.ok(descriptors >= 256 && memory > 64 * 1024 ** 2);
});
