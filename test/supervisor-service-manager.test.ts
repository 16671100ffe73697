import assert from 'node:assert/strict';
import test from 'node:test';
import { activatedSockets } from '../src/supervisor/service-manager.ts';

test('sockets of the service manager by name, for this process only; the variables are gone', () => {
  const cases: [environment: NodeJS.ProcessEnv, expected: [string, number[]][]][] = [
    [
      { LISTEN_PID: '7', LISTEN_FDS: '2', LISTEN_FDNAMES: 'https:http' },
      [
        ['https', [3]],
        ['http', [4]],
      ],
    ],
    // systemd.socket(5): the sockets of one unit share its FileDescriptorName=.
    [
      { LISTEN_PID: '7', LISTEN_FDS: '3', LISTEN_FDNAMES: 'web:http:web' },
      [
        ['web', [3, 5]],
        ['http', [4]],
      ],
    ],
    [
      { LISTEN_PID: '7', LISTEN_FDS: '2' },
      [
        ['0', [3]],
        ['1', [4]],
      ],
    ],
    [{ LISTEN_PID: '8', LISTEN_FDS: '1', LISTEN_FDNAMES: 'https' }, []],
    [{ LISTEN_FDS: '1', LISTEN_FDNAMES: 'https' }, []],
    [{ LISTEN_PID: '7', LISTEN_FDS: 'many' }, []],
    [{ LISTEN_PID: '7', LISTEN_FDS: '-1' }, []],
    [{}, []],
  ];
  for (const [environment, expected] of cases) {
    const given = JSON.stringify(environment);
    assert.deepEqual([...activatedSockets(environment, 7)], expected, given);
    assert.deepEqual(environment, {}, given);
  }
});
