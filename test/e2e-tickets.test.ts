import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import test, { type TestContext } from 'node:test';
import type { ConnectionCounters } from '../src/connection-counters.ts';
import { decodeSecret } from '../src/supervisor/ticket-secret.ts';
import { answering } from './support/backend.ts';
import { anyLevel } from './support/handshake.ts';
import { childrenOf } from './support/processes.ts';
import { execute, staplegate } from './support/program.ts';
import { Site } from './support/site.ts';
import { needs } from './support/tools.ts';

/** Sessions that openssl saves and resumes: when they must be, and when they must not. */

const versions = ['-tls1_2', '-tls1_3'];

interface Running {
  site: Site;
  config: object;
}

async function prepared(t: TestContext, hosts: Record<string, object>, top: object = {}): Promise<Running> {
  const site = await Site.create(t);
  const backend = await answering().listen(t);
  const virtualHosts = await Promise.all(
    Object.entries(hosts).map(async ([name, keys]) => ({
      server_name: name,
      certificates: [await site.write(name, await site.issue(name, { names: [name, `alias.${name}`] }))],
      backends: [backend.url],
      ...keys,
    })),
  );
  return {
    site,
    config: { workers: 2, log: { level: 'debug' }, virtual_hosts: virtualHosts, ...top },
  };
}

/** One handshake and one request: whether it was answered, and whether the session was an earlier one. */
async function ask(port: number, name: string, ...options: string[]): Promise<'new' | 'reused' | 'refused'> {
  const { stdout } = await execute(
    'openssl',
    ['s_client', '-connect', `127.0.0.1:${port}`, ...(name === '' ? ['-noservername'] : ['-servername', name]), '-ign_eof', ...options],
    { input: `GET / HTTP/1.1\r\nHost: ${name || 'other.test'}\r\nConnection: close\r\n\r\n` },
  );
  if (!stdout.includes('HTTP/1.1 200')) return 'refused';
  return /^Reused, TLS/m.test(stdout) ? 'reused' : /^New, TLS/m.test(stdout) ? 'new' : 'refused';
}

test('a session is resumed by every worker, after a restart and after SIGKILL, but not after a rotation', needs('openssl'), async (t) => {
  const { site, config } = await prepared(t, { 'a.test': {} });
  const sessions = versions.map((version) => ({ version, file: site.file(`session${version}`) }));
  let program = await site.serving(config);
  for (const { version, file } of sessions) {
    assert.equal(await ask(program.port(), 'a.test', version, '-sess_out', file), 'new');
    const { stdout: saved } = await execute('openssl', ['sess_id', '-in', file, '-noout', '-text']);
    assert.match(saved, /ticket lifetime hint: 43200 /, `${version}: clients keep it for as long as it can be read, 12 hours`);
  }
  const allReused = async (when: string) => {
    for (const { version, file } of sessions)
      for (let i = 0; i < 3; i += 1) assert.equal(await ask(program.port(), 'a.test', version, '-sess_in', file), 'reused', `${when} ${version}`);
  };
  await allReused('at once');
  for (const worker of childrenOf(program.process.pid)) {
    const from = program.log.length;
    process.kill(worker, 'SIGKILL');
    await program.line(/worker \d+ is listening/, from);
    await allReused('after the death of a worker');
  }
  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    await program.stop(signal);
    program = await site.serving(config);
    await allReused(`after ${signal}`);
  }
  const from = program.log.length;
  const before = decodeSecret(await readFile(site.file('state', 'ticket-secret')))!.secret;
  await site.configure({ ...config, tls: { ticket_rotation: '1s' } });
  await program.line(/session tickets have a new secret/, from);
  for (const { version, file } of sessions) assert.equal(await ask(program.port(), 'a.test', version, '-sess_in', file), 'new', `after a rotation ${version}`);
  assert.notDeepEqual(decodeSecret(await readFile(site.file('state', 'ticket-secret')))!.secret, before);

  const { stdout } = await staplegate('status', '--config', site.file('config.yaml'), '--json');
  for (const text of [stdout, program.log.join('\n')])
    for (const form of ['hex', 'base64', 'latin1'] as const) assert.equal(text.includes(before.toString(form)), false, "the secret is nobody else's");
});

test('three TLS libraries resume their sessions in every version, whichever worker they meet', needs('openssl', 'gnutls-cli', 'curl'), async (t) => {
  const { site, config } = await prepared(t, { 'old.test': { tls: { profile: 'old' } } });
  const program = await site.serving(config);
  const port = String(program.port());
  for (const version of ['1.0', '1.1', '1.2', '1.3']) {
    const flag = `-tls${version.replace('.0', '').replace('.', '_')}`;
    const file = site.file(`session${flag}`);
    const options = [flag, '-cipher', anyLevel];
    assert.equal(await ask(program.port(), 'old.test', ...options, '-sess_out', file), 'new');
    assert.equal(await ask(program.port(), 'old.test', ...options, '-sess_in', file), 'reused', flag);

    const priority = `--priority=NORMAL:-VERS-ALL:+VERS-TLS${version}`;
    const gnutls = ['--resume', '--waitresumption', `--x509cafile=${site.ca}`, '--sni-hostname=old.test', '--verify-hostname=old.test', priority];
    assert.match((await execute('gnutls-cli', [...gnutls, '--port', port, '127.0.0.1'])).stdout, /This is a resumed session/, version);
  }
  // curl 7.88 resumes in TLS 1.3 alone, nginx's sessions too.
  const pages = ['one', 'two'].flatMap((page) => ['-o', '/dev/null', `https://old.test:${port}/${page}`]);
  const curl = ['-s', '--http1.1', '-H', 'Connection: close', '--resolve', `old.test:${port}:127.0.0.1`, '--cacert', site.ca];
  assert.equal((await execute('curl', [...curl, ...pages])).code, 0);

  const { stdout } = await staplegate('status', '--config', site.file('config.yaml'), '--json');
  const { handshakes } = (JSON.parse(stdout) as { connections: ConnectionCounters }).connections;
  assert.deepEqual(handshakes.resumed, { TLSv1: 2, 'TLSv1.1': 2, 'TLSv1.2': 2, 'TLSv1.3': 3 });
  assert.deepEqual(handshakes.full, handshakes.resumed);
});

test('a session is never resumed under another virtual host', needs('openssl'), async (t) => {
  const { site, config } = await prepared(t, {
    'open.test': {},
    'other.test': { default: true },
    'closed.test': { tls: { client_auth: { mode: 'require', ca: 'root.pem' } } },
    'asking.test': { tls: { client_auth: { mode: 'request', ca: 'root.pem' } } },
  });
  const { pem, keyPem } = await site.authority.issue({ commonName: 'client', clientAuth: true });
  await site.write('client', { chainPem: pem + site.authority.pem, keyPem });
  const client = ['-cert', site.file('client.pem'), '-key', site.file('client.key'), '-cert_chain', site.file('client.pem')];
  const program = await site.serving(config);
  const port = program.port();
  const names = ['open.test', 'other.test', 'closed.test', 'asking.test'];
  for (const version of versions) {
    for (const from of names) {
      const file = site.file(`from-${from}${version}`);
      assert.equal(await ask(port, from, version, ...client, '-sess_out', file), 'new');
      for (const to of [...names, '']) {
        const expected = from === (to || 'other.test') ? 'reused' : to === 'closed.test' ? 'refused' : 'new';
        // Without the client's certificate: what is let in here, is let in by the session.
        assert.equal(await ask(port, to, version, '-sess_in', file), expected, `${version} from ${from} to ${to || 'no name'}`);
      }
    }
  }
});

test('the names of one virtual host share their sessions', needs('openssl'), async (t) => {
  const { site, config } = await prepared(t, { 'a.test': { aliases: ['alias.a.test'] } });
  const program = await site.serving(config);
  for (const version of versions) {
    const file = site.file(`session${version}`);
    assert.equal(await ask(program.port(), 'a.test', version, '-sess_out', file), 'new');
    for (const name of ['A.TEST', 'alias.a.test']) assert.equal(await ask(program.port(), name, version, '-sess_in', file), 'reused', `${version} ${name}`);
  }
});

test('without tickets nothing is resumed', needs('openssl'), async (t) => {
  const { site, config } = await prepared(t, { 'a.test': {}, 'never.test': { tls: { session_tickets: false } } });
  const program = await site.serving(config);
  for (const version of versions) {
    const file = site.file(`session${version}`);
    assert.equal(await ask(program.port(), 'never.test', version, '-sess_out', file), 'new');
    assert.equal(await ask(program.port(), 'never.test', version, '-sess_in', file), 'new', version);
  }
  // A session ID, which the server would have to remember.
  const file = site.file('session-id');
  assert.equal(await ask(program.port(), 'a.test', '-tls1_2', '-no_ticket', '-sess_out', file), 'new');
  assert.equal(await ask(program.port(), 'a.test', '-tls1_2', '-no_ticket', '-sess_in', file), 'new');
});
