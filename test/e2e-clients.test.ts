import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import test from 'node:test';
import type { Authority, Issued } from '../src/demo/authority.ts';
import { FaultyResponder } from './support/faulty-responder.ts';
import { closedPort, httpBackend } from './support/backend.ts';
import { opensslClient } from './support/clients.ts';
import { foreground } from './support/foreground.ts';
import { execute } from './support/program.ts';
import { Site } from './support/site.ts';
import { needs } from './support/tools.ts';

/** The real program with Cloudflare's cfssl, a responder that serves responses signed in advance, and with a browser. */

interface Delegated {
  authority: Authority;
  delegate: Issued;
}

/** `cfssl ocspsign`: base64 of a response that says good, signed by the delegate. */
async function signedByCfssl(folder: string, { authority, delegate }: Delegated, leaf: Issued): Promise<string> {
  const files = { ca: authority.pem, responder: delegate.pem, 'responder-key': delegate.keyPem, cert: leaf.pem };
  const options: string[] = [];
  for (const [option, pem] of Object.entries(files)) {
    const file = path.join(folder, `cfssl-${option}.pem`);
    await writeFile(file, pem, { mode: 0o600 });
    options.push(`-${option}`, file);
  }
  const { code, stdout, stderr } = await execute('cfssl', ['ocspsign', ...options, '-status', 'good', '-interval', '96h']);
  assert.equal(code, 0, stderr);
  return (JSON.parse(stdout) as { ocspResponse: string }).ocspResponse;
}

test('cfssl answers, with a delegate it signed for in advance, and openssl s_client sees its staple', needs('cfssl', 'openssl'), async (t) => {
  const site = await Site.create(t);
  const url = await closedPort();
  const leaf = await site.issue('a.test', { ocsp: url, mustStaple: true });
  const delegate = await site.authority.issue({ commonName: 'Delegate', ocspSigning: true });
  await writeFile(site.file('responses'), `${await signedByCfssl(site.folder, { authority: site.authority, delegate }, leaf)}\n`);
  const { hostname, port } = new URL(url);
  await site.use(foreground('cfssl', ['ocspserve', '-address', hostname, '-port', port, '-responses', site.file('responses')], /Now listening/));
  const program = await site.serving({
    shutdown_grace: '1s',
    virtual_hosts: [{ server_name: 'a.test', certificates: [await site.write('a', leaf)], backends: ['http://127.0.0.1:9'] }],
  });
  // cfssl up to 1.2 takes a plus sign in a GET for a space and answers 400: then POST gets the answer.
  assert.match(await program.line(/ OCSP update /), /method=(?:GET|POST) result=good/);
  const facts = await opensslClient({ port: program.port(), name: 'a.test', ca: site.ca });
  assert.deepEqual([facts.responseStatus, facts.certStatus, facts.stapledSerial], ['successful', 'good', leaf.certificate.serialNumber]);
});

test('Chromium opens a page behind a must-staple certificate, when it trusts it and only then', needs('chromium'), async (t) => {
  const site = await Site.create(t);
  const responder = await FaultyResponder.start(site.authority);
  site.defer(() => responder.close());
  const backend = await httpBackend(t, (_, response) => void response.end('<p>hello from behind</p>'));
  const leaf = await site.issue('a.test', { ocsp: responder.url, mustStaple: true });
  const program = await site.serving({
    shutdown_grace: '1s',
    virtual_hosts: [{ server_name: 'a.test', certificates: [await site.write('a', leaf)], backends: [backend.url] }],
  });
  const open = async (profile: string, ...options: string[]): Promise<string> => {
    // As root, and in most containers, Chromium starts without its sandbox only; the only page it sees is ours.
    const quiet = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run', '--disable-background-networking'];
    const network = ['--no-proxy-server', '--host-resolver-rules=MAP * 127.0.0.1', `--user-data-dir=${site.file(profile)}`];
    const args = [...quiet, ...network, ...options, '--dump-dom', `https://a.test:${program.port()}/`];
    const { stdout } = await execute('chromium', args, { env: { ...process.env, HOME: site.folder } });
    return stdout;
  };
  const key = leaf.certificate.publicKey.export({ type: 'spki', format: 'der' });
  const pin = createHash('sha256').update(key).digest('base64');
  assert.match(await open('trusting', `--ignore-certificate-errors-spki-list=${pin}`), /hello from behind/);
  assert.doesNotMatch(await open('wary'), /hello from behind/);
});
