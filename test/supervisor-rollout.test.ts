import assert from 'node:assert/strict';
import { EventEmitter, once } from 'node:events';
import test from 'node:test';
import type { Certificate } from '../src/certificates/certificate.ts';
import { encodePem } from '../src/certificates/pem.ts';
import type { VirtualHost } from '../src/config/schema.ts';
import type { CertificateInUse } from '../src/ocsp/staple-status.ts';
import type { ServableStaple } from '../src/snapshot.ts';
import { Rollout, type RolloutOptions } from '../src/supervisor/rollout.ts';
import { configOf, type Keys } from './support/config.ts';
import { recordedLog } from './support/stapling.ts';

/** The time of these tests; only they move it. */
const start = 1_000_000;
const hour = 3_600_000;
const timeout = 10_000;

/** Stands in for the Stapler: no responder, no disk; tests say when an attempt ends and what came of it. */
class StandInStapler {
  entries: readonly CertificateInUse[] = [];
  readonly waits: { fingerprint: string; timeout: number; insisting?: true }[] = [];
  readonly #staples = new Map<string, ServableStaple>();
  readonly #attempts = new Map<string, PromiseWithResolvers<void> & { ended: boolean }>();

  get fingerprints(): string[] {
    return this.entries.map(({ certificate }) => certificate.fingerprint);
  }

  /** How often it was given all entries. */
  told = 0;

  setCertificates(entries: readonly CertificateInUse[]): void {
    this.told += 1;
    this.entries = entries;
  }

  current(fingerprint: string): ServableStaple | undefined {
    return this.#staples.get(fingerprint);
  }

  settled(fingerprint: string, milliseconds: number): Promise<void> {
    this.waits.push({ fingerprint, timeout: milliseconds });
    return this.#attempt(fingerprint).promise;
  }

  firstStaple(fingerprint: string, milliseconds: number): Promise<void> {
    this.waits.push({ fingerprint, timeout: milliseconds, insisting: true });
    return this.#attempt(fingerprint).promise;
  }

  isSettled(fingerprint: string): boolean {
    return this.#attempt(fingerprint).ended;
  }

  /** The first attempt ends, with a staple or without; or the time of whoever waits for it is over. */
  end(fingerprint: string, outcome: 'staple' | 'nothing' | 'timeout'): void {
    if (outcome === 'staple') this.#staples.set(fingerprint, stapleOf(fingerprint));
    const attempt = this.#attempt(fingerprint);
    attempt.ended = outcome !== 'timeout';
    attempt.resolve();
  }

  #attempt(fingerprint: string): PromiseWithResolvers<void> & { ended: boolean } {
    const known = this.#attempts.get(fingerprint) ?? { ...Promise.withResolvers<void>(), ended: false };
    this.#attempts.set(fingerprint, known);
    return known;
  }
}

function stapleOf(fingerprint: string): ServableStaple {
  return { der: Buffer.from(fingerprint), validUntil: start + hour };
}

/** As much of a certificate as a rollout looks at. */
function certificate(fingerprint: string, { mustStaple = false, notAfter = start + hour, file = `${fingerprint}.pem` } = {}): Certificate {
  const source = { certificate: file, key: `${fingerprint}.key` };
  const served = { leaf: { raw: Buffer.from(fingerprint) }, intermediates: ['issuer'], keyPem: `key of ${fingerprint}` };
  return { fingerprint, mustStaple, notAfter, source, keyType: 'ecdsa', ...served } as Partial<Certificate> as Certificate;
}

function virtualHosts(names: string[], ocsp: Keys = {}): VirtualHost[] {
  const certificates = [{ certificate: 'a.pem', key: 'a.key' }];
  const hosts = names.map((name) => ({ server_name: name, certificates, backends: ['http://127.0.0.1:1'] }));
  return configOf({}, { ocsp: { timeout: `${timeout}ms`, ...ocsp }, virtual_hosts: hosts }).virtualHosts;
}

/** a.test serves `old`, with its staple. */
async function begun({ ocsp = {}, old = certificate('old') }: { ocsp?: Keys; old?: Certificate } = {}) {
  const stapler = new StandInStapler();
  const log = recordedLog();
  const switched: string[] = [];
  const time = { now: start };
  const options: RolloutOptions = { stapler, log, now: () => time.now, onSwitch: (names) => void switched.push(...names) };
  const made = new Rollout(options);
  made.setVirtualHosts(virtualHosts(['a.test'], ocsp));
  stapler.end('old', 'staple');
  await made.begin(new Map([['a.test', [old]]]), 0);
  switched.length = 0;
  const serving = (name = 'a.test') => made.certificates(name).map(({ fingerprint }) => fingerprint);
  return { rollout: made, stapler, log, switched, time, serving };
}

test('at the start each virtual host is awaited until its staples had their chance, and by no other', async () => {
  const stapler = new StandInStapler();
  const sent = new EventEmitter<{ switched: [readonly string[]] }>();
  const made = new Rollout({ stapler, log: recordedLog(), now: () => start, onSwitch: (names) => void sent.emit('switched', names) });
  made.setVirtualHosts(virtualHosts(['a.test', 'b.test', 'c.test']));
  assert.deepEqual(made.awaited, ['a.test', 'b.test', 'c.test'], 'nothing has been read yet');
  const beginning = made.begin(
    new Map([
      ['a.test', [certificate('demanding', { mustStaple: true })]],
      ['b.test', [certificate('plain')]],
      ['c.test', []],
    ]),
    7_000,
  );
  assert.deepEqual(stapler.fingerprints, ['demanding', 'plain']);
  assert.deepEqual(stapler.waits, [
    { fingerprint: 'demanding', timeout: 7_000, insisting: true },
    { fingerprint: 'plain', timeout: 2_000 },
  ]);
  stapler.end('plain', 'staple');
  assert.deepEqual(await once(sent, 'switched'), [['c.test', 'b.test']], 'what is ready does not wait for what is not');
  assert.deepEqual(made.awaited, ['a.test']);
  assert.deepEqual(
    made.inService().identities.map(({ virtualHost, fingerprint }) => [virtualHost, fingerprint]),
    [['b.test', 'plain']],
    'what a worker gets that is started now',
  );
  stapler.end('demanding', 'timeout');
  const [last] = (await Promise.all([once(sent, 'switched'), beginning]))[0] as [string[]];
  assert.deepEqual([last, made.awaited], [['a.test'], []]);
  const { identities, staples } = made.inService();
  assert.deepEqual(
    identities.map(({ virtualHost, fingerprint }) => [virtualHost, fingerprint]),
    [
      ['b.test', 'plain'],
      ['a.test', 'demanding'],
    ],
  );
  assert.deepEqual([...staples], [['plain', stapleOf('plain')]]);
});

test('a renewed certificate switches together with its staple', async () => {
  const { rollout, stapler, switched, serving } = await begun();
  const proposed = rollout.propose(new Map([['a.test', [certificate('new')]]]));
  assert.deepEqual(stapler.fingerprints, ['old', 'new'], 'the new one is fetched for, the old one still cared for');
  rollout.review();
  assert.deepEqual(serving(), ['old']);
  stapler.end('new', 'staple');
  await proposed;
  assert.deepEqual(switched, ['a.test']);
  const { identities, staples } = rollout.inService(['a.test']);
  assert.deepEqual(
    identities.map(({ certificate: leaf, intermediates, key }) => [leaf, intermediates, key]),
    [[encodePem('CERTIFICATE', Buffer.from('new')), ['issuer'], 'key of new']],
  );
  assert.deepEqual([...staples], [['new', stapleOf('new')]]);
  assert.deepEqual(stapler.fingerprints, ['new'], 'nobody asks for the old one any more');
});

test('a certificate that need not be stapled switches once its first attempt has failed', async () => {
  const { rollout, stapler, switched, serving } = await begun();
  const proposed = rollout.propose(new Map([['a.test', [certificate('new')]]]));
  stapler.end('new', 'nothing');
  await proposed;
  assert.deepEqual([serving(), switched], [['new'], ['a.test']]);
});

test('a responder that hangs holds a switch up for ocsp.timeout, not longer', async () => {
  const { rollout, stapler, time, serving } = await begun();
  const proposed = rollout.propose(new Map([['a.test', [certificate('new')]]]));
  assert.deepEqual(stapler.waits.at(-1), { fingerprint: 'new', timeout });
  time.now += timeout - 1;
  rollout.review();
  assert.deepEqual(serving(), ['old']);
  time.now += 1;
  stapler.end('new', 'timeout');
  await proposed;
  assert.deepEqual(serving(), ['new']);
});

test('must-staple (RFC 7633): the old certificate serves until the staple of the new one is here; said once', async () => {
  const { rollout, stapler, log, time, switched, serving } = await begun();
  const proposed = rollout.propose(new Map([['a.test', [certificate('new', { mustStaple: true })]]]));
  stapler.end('new', 'nothing');
  await proposed;
  time.now += 3 * timeout;
  rollout.review();
  rollout.review();
  assert.deepEqual([serving(), switched], [['old'], []]);
  assert.deepEqual(
    log.of('warn').map(({ facts }) => facts),
    [{ code: 'awaiting_staple', virtual_host: 'a.test', file: 'new.pem' }],
  );
  stapler.end('new', 'staple');
  rollout.review();
  assert.deepEqual([serving(), switched], [['new'], ['a.test']]);
});

test('must-staple: when the old certificate runs out, the new one serves without its staple', async () => {
  const { rollout, stapler, time, serving } = await begun({ old: certificate('old', { notAfter: start + hour }) });
  const proposed = rollout.propose(new Map([['a.test', [certificate('new', { mustStaple: true })]]]));
  stapler.end('new', 'nothing');
  await proposed;
  time.now = start + hour - 1;
  rollout.review();
  assert.deepEqual(serving(), ['old']);
  time.now = start + hour;
  rollout.review();
  assert.deepEqual(serving(), ['new']);
});

test('nothing is waited for where stapling is off', async () => {
  const { rollout, stapler, serving } = await begun({ ocsp: { stapling: false } });
  const proposed = rollout.propose(new Map([['a.test', [certificate('new', { mustStaple: true })]]]));
  rollout.review();
  assert.deepEqual(serving(), ['new']);
  stapler.end('new', 'nothing');
  await proposed;
});

test('two key types switch together, when both are ready', async () => {
  const { rollout, stapler, serving } = await begun();
  const proposed = rollout.propose(new Map([['a.test', [certificate('ecdsa', { mustStaple: true }), certificate('rsa', { mustStaple: true })]]]));
  stapler.end('rsa', 'staple');
  stapler.end('ecdsa', 'nothing');
  await proposed;
  assert.deepEqual(serving(), ['old']);
  stapler.end('ecdsa', 'staple');
  rollout.review();
  assert.deepEqual(serving(), ['ecdsa', 'rsa']);
});

test('the same certificates again, read anew, are no switch, and take back a proposal that waits', async () => {
  const { rollout, stapler, switched, serving } = await begun();
  const proposed = rollout.propose(new Map([['a.test', [certificate('new')]]]));
  // Every reload reads the files again: other objects, the same bytes, perhaps under another name.
  await rollout.propose(new Map([['a.test', [certificate('old', { file: 'moved.pem' })]]]));
  assert.deepEqual(stapler.fingerprints, ['old']);
  stapler.end('new', 'staple');
  await proposed;
  assert.deepEqual([serving(), switched], [['old'], []]);
  assert.equal(rollout.certificates('a.test')[0]?.source.certificate, 'moved.pem', 'status names the file of today');
});

test('a second proposal takes the place of one that waits', async () => {
  const { rollout, stapler, switched, serving } = await begun();
  const first = rollout.propose(new Map([['a.test', [certificate('second', { mustStaple: true })]]]));
  const second = rollout.propose(new Map([['a.test', [certificate('third', { mustStaple: true })]]]));
  assert.deepEqual(stapler.fingerprints, ['old', 'third']);
  stapler.end('second', 'staple');
  await first;
  assert.deepEqual(serving(), ['old']);
  stapler.end('third', 'staple');
  await second;
  assert.deepEqual([serving(), switched], [['third'], ['a.test']]);
});

test('a virtual host that is removed while its certificate waits is forgotten', async () => {
  const { rollout, stapler, switched } = await begun();
  const proposed = rollout.propose(new Map([['a.test', [certificate('new')]]]));
  rollout.setVirtualHosts(virtualHosts(['b.test']));
  assert.deepEqual(stapler.entries, []);
  stapler.end('new', 'staple');
  await proposed;
  assert.deepEqual(switched, []);
  assert.deepEqual(rollout.inService(), { identities: [], staples: new Map() });
});

test('a virtual host without a certificate takes the first one at once', async () => {
  const { rollout, stapler, serving } = await begun();
  rollout.setVirtualHosts(virtualHosts(['a.test', 'b.test']));
  const proposed = rollout.propose(new Map([['b.test', [certificate('first', { mustStaple: true })]]]));
  rollout.review();
  assert.deepEqual(serving('b.test'), ['first']);
  stapler.end('first', 'nothing');
  await proposed;
});

test('a thousand virtual hosts switch together: the stapler is told of all certificates a few times, not for each', async () => {
  const names = Array.from({ length: 1_000 }, (_, i) => `n${i}.test`);
  const stapler = new StandInStapler();
  const switches: (readonly string[])[] = [];
  const made = new Rollout({ stapler, log: recordedLog(), now: () => start, onSwitch: (hosts) => void switches.push(hosts) });
  made.setVirtualHosts(virtualHosts(names));
  const having = (prefix: string) => new Map(names.map((name) => [name, [certificate(`${prefix} of ${name}`)]]));
  for (const name of names) stapler.end(`old of ${name}`, 'staple');
  await made.begin(having('old'), 0);
  const told = stapler.told;
  for (const name of names) stapler.end(`new of ${name}`, 'nothing');
  switches.length = 0;
  await made.propose(having('new'));
  assert.deepEqual(switches.flat(), names);
  assert.deepEqual([switches.length, stapler.told - told], [1, 2]);
});
