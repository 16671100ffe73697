import assert from 'node:assert/strict';
import test from 'node:test';
import { noConnections } from '../src/connection-counters.ts';
import { isHealthy, type Status, statusText } from '../src/admin/status.ts';
import type { StapleStatus } from '../src/ocsp/staple-status.ts';

const now = Date.UTC(2026, 10, 22, 12);
const hour = 3_600_000;

function statusWith(staple: Partial<StapleStatus>, changes: Partial<Status> = {}, problems: Status['virtualHosts'][number]['problems'] = []): Status {
  const base: StapleStatus = {
    fingerprint: 'ab',
    names: ['a.test'],
    mustStaple: false,
    state: 'good',
    serving: true,
    thisUpdate: now - 10 * hour,
    validUntil: now + 30 * hour,
    nextRefresh: now + 10 * hour,
    failures: 0,
  };
  return {
    version: '1.2.3',
    pid: 42,
    startedAt: now - 49 * hour,
    configuration: { file: '/etc/config.yaml', loadedAt: now - 90_000 },
    listeners: ['0.0.0.0:443 (https)'],
    connections: {
      ...noConnections(),
      accepted: 1234,
      handshakes: { full: { 'TLSv1.3': 900, 'TLSv1.2': 100 }, resumed: { 'TLSv1.3': 200 } },
      refused: { plain_http: 2, unrecognized_name: 20, handshake_abandoned: 11, handshake_failed: 1 },
      now: { open: 42, arriving: 1, contexts: 3 },
    },
    stapling: {
      updates: 12,
      cacheWriteFailures: 0,
      responders: {
        'http://r': { results: { good: 9, responder_timeout: 2 }, bytes: 2500, milliseconds: 20_000 },
        'http://s': { results: { good: 3 }, bytes: 800, milliseconds: 30 },
      },
    },
    virtualHosts: [
      {
        serverName: 'a.test',
        aliases: ['b.test'],
        certificates: [{ file: 'a.pem', keyType: 'ecdsa', fingerprint: 'ab', notAfter: now + 240 * hour, staple: { ...base, ...staple } }],
        problems,
      },
    ],
    ...changes,
  };
}

test('what a person reads', () => {
  const error = { code: 'responder_timeout', message: 'responder http://r/ timed out after 10 s (ocsp.timeout)', at: now - 5_000 };
  const text = statusText(
    statusWith({ state: 'failing', lastError: error }, {}, [{ severity: 'error', code: 'key_mismatch', message: 'b.key does not fit' }]),
    now,
  );
  assert.deepEqual(text.split('\n'), [
    'Staplegate 1.2.3, process 42, running for 2 d',
    '/etc/config.yaml, loaded 90 s ago',
    'listening on 0.0.0.0:443 (https)',
    '42 open of 1234 connections; handshakes: 1000 full, 200 resumed, 34 refused (unrecognized_name 20, handshake_abandoned 11, plain_http 2, …)',
    '12 OCSP updates; responders asked 14 times (good 12, responder_timeout 2)',
    '',
    'a.test b.test',
    '  ecdsa   valid for 10 d, STAPLE FAILING, for 30 h, next refresh in 10 h  (a.pem)',
    '          last error 5 s ago: responder http://r/ timed out after 10 s (ocsp.timeout)',
    '  ERROR: b.key does not fit',
  ]);
  const quiet = statusWith({}, { stapling: { updates: 0, cacheWriteFailures: 3, responders: {} } });
  assert.match(statusText(quiet, now), /^0 OCSP updates; responders asked 0 times; 3 writes to the disk cache FAILED$/m);
  assert.match(statusText(statusWith({}, { configuration: { file: 'c', loadedAt: now, refused: 'c:1:1: x' } }), now), /NOT IN FORCE.*c:1:1: x/);
});

test('healthy: red before a staple runs out, not at the first failed refresh', () => {
  assert.equal(isHealthy(statusWith({}), now), true);
  assert.equal(isHealthy(statusWith({ state: 'failing' }), now), true, 'a quarter of the life is over');
  assert.equal(isHealthy(statusWith({ state: 'failing' }), now + 25 * hour), false, 'seven eighths are');
  assert.equal(isHealthy(statusWith({ state: 'failing', serving: false }), now), false);
  assert.equal(isHealthy(statusWith({ state: 'revoked' }), now), false);
  assert.equal(isHealthy(statusWith({ state: 'no_responder', serving: false }), now), true);
  assert.equal(isHealthy(statusWith({}, {}, [{ severity: 'warn', code: 'x', message: '' }]), now), true);
  assert.equal(isHealthy(statusWith({}, {}, [{ severity: 'error', code: 'x', message: '' }]), now), false);
  assert.equal(isHealthy(statusWith({}, { configuration: { file: 'c', loadedAt: now, refused: 'x' } }), now), false);
});
