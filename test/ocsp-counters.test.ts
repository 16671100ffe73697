import assert from 'node:assert/strict';
import test from 'node:test';
import { countQuestion, type StaplingCounters } from '../src/ocsp/counters.ts';

const ask = (counters: StaplingCounters, url: string, result = 'good') => countQuestion(counters, { url, result, bytes: 10, milliseconds: 3 });

test('questions are counted by origin and result', () => {
  const counters: StaplingCounters = { updates: 0, cacheWriteFailures: 0, responders: {} };
  ask(counters, 'http://a.example/one');
  ask(counters, 'http://a.example/two?x', 'responder_timeout');
  ask(counters, 'http://a.example:8080/');
  ask(counters, 'nonsense');
  assert.deepEqual(counters.responders, {
    'http://a.example': { results: { good: 1, responder_timeout: 1 }, bytes: 20, milliseconds: 6 },
    'http://a.example:8080': { results: { good: 1 }, bytes: 10, milliseconds: 3 },
    others: { results: { good: 1 }, bytes: 10, milliseconds: 3 },
  });
});

test('however many responders certificates name, the counters stay small', () => {
  const counters: StaplingCounters = { updates: 0, cacheWriteFailures: 0, responders: {} };
  for (let i = 0; i < 1500; i += 1) ask(counters, `http://${i}.example/`);
  ask(counters, 'http://7.example/');
  assert.equal(Object.keys(counters.responders).length, 1001);
  assert.equal(counters.responders['others']?.results['good'], 500);
  assert.equal(counters.responders['http://7.example']?.results['good'], 2);
});
