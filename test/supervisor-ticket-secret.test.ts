import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { chmod, chown, mkdir, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type TestContext } from 'node:test';
import { decodeSecret, encodeSecret, isOver, TicketSecret } from '../src/supervisor/ticket-secret.ts';
import { folder, memoryLog } from './support/certificate-files.ts';

const hour = 3_600_000;
const rotation = 12 * hour;

/** The secret as one start of the program finds it, with what was logged. */
async function started(t: TestContext, directory: string, now = Date.now(), every = rotation) {
  const log = memoryLog();
  const changes: string[] = [];
  const tickets = new TicketSecret({ log, now: () => now, onChange: (secret) => changes.push(Buffer.from(secret).toString('hex')) });
  t.after(() => tickets.close());
  await tickets.open(directory, every);
  return { tickets, log, changes, secret: Buffer.from(tickets.current).toString('hex') };
}

test('a start finds the secret of the one before, in a file that only its owner can read', async (t) => {
  const directory = await folder(t);
  const first = await started(t, directory);
  assert.equal((await started(t, directory)).secret, first.secret);
  assert.equal((await stat(join(directory, 'ticket-secret'))).mode & 0o777, 0o600);
  assert.deepEqual(
    first.log.lines.filter(({ level }) => level !== 'debug'),
    [],
  );
});

test('an epoch is over after one rotation, however the clock came there', () => {
  const since = 1_800_000_000_000;
  assert.equal(isOver(since, rotation, since), false);
  assert.equal(isOver(since, rotation, since + rotation - 1), false);
  assert.equal(isOver(since, rotation, since + rotation), true);
  assert.equal(isOver(since, rotation, since + 30 * 24 * hour), true, 'a machine that slept');
  assert.equal(isOver(since, rotation, since - 5000), false, 'a clock that was corrected');
  assert.equal(isOver(since, rotation, since - rotation), true, 'a clock that was set back');
});

test('an epoch that is over leaves nothing of its secret on disk', async (t) => {
  const directory = await folder(t);
  const begun = 1_800_000_000_000;
  const old = await started(t, directory, begun);
  for (const now of [begun + rotation, begun + 40 * 24 * hour, begun - 5 * 24 * hour]) {
    const { secret, changes } = await started(t, directory, now);
    assert.notEqual(secret, old.secret);
    assert.deepEqual(changes, [secret]);
    assert.deepEqual(await readdir(directory), ['ticket-secret']);
    assert.equal((await readFile(join(directory, 'ticket-secret'))).includes(Buffer.from(old.secret, 'hex')), false);
  }
});

test('a running program rotates, with the new secret on disk before it is used', async (t) => {
  const directory = await folder(t);
  const seen: { used: string; kept: string | undefined }[] = [];
  const three = Promise.withResolvers<void>();
  const tickets = new TicketSecret({
    log: memoryLog(),
    onChange: (secret) => {
      const kept = decodeSecret(readFileSync(join(directory, 'ticket-secret')))?.secret.toString('hex');
      if (seen.push({ used: Buffer.from(secret).toString('hex'), kept }) === 3) three.resolve();
    },
  });
  await tickets.open(directory, 20);
  await three.promise;
  await tickets.close();
  for (const { used, kept } of seen) assert.equal(kept, used);
  assert.equal(new Set(seen.map(({ used }) => used)).size, seen.length);
});

const damages: Record<string, (content: Buffer) => Buffer> = {
  'a flipped bit of the secret': (content) => Buffer.from(content.map((byte, i) => (i === 40 ? byte ^ 1 : byte))),
  'a flipped bit of the time': (content) => Buffer.from(content.map((byte, i) => (i === 33 ? byte ^ 1 : byte))),
  'half of it': (content) => content.subarray(0, content.length / 2),
  'more than it': (content) => Buffer.concat([content, Buffer.of(0)]),
  nothing: () => Buffer.alloc(0),
  zeros: (content) => Buffer.alloc(content.length),
};

test('what is not exactly a secret is replaced, and said to be', async (t) => {
  const directory = await folder(t);
  const file = join(directory, 'ticket-secret');
  for (const [what, damage] of Object.entries(damages)) {
    const { secret } = await started(t, directory);
    const damaged = damage(await readFile(file));
    assert.equal(decodeSecret(damaged), undefined);
    await writeFile(file, damaged);
    const next = await started(t, directory);
    assert.notEqual(next.secret, secret, what);
    assert.deepEqual(next.log.lines.map(({ code }) => code).slice(0, 1), ['ticket_secret_refused'], what);
    assert.equal((await started(t, directory)).secret, next.secret);
    assert.equal(JSON.stringify(next.log.lines).includes(next.secret), false);
  }
});

const places: Record<string, (file: string) => Promise<unknown>> = {
  'readable for the group': (file) => chmod(file, 0o640),
  'writable for everybody': (file) => chmod(file, 0o602),
  'a link': async (file) => {
    await writeFile(`${file}.elsewhere`, await readFile(file), { mode: 0o600 });
    await rm(file);
    await symlink(`${file}.elsewhere`, file);
  },
  ...(process.geteuid?.() === 0 && { "another user's": (file: string) => chown(file, 4242, 4242) }),
};

test('a secret that others could read or choose is replaced', async (t) => {
  for (const [what, place] of Object.entries(places)) {
    const directory = await folder(t);
    const file = join(directory, 'ticket-secret');
    const { secret } = await started(t, directory);
    await place(file);
    const next = await started(t, directory);
    assert.notEqual(next.secret, secret, what);
    assert.equal(next.log.lines[0]?.code, 'ticket_secret_refused', what);
    const { mode, uid } = await stat(file);
    assert.deepEqual([mode & 0o777, uid], [0o600, process.geteuid?.()], what);
  }
});

test('without a place on disk the secret lives in memory, and that is said', async (t) => {
  const directory = await folder(t);
  await mkdir(join(directory, 'ticket-secret', 'in the way'), { recursive: true });
  const [one, two] = [await started(t, directory), await started(t, directory)];
  assert.notEqual(one.secret, two.secret);
  assert.deepEqual(
    one.log.lines.filter(({ level }) => level === 'warn').map(({ code }) => code),
    ['ticket_secret_refused', 'ticket_secret_not_kept'],
  );
});

test('what a crash left half written is removed', async (t) => {
  const directory = await folder(t);
  await writeFile(join(directory, '.ticket-secret.0123456789ab.tmp'), encodeSecret({ secret: Buffer.alloc(32, 1), since: 0 }));
  await started(t, directory);
  assert.deepEqual(await readdir(directory), ['ticket-secret']);
});
