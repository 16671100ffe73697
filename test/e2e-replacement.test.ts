import assert from 'node:assert/strict';
import test from 'node:test';
import { httpBackend } from './support/backend.ts';
import { type HttpsClient, Load } from './support/load.ts';
import { childrenOf } from './support/processes.ts';
import { Site } from './support/site.ts';

/** Workers, configurations and certificates are replaced under load, and no request fails. */

const large = 'x'.repeat(1 << 20);

/** By turns small and large, in both directions. */
async function ask(client: HttpsClient, n: number): ReturnType<HttpsClient['get']> {
  if (n % 4 === 1) {
    const answer = await client.get('/large');
    assert.equal(answer.body.length, large.length);
    return answer;
  }
  if (n % 4 === 3) {
    const answer = await client.post('/', large);
    assert.equal(answer.body, String(large.length));
    return answer;
  }
  return client.get();
}

for (const engine of ['native', 'http-proxy'] as const) {
  test(`workers, configurations and certificates are replaced under load without a failed request (${engine})`, { timeout: 90_000 }, async (t) => {
    const site = await Site.create(t);
    const { url } = await httpBackend(t, (req, res) => {
      let length = 0;
      req.on('data', (piece: Buffer) => (length += piece.length));
      req.on('end', () => res.end(req.url === '/large' ? large : String(length)));
    });
    const leaves = [await site.issue('a.test'), await site.issue('a.test')];
    const certificate = await site.write('a', leaves[0]!);
    const config = {
      workers: 2,
      shutdown_grace: '10s',
      log: { level: 'debug' },
      virtual_hosts: [{ server_name: 'a.test', certificates: [certificate], engine, backends: [url] }],
    };
    const program = await site.serving(config);
    const target = { port: program.port(), name: 'a.test', ca: site.root.pem };
    const load = await site.use(new Load(target, ask));
    const ended = new Set<number>();
    const end = (count: number): void => {
      for (const pid of childrenOf(program.process.pid)
        .filter((child) => !ended.has(child))
        .slice(0, count)) {
        ended.add(pid);
        process.kill(pid, 'SIGTERM');
      }
    };
    const events: [what: string, happen: () => unknown, said: RegExp][] = [
      ['a reload', () => program.process.kill('SIGHUP'), /code=reloaded/],
      ['the end of a worker', () => end(1), /worker \d+ is listening/],
      ['another certificate', () => site.write('a', leaves[1]!), /certificate changed virtual_host=a\.test/],
      ['the end of both workers', () => end(2), /worker \d+ is listening/],
      ['another setting', () => site.configure({ ...config, shutdown_grace: '11s' }), /code=reloaded/],
    ];
    for (const [what, happen, said] of events) {
      const [from, before] = [program.log.length, load.requests];
      await load.until(({ requests }) => requests > before + 20);
      await happen();
      await program.line(said, from);
      const after = load.requests;
      await load.until(({ requests }) => requests > after + 20);
      assert.deepEqual(load.failures, [], what);
    }
    await load.stop();
    assert.deepEqual(load.failures, []);
  });
}
