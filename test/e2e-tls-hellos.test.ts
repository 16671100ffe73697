import assert from 'node:assert/strict';
import test, { type TestContext } from 'node:test';
import { TlsAlert } from '../src/tls/alert.ts';
import { readClientHello } from '../src/tls/client-hello.ts';
import { httpBackend } from './support/backend.ts';
import { inRecordsOf } from './support/hello.ts';
import { mutated } from './support/hellos/mutations.ts';
import { recordings } from './support/hellos/recordings.ts';
import { getOnce } from './support/load.ts';
import { childrenOf } from './support/processes.ts';
import type { Program } from './support/program.ts';
import { seeded } from './support/random.ts';
import { answerTo } from './support/server-answer.ts';
import { Site } from './support/site.ts';

/** The program, with ECDSA and RSA certificates for everybody, in every version. */
async function serving(t: TestContext): Promise<{ site: Site; program: Program }> {
  const site = await Site.create(t);
  const backend = await httpBackend(t, (_, response) => void response.end());
  const keys = ['ecdsa', 'rsa'] as const;
  const certificates = await Promise.all(keys.map(async (keyType) => site.write(keyType, await site.issue('a.test', { keyType }))));
  const program = await site.serving({
    shutdown_grace: '1s',
    timeouts: { handshake: '2s' },
    virtual_hosts: [{ server_name: 'a.test', default: true, certificates, backends: [backend.url], tls: { profile: 'old' } }],
  });
  return { site, program };
}

test('a hello in many records and in two segments is answered as it is in one', async (t) => {
  const { program } = await serving(t);
  const port = program.port();
  const random = seeded(6066);
  for (const { name, hello } of recordings) {
    const whole = await answerTo(port, hello);
    assert.ok(whole.version !== undefined || name === 'openssl-tls13', name); // which verifies Ed25519 and Ed448 alone
    for (const size of [2, 7, 100, 1000]) assert.deepEqual(await answerTo(port, inRecordsOf(size, hello)), whole, `${name}: records of ${size}`);
    for (const end of [1, 4, 5, 6, Math.floor(random() * hello.length), hello.length - 1])
      assert.deepEqual(await answerTo(port, hello.subarray(0, end), hello.subarray(end)), whole, `${name}: cut at ${end}`);
  }
});

test('mutated hellos cost the program nothing: each connection ends, in the words of the reader, and others are served', async (t) => {
  const { site, program } = await serving(t);
  const workers = childrenOf(program.process.pid);
  const random = seeded(5246);
  const outcomes = { hello: 0, more: 0, alert: 0 };

  const attack = async (): Promise<void> => {
    const mutant = mutated(recordings[Math.floor(random() * recordings.length)]!.hello, random);
    const answer = await answerTo(program.port(), mutant);
    try {
      if (readClientHello(mutant)) {
        outcomes.hello++;
      } else {
        assert.deepEqual(answer, {}, mutant.toString('hex'));
        outcomes.more++;
      }
    } catch (error) {
      if (!(error instanceof TlsAlert)) throw error;
      assert.deepEqual(answer, { alert: error.alert }, mutant.toString('hex'));
      outcomes.alert++;
    }
  };
  for (let round = 0; round < 3; round++) {
    await Promise.all(Array.from({ length: 400 }, attack));
    assert.equal((await getOnce({ port: program.port(), name: 'a.test', ca: site.root.pem })).answer.status, 200);
  }
  assert.ok(Math.min(...Object.values(outcomes)) > 100, JSON.stringify(outcomes));
  assert.deepEqual(childrenOf(program.process.pid), workers, 'no worker was replaced');
  assert.deepEqual(
    program.log.filter((line) => / error /.test(line)),
    [],
  );
});
