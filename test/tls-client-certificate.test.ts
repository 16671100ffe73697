import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import test, { before, type TestContext } from 'node:test';
import * as tls from 'node:tls';
import { Authority, type Issued } from '../src/demo/authority.ts';
import { certificatePath } from '../src/tls/certificate-path.ts';
import { ClientVerifier, distinguishedName, type ClientCertificate } from '../src/tls/client-certificate.ts';
import { createSecureServer } from '../src/tls/secure-server.ts';
import { configOf } from './support/config.ts';
import { execute, temporaryFolder } from './support/program.ts';
import { seeded } from './support/random.ts';
import { needs } from './support/tools.ts';

const day = 86_400_000;
const allVersions = ['TLSv1', 'TLSv1.1', 'TLSv1.2', 'TLSv1.3'] as const;
type Version = (typeof allVersions)[number];

let root: Authority;
let one: Authority;
let two: Authority;
let site: Issued;
/** By the number of authorities between them and the root. */
let clients: Issued[];
let stranger: Issued;
before(async () => {
  root = await Authority.root('Root');
  one = await root.subordinate('One');
  two = await one.subordinate('Two');
  site = await root.issue({ names: ['a.test'] });
  const options = { commonName: 'client', clientAuth: true };
  clients = [await root.issue(options), await one.issue(options), await two.issue(options)];
  stranger = await (await Authority.root('Stranger')).issue(options);
});

const everyValue = 'verify subject issuer serial not_before not_after sha1 sha256 certificate chain der pem escaped_pem'.split(' ');
const fields = (values: readonly string[]) => Object.fromEntries(values.map((value) => [`X-${value}`, value]));

/** A server of one virtual host with this `client_auth`, and what it makes of clients. */
async function serve(t: TestContext, clientAuth: object, authorities = root.pem) {
  const config = configOf({ backends: ['http://127.0.0.1:1'], tls: { profile: 'old', client_auth: { ca: 'ca.pem', ...clientAuth } } });
  const virtualHost = config.virtualHosts[0]!;
  const verifier = new ClientVerifier(virtualHost.tls.clientAuth, authorities);
  const server = createSecureServer({
    virtualHost,
    identity: { virtualHost: 'a.test', fingerprint: '', keyType: 'ecdsa', certificate: site.pem, intermediates: [], key: site.keyPem },
    clientAuthority: authorities,
    clients: verifier,
    ticketSecret: Buffer.alloc(32, 1),
    ticketRotation: 3_600_000,
    alpn: [],
    staple: () => undefined,
  });
  const state = { now: Date.now() };
  let judged: ((result: ClientCertificate) => void) | undefined;
  server.on('secureConnection', (socket) => {
    judged?.(verifier.verify(socket, state.now));
    socket.on('error', () => {}).end('x');
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());

  /** One connection: what became of the client's certificate; undefined when the handshake failed. */
  const connect = async (version: Version, client?: Pick<Issued, 'chainPem' | 'keyPem'>, session?: Buffer) => {
    let verdict: ClientCertificate | undefined;
    judged = (result) => (verdict = result);
    const { port } = server.address() as AddressInfo;
    const socket = tls.connect({
      port,
      host: '127.0.0.1',
      servername: 'a.test',
      ca: root.pem,
      minVersion: version,
      maxVersion: version,
      ciphers: 'TLS_AES_128_GCM_SHA256:ALL:@SECLEVEL=0',
      ...(client && { cert: client.chainPem, key: client.keyPem }),
      ...(session && { session }),
    });
    let ticket: Buffer | undefined;
    let resumed = false;
    socket.on('secureConnect', () => (resumed = socket.isSessionReused()));
    socket.on('session', (received: Buffer) => (ticket = received));
    socket.on('error', () => {}).resume();
    await new Promise((resolve) => socket.once('close', resolve));
    return { ...verdict, ticket, resumed };
  };
  return { connect, state };
}

test('what is forwarded of a certificate', async (t) => {
  const { connect } = await serve(t, { mode: 'require', forward: fields(everyValue) });
  const client = clients[2]!;
  const { certificate } = client;
  const { values } = await connect('TLSv1.3', client);
  const [, issuer, next] = client.chainPem.match(/-----BEGIN[^]+?END CERTIFICATE-----/g)!.map((pem) => new X509Certificate(pem).raw.toString('base64'));
  assert.deepEqual(values, {
    verify: 'SUCCESS',
    subject: 'CN=client',
    issuer: 'CN=Two',
    serial: certificate.serialNumber,
    not_before: certificate.validFrom,
    not_after: certificate.validTo,
    sha1: certificate.fingerprint.replaceAll(':', '').toLowerCase(),
    sha256: certificate.fingerprint256.replaceAll(':', '').toLowerCase(),
    certificate: `:${certificate.raw.toString('base64')}:`,
    chain: `:${issuer}:, :${next}:`,
    der: certificate.raw.toString('base64'),
    pem: certificate.toString().trim().replaceAll('\n', ' '),
    escaped_pem: encodeURIComponent(certificate.toString()),
  });
  for (const value of Object.values(values)) assert.match(value, /^[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?$/);
  assert.deepEqual((await connect('TLSv1.3', clients[0])).values?.chain, '', 'issued by the root itself');
});

test('a certificate without a name says nothing of one, and ends no worker', needs('openssl'), async (t) => {
  await using folder = await temporaryFolder();
  const file = (name: string) => folder.file(name);
  await writeFile(file('ca.pem'), root.pem);
  await writeFile(file('ca.key'), root.keyPem);
  await writeFile(file('extensions'), 'extendedKeyUsage=clientAuth\nsubjectAltName=critical,email:jo@example.org\n');
  const pair = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', file('key')];
  assert.equal((await execute('openssl', ['req', '-new', '-subj', '/', ...pair, '-out', file('csr')])).code, 0);
  const signing = ['-CA', file('ca.pem'), '-CAkey', file('ca.key'), '-CAcreateserial', '-extfile', file('extensions')];
  const { stdout: chainPem } = await execute('openssl', ['x509', '-req', '-in', file('csr'), ...signing]);
  const { connect } = await serve(t, { mode: 'require', forward: { 'X-Verify': 'verify', 'X-Subject': 'subject', 'X-Issuer': 'issuer' } });
  const { values } = await connect('TLSv1.3', { chainPem, keyPem: await readFile(file('key'), 'utf8') });
  assert.deepEqual(values, { verify: 'SUCCESS', subject: '', issuer: 'CN=Root' });
});

test('no certificate, and one that is not ours: nothing but the verdict', async (t) => {
  const forward = fields(everyValue.filter((value) => value !== 'chain'));
  const { connect } = await serve(t, { mode: 'request', forward });
  const wrongUse = await root.issue({ names: ['server.test'] });
  const expired = await root.issue({ commonName: 'client', clientAuth: true, notBefore: new Date(Date.now() - 2 * day), notAfter: new Date(Date.now() - day) });
  const cases: [client: Issued | undefined, verify: string][] = [
    [undefined, 'NONE'],
    [stranger, 'FAILED:unable to verify the first certificate'],
    [wrongUse, 'FAILED:unsuitable certificate purpose'],
    [expired, 'FAILED:certificate has expired'],
  ];
  for (const [client, verify] of cases) {
    const { values, refusal } = await connect('TLSv1.3', client);
    assert.deepEqual([values, refusal], [{ verify }, undefined]);
  }
  const required = await serve(t, { mode: 'require', forward });
  for (const [client] of cases) assert.equal((await required.connect('TLSv1.3', client)).values, undefined, 'the handshake fails');
});

test('a resumed session says the same of the client, in every version of TLS', async (t) => {
  const { connect, state } = await serve(t, { mode: 'request', forward: fields(everyValue.filter((value) => value !== 'chain')) });
  for (const version of allVersions) {
    for (const client of [undefined, clients[0], clients[2], stranger]) {
      const first = await connect(version, client);
      const again = await connect(version, client, first.ticket);
      assert.equal(again.resumed, true, version);
      assert.deepEqual(again.values, first.values);
    }
  }
  const { ticket } = await connect('TLSv1.3', clients[0]);
  state.now = clients[0]!.certificate.validToDate.getTime() + 1;
  const late = await connect('TLSv1.3', clients[0], ticket);
  assert.deepEqual([late.resumed, late.values], [true, { verify: 'FAILED:certificate has expired' }], 'whatever was said when the session began');
});

test('depth bounds the authorities in between, whoever has them, in every version of TLS', async (t) => {
  const onlyVerify = { forward: { 'X-Verify': 'verify' } };
  const verdicts = async (authorities: string, depth: number, version: Version, list = clients) => {
    const { connect } = await serve(t, { mode: 'request', depth, ...onlyVerify }, authorities);
    const all = [];
    for (const client of list) all.push((await connect(version, client)).values?.verify);
    return all;
  };
  const tooLong = 'FAILED:certificate chain too long';
  for (const version of allVersions) {
    assert.deepEqual(await verdicts(root.pem, 0, version), ['SUCCESS', tooLong, tooLong]);
    assert.deepEqual(await verdicts(root.pem, 1, version), ['SUCCESS', 'SUCCESS', tooLong]);
    assert.deepEqual(await verdicts(root.pem, 2, version), ['SUCCESS', 'SUCCESS', 'SUCCESS']);
  }
  // The client sends nothing but its own certificate, or much more than it needs.
  const alone = clients.map((client) => ({ ...client, chainPem: client.pem }));
  assert.deepEqual(await verdicts(root.pem + one.pem + two.pem, 1, 'TLSv1.3', alone), ['SUCCESS', 'SUCCESS', tooLong]);
  const talkative = clients.map((client) => ({ ...client, chainPem: client.pem + two.pem + one.pem + root.pem + stranger.pem }));
  assert.deepEqual(await verdicts(root.pem, 1, 'TLSv1.3', talkative), ['SUCCESS', 'SUCCESS', tooLong]);
});

test('where the chain counts, nothing is resumed: a ticket does not hold it', async (t) => {
  for (const clientAuth of [{ depth: 1 }, { forward: { 'Client-Cert-Chain': 'chain' } }]) {
    const { connect } = await serve(t, { mode: 'require', ...clientAuth });
    for (const version of allVersions) {
      const first = await connect(version, clients[1]);
      const again = await connect(version, clients[1], first.ticket);
      assert.equal(again.resumed, false);
      assert.deepEqual(again.values, first.values);
    }
  }
  const { connect } = await serve(t, { mode: 'require', depth: 0 });
  const { refusal, ticket } = await connect('TLSv1.3', clients[1]);
  assert.equal(refusal, 'certificate chain too long');
  assert.equal(
    (await connect('TLSv1.3', clients[1], ticket)).refusal,
    'certificate chain too long',
    'not let in by the ticket of the connection that was refused',
  );
});

test('the path is the shortest of those that hold', async () => {
  const now = Date.now();
  const x509 = (authority: Authority) => authority.certificate;
  const leaf = clients[2]!.certificate;
  const names = (sent: X509Certificate[], anchors: X509Certificate[], at = now) =>
    certificatePath(leaf, { sent, anchors, now: at })?.map(({ subject }) => subject);
  assert.deepEqual(names([x509(one), x509(two)], [x509(root)]), ['CN=Two', 'CN=One']);
  assert.deepEqual(names([x509(one)], [x509(two), x509(root)]), ['CN=Two', 'CN=One']);
  assert.equal(names([x509(two)], [x509(root)]), undefined);
  assert.equal(names([x509(one), x509(two)], [x509(root)], now + 4000 * day), undefined, 'not when it has run out');
  assert.equal(names([x509(one), x509(two)], [stranger.certificate]), undefined);

  // The same authority, signed by the root as well: two ways up.
  const cross = await root.subordinate('Two', { key: { privateKey: two.key, publicKey: x509(two).publicKey } });
  assert.deepEqual(names([x509(two), x509(one), x509(cross)], [x509(root)]), ['CN=Two']);
  // A key on a curve that nobody knows.
  const der = Buffer.from(x509(two).raw);
  der[der.indexOf(Buffer.from('2a8648ce3d030107', 'hex')) + 7] = 0x7f;
  assert.deepEqual(names([new X509Certificate(der), x509(one), x509(two)], [x509(root)]), ['CN=Two', 'CN=One']);
  const impostor = await (await Authority.root('Root')).subordinate('Two');
  assert.equal(names([x509(impostor)], [x509(root)]), undefined, 'a name is not a signature');
});

test('distinguished names are written as OpenSSL writes them', needs('openssl'), async () => {
  await using folder = await temporaryFolder();
  const file = folder.file('c.pem');
  const written = async (subject: string) => {
    const args = [
      'req',
      '-x509',
      '-utf8',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:P-256',
      '-nodes',
      '-keyout',
      '/dev/null',
      '-out',
      file,
      '-subj',
      subject,
    ];
    assert.equal((await execute('openssl', args)).code, 0);
    const shown = await execute('openssl', ['x509', '-in', file, '-subject', '-nameopt', 'RFC2253', '-text']);
    const pem = /-----BEGIN[^]+END CERTIFICATE-----/.exec(shown.stdout)![0];
    assert.equal(distinguishedName(new X509Certificate(pem).subject), /^subject=(.*)$/m.exec(shown.stdout)?.[1], subject);
  };
  await written(
    '/C=DE/ST=NRW/L=Köln/O=Müller, Söhne \\+ Co "KG"/OU=a;b<c>d\\/e#g=h/CN=#hash\\\\back/emailAddress=a@b.de/DC=example/UID=u1/organizationIdentifier=PSDDE',
  );
  await written('/CN=a+O=b+OU=c d/O=e \\+ f+CN=g\\+h');
  await written('/CN= spaces on both sides ');
  await written('/CN=line\nbreak\rreturn\x01\x1f\x7f');
  const random = seeded(5);
  const below = (end: number) => Math.floor(random() * end);
  const alphabet = Array.from(' ,+"\\<>;=#aZ0é漢😀\u0085\u2028\n\r\t');
  for (let round = 0; round < 20; round += 1) {
    const value = () =>
      Array.from({ length: 1 + below(12) }, () => alphabet[below(alphabet.length)])
        .join('')
        .replaceAll(/[\\+/]/g, String.raw`\$&`);
    await written(`/CN=${value()}+OU=${value()}/O=${value()}`);
  }
});
