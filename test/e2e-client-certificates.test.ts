import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import test from 'node:test';
import { Authority } from '../src/demo/authority.ts';
import { Application, type Told } from './support/application.ts';
import { closedPort } from './support/backend.ts';
import { startNginx } from './support/nginx.ts';
import { execute } from './support/program.ts';
import { Site } from './support/site.ts';
import { needs } from './support/tools.ts';

/** The backend is told about client certificates what nginx would tell it; nginx, curl and openssl are the witnesses. */

/** Fields by the nginx variable that an application knows them from, and our word for it. */
const variables: Record<string, string> = {
  ssl_client_verify: 'verify',
  ssl_client_s_dn: 'subject',
  ssl_client_i_dn: 'issuer',
  ssl_client_serial: 'serial',
  ssl_client_fingerprint: 'sha1',
  ssl_client_v_start: 'not_before',
  ssl_client_v_end: 'not_after',
  ssl_client_escaped_cert: 'escaped_pem',
};
const fieldOf = (variable: string) => `X-${variable.replaceAll('_', '-')}`;

const valuesOf = ({ rawHeaders }: Told, name: string): string[] =>
  rawHeaders.flatMap((value, index) => (index % 2 === 1 && rawHeaders[index - 1]!.toLowerCase() === name.toLowerCase() ? [value] : []));

test('client certificates', needs('openssl', 'curl', 'nginx'), async (t) => {
  const site = await Site.create(t);
  const application = await Application.start(t);
  await writeFile(site.file('clients.pem'), site.root.pem + site.authority.pem);
  const server = await site.write('server', await site.issue('', { names: ['required.test', 'asked.test', 'bounded.test', 'open.test'] }));

  // A certificate whose name an application could misread, if it were forwarded carelessly.
  const key = await site.issue('', { commonName: 'key', clientAuth: true });
  await site.write('client', key);
  await writeFile(site.file('issuer.pem'), site.authority.pem);
  await writeFile(site.file('issuer.key'), site.authority.keyPem);
  await writeFile(site.file('extensions'), 'extendedKeyUsage=clientAuth\n');
  const subject = '/C=DE/O=Müller\\, Söhne \\+ "Co"/OU=line\r\nX-Admin: yes/CN=Jürgen <j@example.org>; #1/emailAddress=j@example.org';
  const request = ['req', '-new', '-utf8', '-key', site.file('client.key'), '-subj', subject, '-out', site.file('client.csr')];
  assert.equal((await execute('openssl', request)).code, 0);
  const signing = [
    '-CA',
    site.file('issuer.pem'),
    '-CAkey',
    site.file('issuer.key'),
    '-extfile',
    site.file('extensions'),
    '-days',
    '9',
    '-set_serial',
    '0x0abc',
  ];
  const signed = await execute('openssl', ['x509', '-req', '-in', site.file('client.csr'), '-out', site.file('client.pem'), ...signing]);
  assert.equal(signed.code, 0, signed.stderr);
  const day = 86_400_000;
  const other = await Authority.root('Somebody else');
  await site.write('stranger', await other.issue({ commonName: 'CN=admin', clientAuth: true }));
  await site.write('stranger-below', await (await other.subordinate('Below')).issue({ commonName: 'CN=admin', clientAuth: true }));
  await site.write('self-signed', { chainPem: other.pem, keyPem: other.keyPem });
  await site.write('expired', await site.issue('', { clientAuth: true, notBefore: new Date(Date.now() - 2 * day), notAfter: new Date(Date.now() - day) }));
  const below = await site.authority.subordinate('Below the issuer');
  await site.write('deep', await below.issue({ clientAuth: true }));
  await site.write('server-only', await site.issue('server.test'));

  const nginxTls = new URL((await closedPort()).replace('http:', 'https:'));
  const answer = Object.keys(variables)
    .map((variable) => `$${variable}`)
    .join('\\n');
  await site.use(
    startNginx(
      site.folder,
      `server { listen ${nginxTls.host} ssl; ssl_certificate ${site.file('server.pem')}; ssl_certificate_key ${site.file('server.key')};
        ssl_client_certificate ${site.file('clients.pem')}; ssl_verify_client optional_no_ca; ssl_verify_depth 1;
        error_page 495 496 = @told; location / { return 200 "${answer}"; } location @told { return 200 "${answer}"; } }`,
    ),
  );

  const forward = {
    ...Object.fromEntries(Object.entries(variables).map(([variable, word]) => [fieldOf(variable), word])),
    SSL_CLIENT_CERT: 'pem',
    'Client-Cert': 'certificate',
    'X-User': 'subject',
  };
  const bounded = { client_auth: { mode: 'request', ca: 'clients.pem', depth: 1, forward } };
  const clientAuth = (mode: string) => ({ client_auth: { mode, ca: 'clients.pem', forward } });
  const host = (name: string, tls: object) => ({ server_name: name, certificates: [server], tls, backends: [application.url] });
  const program = await site.serving({
    shutdown_grace: '1s',
    log: { level: 'debug' },
    virtual_hosts: [
      host('required.test', clientAuth('require')),
      host('asked.test', clientAuth('request')),
      host('bounded.test', bounded),
      host('open.test', {}),
    ],
  });

  const certificateOf = (stem: string) => (stem === '' ? [] : ['--cert', site.file(`${stem}.pem`), '--key', site.file(`${stem}.key`)]);
  const curl = (name: string, port: string | number, ...more: string[]) =>
    execute('curl', ['-sS', '--noproxy', '*', '--cacert', site.ca, '--resolve', `${name}:${port}:127.0.0.1`, ...more, `https://${name}:${port}/`]);
  const told = async (name: string, stem: string, ...more: string[]): Promise<Told> => {
    const { stdout, stderr } = await curl(name, program.port(), ...certificateOf(stem), ...more);
    assert.notEqual(stdout, '', stderr);
    return JSON.parse(stdout) as Told;
  };

  await t.test('every value is what nginx makes of the same certificate, in TLS 1.2 and 1.3', async () => {
    const { stdout } = await curl('asked.test', nginxTls.port, ...certificateOf('client'));
    const nginx = stdout.split('\n');
    assert.equal(nginx[0], 'SUCCESS', stdout);
    assert.match(nginx[1]!, /X-Admin/);
    for (const version of ['1.2', '1.3']) {
      const request = await told('required.test', 'client', '--tls-max', version);
      const ours = Object.keys(variables).map((variable) => valuesOf(request, fieldOf(variable)).join());
      assert.deepEqual(ours, nginx);
      assert.deepEqual(valuesOf(request, 'X-Admin'), [], 'a line break in a name begins no field');
      const [pem] = valuesOf(request, 'SSL_CLIENT_CERT');
      const certificate = new X509Certificate(pem!.replaceAll(/ (?!CERTIFICATE)/g, '\n'));
      assert.deepEqual(valuesOf(request, 'Client-Cert'), [`:${certificate.raw.toString('base64')}:`]);
    }
  });

  await t.test('asked and not given, or not to be trusted: the verdict of nginx, and no name', async () => {
    const verdicts = new Set<string>();
    for (const stem of ['', 'stranger', 'stranger-below', 'self-signed', 'expired', 'server-only']) {
      const { stdout } = await curl('asked.test', nginxTls.port, ...certificateOf(stem));
      const request = await told('asked.test', stem);
      const verdict = valuesOf(request, fieldOf('ssl_client_verify'));
      assert.deepEqual(verdict, [stdout.split('\n')[0]], stem);
      assert.deepEqual(valuesOf(request, 'X-User'), []);
      verdicts.add(verdict.join());
    }
    assert.ok(verdicts.has('NONE') && verdicts.size === 6, [...verdicts].join('\n'));
  });

  await t.test('depth is ssl_verify_depth', async () => {
    const verdicts: Record<string, string> = { client: 'SUCCESS', deep: 'FAILED:certificate chain too long' };
    for (const [stem, verdict] of Object.entries(verdicts)) {
      const { stdout } = await curl('bounded.test', nginxTls.port, ...certificateOf(stem));
      // nginx is as strict, but says that an issuer is missing.
      assert.equal(stdout.split(/[:\n]/)[0], verdict.split(':')[0]);
      assert.deepEqual(valuesOf(await told('bounded.test', stem), fieldOf('ssl_client_verify')), [verdict]);
    }
    assert.deepEqual(valuesOf(await told('asked.test', 'deep'), fieldOf('ssl_client_verify')), ['SUCCESS'], 'no depth, no limit');
  });

  await t.test('required: without one, or with a stranger’s, there is no request', async () => {
    // In TLS 1.3 a client asks before it hears of the refusal, and its system may forget the alert for a reset connection.
    const refused = await curl('required.test', program.port(), '--tls-max', '1.2');
    assert.match(refused.stderr, /handshake failure/);
    assert.equal((await curl('required.test', program.port())).stdout, '');
    assert.equal((await curl('required.test', program.port(), ...certificateOf('stranger'))).stdout, '');
    await program.line(/handshake failed: the client's certificate is refused \(unable to verify the first certificate\)/);
    const input = 'GET / HTTP/1.0\r\nHost: required.test\r\n\r\n';
    const args = [
      's_client',
      '-quiet',
      '-connect',
      `127.0.0.1:${program.port()}`,
      '-servername',
      'required.test',
      '-cert',
      site.file('client.pem'),
      '-key',
      site.file('client.key'),
    ];
    const { stdout } = await execute('openssl', args, { input });
    assert.match(stdout, /"SUCCESS"/);
  });

  await t.test('no client can send these fields, to any virtual host', async () => {
    const claims = [
      ...Object.keys(forward),
      'X_User',
      'ssl-client-cert',
      'X-SSL-Client-Serial',
      'X-Client-Cert',
      'X-Forwarded-Client-Cert',
      'Client-Cert-Chain',
    ];
    const sent = claims.flatMap((name) => ['-H', `${name}: forged`]);
    for (const name of ['asked.test', 'open.test']) {
      const { rawHeaders } = await told(name, '', ...sent, '-H', 'X-Other: kept');
      assert.ok(!rawHeaders.includes('forged'), rawHeaders.join('\n'));
      assert.ok(rawHeaders.includes('kept'));
    }
  });
});
