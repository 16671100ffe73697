import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import type { IncomingMessage, ServerResponse } from 'node:http';
import test, { type TestContext } from 'node:test';
import type { TlsPolicy } from '../src/config/policies.ts';
import type { AuthorityKeyType } from '../src/demo/authority.ts';
import { startOcspResponder } from '../src/demo/ocsp-responder.ts';
import { readClientHello } from '../src/tls/client-hello.ts';
import { httpBackend } from './support/backend.ts';
import { browsers } from './support/browsers.ts';
import { curl, gnutls, openssl, type Server } from './support/handshake.ts';
import { recordings } from './support/hellos/recordings.ts';
import { getOnce } from './support/load.ts';
import { execute, Program } from './support/program.ts';
import { type Answer, answerTo } from './support/server-answer.ts';
import { Site } from './support/site.ts';
import { needs } from './support/tools.ts';

/** Which clients connect with which of Mozilla's profiles: docs/tls-clients.md, measured. */

type Profile = TlsPolicy['profile'];
const profiles: Profile[] = ['modern', 'intermediate', 'old'];

/** testssl.sh brings the ClientHellos of many old clients, most of them from SSL Labs' handshake simulation. */
const simulation = '/etc/testssl/client-simulation.txt';
const simulated = existsSync(simulation) ? hellosOf(readFileSync(simulation, 'utf8')) : new Map<string, Buffer>();

function hellosOf(text: string): Map<string, Buffer> {
  const all = (array: string) => [...text.matchAll(new RegExp(`^ *${array}\\+=\\("([^"]*)"\\)`, 'gm'))].map(([, value]) => value!);
  const hellos = all('handshakebytes');
  return new Map(all('names').map((name, i) => [name, Buffer.from(hellos[i]!, 'hex')]));
}

type Answering = (request: IncomingMessage, response: ServerResponse) => void;

/** The program with one virtual host for everybody, under must-staple certificates, in a folder of its own. */
async function serving(
  t: TestContext,
  site: Site,
  profile: Profile,
  keyTypes: AuthorityKeyType[],
  answering: Answering = (_, response) => void response.end(),
) {
  const responder = await startOcspResponder({ authority: site.authority });
  site.defer(() => responder.close());
  const backend = await httpBackend(t, answering);
  const folder = `${profile}-${keyTypes.length}`;
  const certificates = keyTypes.map(async (keyType) => {
    const leaf = await site.issue('a.test', { keyType, names: ['a.test', 'localhost'], ocsp: responder.url, mustStaple: true });
    await site.write(`${folder}/${keyType}`, leaf);
    return { certificate: `${keyType}.pem`, key: `${keyType}.key` };
  });
  const virtualHost = { server_name: 'a.test', default: true, certificates: await Promise.all(certificates), backends: [backend.url], tls: { profile } };
  const config = { listen: [{ address: '127.0.0.1:0' }], workers: 0, state_dir: 'state', shutdown_grace: '1s', virtual_hosts: [virtualHost] };
  return site.use(Program.serving(site.file(folder), config));
}

const versionNames: Record<number, string> = { 0x0301: 'TLS 1.0', 0x0302: 'TLS 1.1', 0x0303: 'TLS 1.2', 0x0304: 'TLS 1.3' };

/** As the table has it: the version and, where it can be seen, the key; or why not. */
function cell({ version, keyType, alert }: Answer, hello: Buffer): string {
  if (version !== undefined) return [versionNames[version], keyType === 'ec' ? 'ECDSA' : keyType?.toUpperCase()].filter(Boolean).join(' ');
  // SSL 3.0 does not know protocol_version: its clients are told handshake_failure.
  const tooOld = readClientHello(hello)?.versions.length === 0;
  assert.ok(alert === 40 || (alert === 70 && !tooOld), `alert ${alert}`);
  if (alert === 70 || tooOld) return 'no version';
  return 'no suite';
}

/** Columns of the table. */
const columns: [title: string, profile: Profile, keys: AuthorityKeyType[]][] = [
  ['modern', 'modern', ['ecdsa', 'rsa']],
  ['intermediate', 'intermediate', ['ecdsa', 'rsa']],
  ['old', 'old', ['ecdsa', 'rsa']],
  ['intermediate, RSA alone', 'intermediate', ['rsa']],
];

/** Mozilla's oldest clients of each profile (Server Side TLS 5.7 and 5.8), or the nearest that there is a hello of. */
const oldest: Record<Profile, string[]> = {
  modern: [
    'Firefox 66 (Win 8.1/10)',
    'Android 10.0 (native)',
    'Chrome 70 Win 10',
    'Edge 101 Win 10 21H2',
    'Java 11.0.2 (OpenJDK)',
    'OpenSSL 1.1.1b (Debian)',
    'Opera 60 (Win 10)',
    'Safari 12.1 (iOS 12.2)',
  ],
  intermediate: ['Firefox 27 Win 8', 'Android 4.4.2', 'Chrome 31 Win 7', 'Edge 12 Win 10', 'IE 11 Win 7', 'Java 8u31', 'OpenSSL 1.0.1h', 'Safari 9 iOS 9'],
  old: [
    'Firefox 10.0.12 ESR Win 7',
    'Android 2.3.7',
    'Chrome 27 Win 7',
    'Edge 12 Win 10',
    'IE 8 Win 7',
    'Java 6u45',
    'OpenSSL 0.9.8y',
    'Opera 12.15 Win 7',
    'Safari 5.1.9 OS X 10.6.8',
  ],
};

const documentation = readFileSync(new URL('../docs/tls-clients.md', import.meta.url), 'utf8');
/** The rows of the page's table, by client. */
const documented = new Map(
  [...documentation.matchAll(/^\| (?!client )([^|]+?) \| (.+) \|$/gm)].map(([, client, cells]) => [client!, cells!.split('|').map((text) => text.trim())]),
);

test('hellos of old and new clients are answered as docs/tls-clients.md says', needs('testssl'), async (t) => {
  const site = await Site.create(t);
  const hellos = new Map([...simulated, ...recordings.map(({ name, hello }) => [name, hello] as const)]);
  const results = new Map<string, string[]>([...hellos.keys()].map((name) => [name, []]));
  for (const [, profile, keys] of columns) {
    const program = await serving(t, site, profile, keys);
    for (const [name, hello] of hellos) results.get(name)!.push(cell(await answerTo(program.port(), hello), hello));
    await program.stop();
  }
  const column = (name: string, profile: Profile): string => results.get(name)![columns.findIndex(([title]) => title === profile)]!;
  const connects = (name: string, profile: Profile): boolean => column(name, profile).startsWith('TLS ');

  await t.test('the table', () => {
    assert.ok(documented.size > 30, 'the table is there');
    for (const [client, cells] of documented) assert.equal(`| ${client} | ${results.get(client)?.join(' | ')} |`, `| ${client} | ${cells.join(' | ')} |`);
  });
  await t.test("Mozilla's oldest clients connect", () => {
    for (const [profile, clients] of Object.entries(oldest) as [Profile, string[]][]) {
      for (const client of clients) {
        assert.ok(connects(client, profile), `${profile}: ${client}`);
        assert.ok(documented.has(client), `${client} is in the table`);
      }
    }
  });
  await t.test('who connects with a stricter profile connects with a laxer one', () => {
    for (const name of hellos.keys()) {
      assert.ok(!connects(name, 'modern') || connects(name, 'intermediate'), name);
      assert.ok(!connects(name, 'intermediate') || connects(name, 'old'), name);
      if (connects(name, 'modern')) assert.equal(column(name, 'modern'), 'TLS 1.3', name);
    }
  });
});

type Connect = (server: Server) => Promise<boolean>;

/** Clients that are here, each with everything that it checks; true when it was content. */
const installed: Record<string, [program: string, connect: Connect]> = {
  'OpenSSL s_client': ['openssl', async (server) => (await openssl(server, 'a.test', [])).answered === true],
  'gnutls-cli': ['gnutls-cli', async (server) => (await gnutls(server, 'a.test', [])).staple !== undefined],
  curl: ['curl', async (server) => (await curl(server, 'a.test', [])).answered === true],
  Node: ['node', async ({ port, ca }) => (await getOnce({ port, name: 'a.test', ca: readFileSync(ca, 'utf8') })).answer.status === 200],
  Wget: [
    'wget',
    async ({ port, ca }) =>
      (await execute('wget', ['-qO', '/dev/null', '-t1', '--no-proxy', `--ca-certificate=${ca}`, `https://localhost:${port}/`])).code === 0,
  ],
  Python: [
    'python3',
    async ({ port, ca }) => {
      const connected = `socket.create_connection(('127.0.0.1', ${port}))`;
      const code = `import socket, ssl\nssl.create_default_context(cafile='${ca}').wrap_socket(${connected}, server_hostname='a.test')`;
      return (await execute('python3', ['-c', code])).code === 0;
    },
  ],
  // These two print a certificate whoever signed it.
  'Java keytool': [
    'keytool',
    async ({ port }) => (await execute('keytool', ['-printcert', '-rfc', '-sslserver', `localhost:${port}`])).stdout.includes('BEGIN CERTIFICATE'),
  ],
  'Go (cfssl certinfo)': [
    'cfssl',
    async ({ port }) => (await execute('cfssl', ['certinfo', '-domain', `localhost:${port}`])).stdout.includes('"serial_number"'),
  ],
};

const programs = [...Object.values(installed).map(([program]) => program), ...Object.keys(browsers), 'certutil'];

test('clients of today connect with every profile, browsers to must-staple certificates too', needs(...programs), async (t) => {
  const site = await Site.create(t);
  /** `profile browser` of each page that was asked for. */
  const visits = new Set<string>();
  const ports = new Map<Profile, number>();
  for (const profile of profiles) {
    const program = await serving(t, site, profile, ['ecdsa', 'rsa'], ({ headers }, response) => {
      visits.add(`${profile} ${/Firefox|Chrom/.exec(headers['user-agent'] ?? '')?.[0]}`);
      const pictures = [...ports.values()].map((port) => `<img src="https://a.test:${port}/picture">`);
      response.setHeader('content-type', 'text/html').end(`<p>${pictures.join('')}`);
    });
    ports.set(profile, program.port());
  }
  for (const [name, [, connect]] of Object.entries(installed)) {
    await t.test(name, async () => {
      for (const [profile, port] of ports) assert.ok(await connect({ port, ca: site.ca, folder: site.folder }), profile);
    });
  }
  for (const [name, open] of Object.entries(browsers)) {
    await t.test(name, async () => {
      await mkdir(site.file(name));
      await open(`https://a.test:${ports.get('intermediate')}/`, site.file(name), site.ca);
      const browser = name === 'chromium' ? 'Chrom' : 'Firefox';
      for (const profile of profiles) assert.ok(visits.has(`${profile} ${browser}`), `${profile}: ${[...visits].join(', ')}`);
    });
  }
});
