import assert from 'node:assert/strict';
import test from 'node:test';
import { ConfigError } from '../src/config/config-error.ts';
import { parseConfig } from '../src/config/load.ts';

function problemsOf(text: string): string[] {
  try {
    parseConfig(text, 'config.yaml');
  } catch (error) {
    assert.ok(error instanceof ConfigError, String(error));
    assert.equal(error.code, 'config_invalid');
    return error.message.split('\n').map((line) => line.replace(/^config\.yaml:/, ''));
  }
  return [];
}

const top = 'listen: [{ address: "0.0.0.0:443" }]\ncertificates_dir: certs\n';
const host = 'virtual_hosts:\n  - server_name: a.example\n    backends: [http://a]\n';

/** Problems of a file that is right except for these lines, which come first. */
const withTop = (lines: string) => problemsOf(`${lines}\n${lines.startsWith('listen:') ? 'certificates_dir: certs\n' : top}${host}`);

/** Problems of a virtual host with these lines, which begin on line 5, column 5. */
const withHost = (lines: string) => problemsOf(`${top}virtual_hosts:\n  - server_name: a.example\n    ${lines.replaceAll('\n', '\n    ')}\n`);

test('the base of these tests has no problem', () => {
  assert.deepEqual(withTop('workers: 1'), []);
  assert.deepEqual(withHost('backends: [http://a]'), []);
});

test('everything that is wrong is reported at once, in the order of the file', () => {
  const text = `lisen: 1
workers: -1
min_version: TLSv1.2
log: { level: loud, access: yes }
timeouts:
  connect: 10
virtual_hosts:
  - server_name: shop.example.org
    backends: [http://a]
    certificates:
      - certificate: a.pem
        kee: a.pem
  - aliases: [Shop.example.org.]
    routes: [{ path: api, backends: [] }]
`;
  assert.deepEqual(problemsOf(text), [
    '1:1: listen: is required',
    '1:1: unknown key `lisen`; did you mean `listen`?',
    '2:10: workers: must be auto, or a whole number from 0 to 256, not `-1`',
    '3:1: unknown key `min_version`; it belongs in `tls`',
    '4:15: log.level: must be one of error, warn, info, debug, not `loud`',
    '4:29: log.access: must be true or false, not `yes`',
    '6:12: timeouts.connect: must be a duration such as 500ms, 10s or 5m, more than 0 and at most 24d, not `10`',
    '11:9: virtual_hosts[0].certificates[0].key: is required',
    '12:9: virtual_hosts[0].certificates[0]: unknown key `kee`; did you mean `key`?',
    '13:5: virtual_hosts[1].server_name: is required',
    '13:15: virtual_hosts[1].aliases[0]: `shop.example.org` is already given at virtual_hosts[0].server_name',
    '14:22: virtual_hosts[1].routes[0].path: must be a path such as / or /api/, not `api`',
    '14:37: virtual_hosts[1].routes[0].backends: must have at least one item',
  ]);
});

test('problems are data, too', () => {
  assert.throws(() => parseConfig('listen: 3\n', 'c.yaml'), {
    name: 'ConfigError',
    code: 'config_invalid',
    problems: [
      { line: 1, column: 1, path: 'virtual_hosts', message: 'is required' },
      { line: 1, column: 9, path: 'listen', message: 'must be a list, not `3`' },
    ],
  });
});

test('wrong types and empty values are named in plain words', () => {
  const cases: [string, string][] = [
    ['workers:', '1:1: workers: has no value; must be auto, or a whole number from 0 to 256'],
    ['trusted_proxies: ~', '1:1: trusted_proxies: has no value; must be a list'],
    ['trusted_proxies: [10.0.0.0/33]', '1:19: trusted_proxies[0]: must be an IP address or a network such as 10.0.0.0/8, not `10.0.0.0/33`'],
    ['state_dir: ""', '1:12: state_dir: must be the name of a file or folder; it is empty'],
    ['state_dir: 0644', '1:12: state_dir: must be the name of a file or folder, not `644`'],
    ['state_dir: [a]', '1:12: state_dir: must be the name of a file or folder, not a list'],
    ['tls: modern', '1:6: tls: must be a map of keys, not `modern`'],
    ['tls: [a]', '1:6: tls: must be a map of keys, not a list'],
    ['ocsp: { stapling: on }', '1:19: ocsp.stapling: must be true or false, not `on`'],
    ['ocsp: { timeout: 0 }', '1:18: ocsp.timeout: must be a duration such as 500ms, 10s or 5m, more than 0 and at most 24d, not `0`'],
    ['ocsp: { timeout: 30d }', '1:18: ocsp.timeout: must be a duration such as 500ms, 10s or 5m, more than 0 and at most 24d, not `30d`'],
    ['ocsp: { max_response_size: 64kb }', '1:28: ocsp.max_response_size: must be a size such as 512, 64k or 1m, more than 0 and at most 1g, not `64kb`'],
    [
      'ocsp: { http_proxy: "socks5://a:1080" }',
      '1:21: ocsp.http_proxy: must be http://HOST:PORT, http://USER:PASSWORD@HOST:PORT, or none, not `socks5://a:1080`',
    ],
    [
      'ocsp: { http_proxy: "http://a:1/path" }',
      '1:21: ocsp.http_proxy: must be http://HOST:PORT, http://USER:PASSWORD@HOST:PORT, or none, not `http://a:1/path`',
    ],
    ['ocsp: { http_proxy: "http//user:secret@a:1" }', '1:21: ocsp.http_proxy: must be http://HOST:PORT, http://USER:PASSWORD@HOST:PORT, or none'],
    ['ocsp: { http_proxy: "http://user:secret@a:1/x" }', '1:21: ocsp.http_proxy: must be http://HOST:PORT, http://USER:PASSWORD@HOST:PORT, or none'],
    ['ocsp: { responder: "ldap://a" }', '1:20: ocsp.responder: must be a URL such as http://ocsp.example.org/, or none, not `ldap://a`'],
    ['ocsp: { max_age: -2 }', '1:18: ocsp.max_age: must be a duration such as 12h or 7d, or -1 for no limit, not `-2`'],
    ['listen: [{ address: 443 }]', '1:21: listen[0].address: must be an address such as 0.0.0.0:443, "[::]:443", unix:/run/x.sock or fd:NAME, not `443`'],
    ['listen: []', '1:9: listen: must have at least one item'],
    [
      'listen: [{ address: 0.0.0.0:1, proxy_protocol: true }, { address: unix:/run/x, proxy_protocol: true }]',
      '1:48: listen[0].proxy_protocol: needs trusted_proxies: the networks of the proxies that send the header',
    ],
  ];
  for (const [line, problem] of cases) assert.deepEqual(withTop(line), [problem], line);
});

test('host names and backends that YAML or a browser would take are refused with an example', () => {
  const names = ['123', 'true', '10.0.0.1', '"a b"', '"*"', '"*.*.example"', '"a.*.example"', '-a.example', 'https://a.example', 'a.example:443'];
  for (const name of names)
    assert.deepEqual(
      withHost(`aliases: [${name}]\nbackends: [http://a]`),
      [`5:15: virtual_hosts[0].aliases[0]: must be a host name such as shop.example.org or *.example.org, not \`${name.replaceAll('"', '')}\``],
      name,
    );
  for (const backend of [
    'https://a/path',
    'ftp://a',
    'http://a/path',
    'http://a:0',
    'https://a:0',
    'http://a:65536',
    'a:80',
    'unix:run/x',
    'http://user@a',
    'tcp://a',
    'tcp://a:1/',
  ])
    assert.deepEqual(withHost(`backends: ["${backend}"]`), [
      `5:16: virtual_hosts[0].backends[0]: must be http://HOST[:PORT] or https://HOST[:PORT] without a path, tcp://HOST:PORT, or unix:/PATH, not \`${backend}\``,
    ]);
});

test('an unknown key is told the nearest key here, or where it belongs', () => {
  const cases: [string, string][] = [
    ['serverName: x', 'unknown key `serverName`; did you mean `server_name`?'],
    ['server-name: x', 'unknown key `server-name`; did you mean `server_name`?'],
    ['sever_name: x', 'unknown key `sever_name`; did you mean `server_name`?'],
    ['backedns: x', 'unknown key `backedns`; did you mean `backends`?'],
    ['ocps: x', 'unknown key `ocps`; did you mean `ocsp`?'],
    ['strip_prefix: x', 'unknown key `strip_prefix`; it belongs in `virtual_hosts[].routes[]`'],
    ['min_version: x', 'unknown key `min_version`; it belongs in `virtual_hosts[].tls`'],
    ['state_dir: x', 'unknown key `state_dir`; it belongs at the top level'],
    ['ssl_stapling: x', 'unknown key `ssl_stapling`'],
    ['__proto__: x', 'unknown key `__proto__`'],
    ['443: x', 'unknown key `443`'],
    ['"\\e[2J": x', 'unknown key `\\x1b[2J`'],
  ];
  for (const [line, message] of cases) assert.deepEqual(withHost(`${line}\nbackends: [http://a]`), [`5:5: virtual_hosts[0]: ${message}`], line);
});

test('names, defaults, addresses and paths can be given once', () => {
  assert.deepEqual(withHost('aliases: [b.example, B.example, A.EXAMPLE.]\nbackends: [http://a]'), [
    '5:26: virtual_hosts[0].aliases[1]: `b.example` is already given at virtual_hosts[0].aliases[0]',
    '5:37: virtual_hosts[0].aliases[2]: `a.example` is already given at virtual_hosts[0].server_name',
  ]);
  assert.deepEqual(withHost('default: true\nbackends: [http://a]').concat(withHost('default: false\nbackends: [http://a]')), []);
  assert.deepEqual(problemsOf(`${top}${host}    default: true\n  - { server_name: b, backends: [http://a], default: true }\n`), [
    '7:54: virtual_hosts[1].default: `default: true` is already given at virtual_hosts[0].default',
  ]);
  assert.deepEqual(withTop('listen: [{ address: "[::]:443" }, { address: 0.0.0.0:443 }, { address: "[0::0]:443" }]'), [
    '1:72: listen[2].address: `[0::0]:443` is already given at listen[0].address',
  ]);
  assert.deepEqual(withTop('listen: [{ address: 127.0.0.1:0 }, { address: 127.0.0.1:0 }]'), []);
  assert.deepEqual(withHost('routes: [{ path: /a, backends: [http://a] }, { path: /a, backends: [http://b] }]'), [
    '5:58: virtual_hosts[0].routes[1].path: `/a` is already given at virtual_hosts[0].routes[0].path',
  ]);
  assert.deepEqual(withHost('backends: [http://a]\nroutes: [{ backends: [http://b] }]'), [
    '6:14: virtual_hosts[0].routes[0].path: `/` is already given at virtual_hosts[0].backends',
  ]);
});

test('a virtual host needs a backend, and a certificate when TLS is served', () => {
  assert.deepEqual(withHost('aliases: []'), ['4:5: virtual_hosts[0].backends: is required, because there are no routes']);
  assert.deepEqual(withHost('routes: []'), ['4:5: virtual_hosts[0].backends: is required, because there are no routes']);
  assert.deepEqual(problemsOf(`listen: [{ address: "0.0.0.0:443" }]\n${host}`), [
    '3:5: virtual_hosts[0].certificates: is required, because a listener speaks https and certificates_dir is not set',
  ]);
  assert.deepEqual(problemsOf(`listen: [{ address: "0.0.0.0:80", protocol: http }]\n${host}`), []);
  assert.deepEqual(withHost('certificates: [{ certificate: both.pem, key: both.pem }]\nbackends: [http://a]'), []);
});

test('client certificates need authorities, in the policy that is in force', () => {
  const message = 'needs client_auth.ca, the authorities that client certificates must chain to';
  const backends = 'backends: [http://a]';
  assert.deepEqual(withHost(`${backends}\ntls: { client_auth: { mode: require } }`), [`6:33: virtual_hosts[0].tls.client_auth.mode: \`require\` ${message}`]);
  assert.deepEqual(withTop('tls: { client_auth: { mode: request } }'), [`1:29: tls.client_auth.mode: \`request\` ${message}`]);
  assert.deepEqual(withTop('tls: { client_auth: { ca: a.pem } }'), []);
  const inherited = (tls: string, own: string) => problemsOf(`tls: ${tls}\n${top}${host}    tls: ${own}\n`);
  assert.deepEqual(inherited('{ client_auth: { ca: a.pem } }', '{ client_auth: { mode: require } }'), []);
  assert.deepEqual(inherited('{ client_auth: { mode: require } }', '{ client_auth: { ca: a.pem } }'), []);
});

test('what is told about client certificates stands in fields of its own', () => {
  const forwarding = (forward: string) => withTop(`tls: { client_auth: { forward: ${forward} } }`);
  assert.deepEqual(forwarding('{ X-SSL-Client-S-DN: subject, SSL_CLIENT_CERT: pem }'), []);
  const setting = 'tls.client_auth.forward';
  assert.deepEqual(forwarding('{ "X Y": subject }'), [`1:41: ${setting}.X Y: is not the name of a field: letters, digits, \`-\` and \`_\``]);
  assert.deepEqual(forwarding('{ Host: subject }'), [`1:40: ${setting}.Host: is a field that has another meaning`]);
  assert.deepEqual(forwarding('{ Content_Length: subject }'), [`1:50: ${setting}.Content_Length: is a field that has another meaning`]);
  assert.deepEqual(forwarding('{ X-A: subject, x_a: serial }'), [`1:53: ${setting}.x_a: \`x_a\` is already given at ${setting}.X-A`]);
  assert.match(forwarding('{ X-A: dn }')[0] ?? '', /^1:39: tls\.client_auth\.forward\.X-A: must be one of verify, subject, .*, not `dn`$/);
  assert.deepEqual(forwarding('[X-A]'), [`1:32: ${setting}: must be a map of names, not a list`]);
  assert.deepEqual(withTop('tls: { client_auth: { depth: -1 } }'), ['1:30: tls.client_auth.depth: must be a whole number from 0 to 100, not `-1`']);
});

test('a protocol range that is empty is refused, in the policy that is in force', () => {
  const range = (tls: string, own: string) => problemsOf(`tls: ${tls}\n${top}${host}    tls: ${own}\n`);
  assert.deepEqual(range('{ min_version: TLSv1.3, max_version: TLSv1.2 }', '{}'), ['1:43: tls.max_version: max_version TLSv1.2 is below min_version, TLSv1.3']);
  assert.deepEqual(range('{ max_version: TLSv1.2 }', '{ min_version: TLSv1.3 }'), [
    '7:25: virtual_hosts[0].tls.min_version: max_version TLSv1.2 is below min_version, TLSv1.3',
  ]);
  assert.deepEqual(range('{ profile: modern }', '{ max_version: TLSv1.2 }'), [
    '7:25: virtual_hosts[0].tls.max_version: max_version TLSv1.2 is below the lowest version of the profile, TLSv1.3',
  ]);
  assert.deepEqual(range('{ max_version: TLSv1.1 }', '{ profile: old }'), []);
  assert.deepEqual(range('{ min_version: TLSv1.2, max_version: TLSv1.2 }', '{}'), []);
});

test('a message never repeats a private key pasted where its file name belongs', () => {
  const pem = '-----BEGIN PRIVATE KEY-----\\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\\n-----END PRIVATE KEY-----\\n';
  const [problem, ...others] = withHost(`certificates: [{ certificate: a.pem, key: "${pem}" }]\nbackends: [http://a]`);
  assert.deepEqual(others, []);
  assert.equal(problem, '5:47: virtual_hosts[0].certificates[0].key: must be the name of a file or folder');
});

test('a flood of problems is cut off', () => {
  const lines = problemsOf(Array.from({ length: 50_000 }, (_, i) => `key${i}: 1`).join('\n'));
  assert.equal(lines.length, 101);
  assert.equal(lines.at(-1), ' further problems are not shown');
});

test('backend_tls goes with https backends, and a certificate with its key', () => {
  const route = (keys: string) => withHost(`routes: [{ backends: ["https://a", "http://b"], backend_tls: { ${keys} } }]`);
  assert.deepEqual(withHost('routes: [{ backends: [http://a], backend_tls: { verify: false } }]'), [
    '5:51: virtual_hosts[0].routes[0].backend_tls: has no effect: no backend of the route is `https://`',
  ]);
  assert.deepEqual(route('certificate: a.pem'), ['5:81: virtual_hosts[0].routes[0].backend_tls.certificate: needs `key`']);
  assert.deepEqual(route('key: a.pem'), ['5:73: virtual_hosts[0].routes[0].backend_tls.key: needs `certificate`']);
  assert.deepEqual(route('server_name: "*.a"'), [
    '5:81: virtual_hosts[0].routes[0].backend_tls.server_name: must be a host name such as app.example.org, not `*.a`',
  ]);
});

test('what http-proxy cannot do is refused with it, and what is not seen with passthrough', () => {
  const withKeys = (rest: string, keys: string) =>
    withHost(`${rest}\nroutes: [{ backends: [unix:/a], ${keys} }]`).map((line) => line.replace(/^[\d:]+ virtual_hosts\[0\]\.routes\[0\]\./, ''));
  assert.deepEqual(withKeys('engine: http-proxy', 'lenient: true, http_version: 1.0'), [
    "lenient: cannot be used with `engine: http-proxy`: Node's lenient parser guesses where an answer ends",
    'http_version: cannot be used with `engine: http-proxy`: Node sends HTTP/1.1 only',
  ]);
  assert.deepEqual(withKeys('tls: passthrough', 'lenient: true'), ['lenient: cannot be used with `tls: passthrough`: nothing of HTTP is seen']);
  for (const version of ['1.1', '"1.1"', '1.0', '"1.0"', '1', '2', '"2"', '2.0']) assert.deepEqual(withKeys('', `http_version: ${version}`), []);
  assert.deepEqual(withKeys('engine: http-proxy', 'lenient: false, http_version: 1.1'), []);
  assert.deepEqual(withKeys('', 'http_version: 2, lenient: true, proxy_protocol: v2'), [
    'lenient: cannot be used with `http_version: 2`: its heads have no lines',
    'proxy_protocol: cannot be used with `http_version: 2`: clients share its connections',
  ]);
  assert.deepEqual(withKeys('', 'http_version: 2, keep_alive: true'), []);
  assert.deepEqual(withKeys('', 'http_version: 2, keep_alive: false'), ['keep_alive: cannot be used with `http_version: 2`: clients share its connections']);
  assert.deepEqual(withKeys('engine: http-proxy', 'keep_alive: false'), []);
  assert.deepEqual(withKeys('', 'http_version: 0.9'), ['http_version: must be 1.0, 1.1 or 2, not `0.9`']);
});

test('tls: passthrough goes with backends over TCP, and with nothing that is about HTTP or about certificates', () => {
  assert.deepEqual(withHost('tls: passthrough\nbackends: ["tcp://10.0.0.5:443", "tcp://[::1]:8443", unix:/run/mail.sock]'), []);
  assert.deepEqual(withHost('tls: passthrough\nroutes: [{ backends: ["tcp://a:443"], balance: least_conn }]'), []);
  assert.deepEqual(withHost('tls: passthrough\nocsp: {}\ncertificates: []\nbackends: ["tcp://a:443"]'), []);
  const cases: [lines: string, problems: string[]][] = [
    ['tls: passthru\nbackends: [http://a]', ['5:10: virtual_hosts[0].tls: must be passthrough, or a map of keys, not `passthru`']],
    ['tls: [passthrough]\nbackends: [http://a]', ['5:10: virtual_hosts[0].tls: must be passthrough, or a map of keys, not a list']],
    ['tls: { profil: old }\nbackends: [http://a]', ['5:12: virtual_hosts[0].tls: unknown key `profil`; did you mean `profile`?']],
    [
      'tls: { profile: new, client_auth: { mode: always } }\nbackends: [http://a]',
      [
        '5:21: virtual_hosts[0].tls.profile: must be one of modern, intermediate, old, not `new`',
        '5:47: virtual_hosts[0].tls.client_auth.mode: must be one of none, request, require, not `always`',
      ],
    ],
    [
      'tls: passthrough\nbackends: [http://a]',
      ['6:16: virtual_hosts[0].backends[0]: must be tcp://HOST:PORT or unix:/PATH with `tls: passthrough`: HTTP is not what the application gets'],
    ],
    [
      'backends: ["tcp://a:1"]',
      ['5:16: virtual_hosts[0].backends[0]: must be http://HOST[:PORT], https://HOST[:PORT] or unix:/PATH: tcp: needs `tls: passthrough`'],
    ],
    [
      'tls: passthrough\nbackends: ["tcp://a:1"]\ncertificates: [{ certificate: a.pem, key: a.key }]\nocsp: { stapling: false }\nengine: http-proxy',
      [
        '7:19: virtual_hosts[0].certificates: cannot be used with `tls: passthrough`: the application has the certificate',
        '8:11: virtual_hosts[0].ocsp: cannot be used with `tls: passthrough`: the application staples',
        '9:13: virtual_hosts[0].engine: cannot be used with `tls: passthrough`: nothing of HTTP is seen',
      ],
    ],
    [
      'routes: [{ backends: [http://a], proxy_protocol: v2 }]\nengine: http-proxy',
      ['5:54: virtual_hosts[0].routes[0].proxy_protocol: cannot be used with `engine: http-proxy`: it shares its connections between clients'],
    ],
    [
      'tls: passthrough\nroutes: [{ backends: ["tcp://a:1"], proxy_protocol: true }]',
      ['6:57: virtual_hosts[0].routes[0].proxy_protocol: must be one of v1, v2, not `true`'],
    ],
    [
      'tls: passthrough\nroutes: [{ path: /api/, backends: ["tcp://a:1"], strip_prefix: true }]',
      [
        '6:22: virtual_hosts[0].routes[0].path: cannot be used with `tls: passthrough`: the path of a request is encrypted',
        '6:68: virtual_hosts[0].routes[0].strip_prefix: cannot be used with `tls: passthrough`: the path of a request is encrypted',
      ],
    ],
  ];
  for (const [lines, problems] of cases) assert.deepEqual(withHost(lines), problems, lines);
  const everywhere = `tls: { client_auth: { mode: require, ca: c.pem } }\n${top}virtual_hosts: [{ server_name: a, tls: passthrough, backends: ["tcp://a:1"] }]\n`;
  assert.match(problemsOf(everywhere).join(), /^4:40: virtual_hosts\[0\]\.tls: `passthrough` cannot be used with the top-level tls\.client_auth, `require`/);
});
