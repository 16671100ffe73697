import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import test from 'node:test';
import { answering } from './support/backend.ts';
import { execute } from './support/program.ts';
import { Site } from './support/site.ts';
import { needs } from './support/tools.ts';

test('no session ticket allows early data, which anybody could replay (RFC 8446, 8)', { ...needs('openssl'), timeout: 30_000 }, async (t) => {
  const site = await Site.create(t);
  const backend = await answering().listen(t);
  const certificates = [await site.write('a', await site.issue('a.test'))];
  const program = await site.serving({
    virtual_hosts: [{ server_name: 'a.test', certificates, backends: [backend.url] }],
  });
  const connect = ['s_client', '-connect', `127.0.0.1:${program.port()}`, '-servername', 'a.test', '-CAfile', site.ca, '-tls1_3', '-ign_eof'];
  const request = (path: string): string => `GET ${path} HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n`;
  const session = site.file('session.pem');
  const first = await execute('openssl', [...connect, '-sess_out', session], { input: request('/first') });
  assert.match(first.stdout, /Max Early Data: 0\b/);
  await writeFile(site.file('early'), request('/early'));
  const second = await execute('openssl', [...connect, '-sess_in', session, '-early_data', site.file('early')], { input: request('/second') });
  assert.match(second.stdout, /Reused, TLSv1\.3/);
  assert.match(second.stdout, /Early data was not sent/);
  assert.doesNotMatch(backend.text, /early/);
});
