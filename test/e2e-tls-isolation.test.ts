import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import test from 'node:test';
import { Authority } from '../src/demo/authority.ts';
import { startOcspResponder } from '../src/demo/ocsp-responder.ts';
import { httpBackend } from './support/backend.ts';
import { anyLevel, curl, gnutls, openssl } from './support/handshake.ts';
import { execute, staplegate } from './support/program.ts';
import { Site } from './support/site.ts';
import { needs } from './support/tools.ts';

/** One broken file or policy costs one virtual host: its clients get an alert, its administrator a reason, all others service. */

interface Broken {
  /** What its clients are refused with: without a certificate nothing fits (handshake_failure), a policy is our fault (internal_error). */
  alert: 40 | 80;
  host: (site: Site, name: string) => Promise<object>;
  /** In the log, in `staplegate check` and in `staplegate status`. */
  says: RegExp;
}

const damaged = '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n';

async function certified(site: Site, name: string, tls: object): Promise<object> {
  return { certificates: [await site.write(name, await site.issue(name))], tls };
}

const requiring = (ca: string) => ({ client_auth: { mode: 'require', ca } });

const broken: Record<string, Broken> = {
  'garbage.test': {
    alert: 40,
    host: async (site, name) => ({ certificates: [await site.write(name, { ...(await site.issue(name)), chainPem: 'no PEM at all' })] }),
    says: /garbage\.test\.pem holds no certificate/,
  },
  'damaged.test': {
    alert: 40,
    host: async (site, name) => ({ certificates: [await site.write(name, { ...(await site.issue(name)), chainPem: damaged })] }),
    says: /damaged\.test\.pem: certificate 1 of 1 cannot be parsed: the file is damaged/,
  },
  'missing.test': {
    alert: 40,
    host: async () => ({ certificates: [{ certificate: 'nowhere.pem', key: 'nowhere.key' }] }),
    says: /nowhere\.(?:pem|key) does not exist/,
  },
  'mismatch.test': {
    alert: 40,
    host: async (site, name) => ({ certificates: [await site.write(name, { ...(await site.issue(name)), keyPem: (await site.issue(name)).keyPem })] }),
    says: /the private key \S+mismatch\.test\.key does not belong to the certificate/,
  },
  'weak.test': {
    alert: 40,
    host: async (site, name) => {
      const files = ['-keyout', site.file(`${name}.key`), '-out', site.file(`${name}.pem`)];
      await execute('openssl', ['req', '-x509', '-newkey', 'rsa:1024', '-nodes', '-subj', `/CN=${name}`, '-addext', `subjectAltName=DNS:${name}`, ...files]);
      return { certificates: [{ certificate: `${name}.pem`, key: `${name}.key` }] };
    },
    says: /the RSA key \S+weak\.test\.key has 1024 bits; at least 2048 are needed/,
  },
  'suites.test': {
    alert: 80,
    host: (site, name) => certified(site, name, { ciphers: 'NOSUCHCIPHER' }),
    says: /the TLS policy cannot be used \(tls\.ciphers\): .*no cipher match/,
  },
  'no-authority.test': {
    alert: 80,
    host: (site, name) => certified(site, name, requiring('nobody.pem')),
    says: /nobody\.pem cannot be used \(tls\.client_auth\.ca\): .*does not exist/,
  },
  'bad-authority.test': {
    alert: 80,
    host: async (site, name) => {
      // Of this file the TLS library would take the first certificate and be content.
      await writeFile(site.file('half.pem'), (await Authority.root('Clients')).pem + damaged);
      return certified(site, name, requiring('half.pem'));
    },
    says: /half\.pem cannot be used \(tls\.client_auth\.ca\): .*certificate 2 of 2 cannot be parsed: the file is damaged/,
  },
};

test('a broken virtual host is refused with an alert and shown; the others are served', needs('openssl', 'gnutls-cli', 'curl'), async (t) => {
  const site = await Site.create(t);
  const responder = await startOcspResponder({ authority: site.authority });
  site.defer(() => responder.close());
  const backend = await httpBackend(t, (_, response) => void response.end());
  const [good, rsa] = [await site.issue('good.test', { ocsp: responder.url }), await site.issue('half.test', { keyType: 'rsa', ocsp: responder.url })];
  const half = [await site.write('half-ecdsa', { ...(await site.issue('half.test')), chainPem: damaged }), await site.write('half-rsa', rsa)];
  const config = {
    shutdown_grace: '1s',
    virtual_hosts: [
      { server_name: 'good.test', certificates: [await site.write('good', good)], backends: [backend.url] },
      { server_name: 'half.test', certificates: half, backends: [backend.url] },
      ...(await Promise.all(
        Object.entries(broken).map(async ([name, { host }]) => ({ server_name: name, backends: [backend.url], ...(await host(site, name)) })),
      )),
    ],
  };
  const program = await site.serving(config);
  const server = { port: program.port(), ca: site.ca, folder: site.folder };
  const check = await staplegate('check', '-c', site.file('config.yaml'));
  const status = await staplegate('status', '-c', site.file('config.yaml'));
  const log = program.log.join('\n');
  /** What `status` says of one virtual host: its paragraph. */
  const paragraph = (name: string) => status.stdout.split(/^(?=\S)/m).find((text) => text.startsWith(`${name}\n`)) ?? '';

  for (const [name, { alert, says }] of Object.entries(broken)) {
    await t.test(`${name}: alert ${alert}`, async () => {
      for (const client of [openssl, gnutls, curl]) {
        const seen = await client(server, name, []);
        assert.deepEqual([seen.version, seen.alert], [undefined, alert], seen.said);
      }
      assert.match(log, new RegExp(` error .*${says.source}`));
      assert.match(check.stdout, new RegExp(`^error: .*${says.source}`, 'm'));
      assert.match(paragraph(name), says);
      const beside = await openssl(server, 'good.test', []);
      assert.deepEqual([beside.serial, beside.staple, beside.answered], [good.certificate.serialNumber, good.certificate.serialNumber, true], beside.said);
    });
  }

  await t.test('of two certificates, the one that can be used is served', async () => {
    const { serial, staple } = await openssl(server, 'half.test', []);
    assert.deepEqual([serial, staple], [rsa.certificate.serialNumber, rsa.certificate.serialNumber]);
    assert.match(paragraph('half.test'), /half-ecdsa\.pem: certificate 1 of 1 cannot be parsed/);
  });

  await t.test('check and status say by their exit code that something is wrong', () => {
    assert.deepEqual([check.code, status.code], [1, 1]);
    assert.doesNotMatch(paragraph('good.test'), /error/i);
  });

  await t.test('an unknown name and no name are refused with unrecognized_name, in every version', async () => {
    const oldest = ['-tls1', '-cipher', anyLevel];
    const attempts = [
      openssl(server, 'unknown.test', []),
      openssl(server, 'unknown.test', oldest),
      openssl(server, '', []),
      gnutls(server, 'unknown.test', []),
      gnutls(server, '', ['--priority=NORMAL:-VERS-ALL:+VERS-TLS1.0']),
      curl(server, 'unknown.test', []),
    ];
    for (const seen of await Promise.all(attempts)) assert.deepEqual([seen.version, seen.alert], [undefined, 112], seen.said);
  });

  await t.test('mended and reloaded, it is served', async () => {
    await writeFile(site.file('whole.pem'), (await Authority.root('Clients')).pem);
    const mended: Record<string, object> = {
      'garbage.test': { certificates: [await site.write('mended', await site.issue('garbage.test'))] },
      'suites.test': { tls: {} },
      'bad-authority.test': { tls: requiring('whole.pem') },
    };
    const from = program.log.length;
    await site.configure({ ...config, virtual_hosts: config.virtual_hosts.map((host) => ({ ...host, ...mended[host.server_name] })) });
    await program.line(/code=reloaded/, from);
    for (const name of ['garbage.test', 'suites.test']) assert.ok((await openssl(server, name, [])).answered, name);
    assert.equal((await openssl(server, 'bad-authority.test', [])).alert, 116, 'certificate_required');
  });
});
