import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import dns from 'node:dns';
import { once } from 'node:events';
import net, { type AddressInfo } from 'node:net';
import test, { describe } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { promisify } from 'node:util';
import { Authority } from '../src/demo/authority.ts';
import { startOcspResponder } from '../src/demo/ocsp-responder.ts';
import { systemClock } from '../src/ocsp/clock.ts';
import { getPath } from '../src/ocsp/request.ts';
import { guardedLookup, isRefusedAddress } from '../src/ocsp/responder-address.ts';
import { isOutage } from '../src/ocsp/responder-error.ts';
import { type Fault, FaultyResponder, unreachableUrl } from './support/faulty-responder.ts';
import { ask, authority, failure, request, subject } from './support/question.ts';
import { VirtualClock } from './support/virtual-clock.ts';

test('a short question is asked with GET, in the path, with Host and Accept', async () => {
  await using responder = await FaultyResponder.start(authority);
  const { method, accepted, maxAge, warnings } = await ask(`${responder.url}/ocsp/`);
  assert.deepEqual([method, accepted.certStatus, maxAge, warnings], ['GET', 'good', undefined, []]);
  const [received] = responder.requests;
  assert.equal(received?.url, `/ocsp/${getPath(request)}`);
  assert.equal(received?.headers.host, `127.0.0.1:${responder.port}`);
  assert.equal(received?.headers.accept, 'application/ocsp-response');
});

test('up to 255 bytes of URL is a GET, one byte more a POST', async () => {
  await using responder = await FaultyResponder.start(authority);
  const rest = 255 - `${responder.url}//${getPath(request)}`.length;
  await ask(`${responder.url}/${'x'.repeat(rest)}`);
  await ask(`${responder.url}/${'x'.repeat(rest + 1)}`);
  assert.deepEqual(responder.methods, ['GET', 'POST']);
  const [get, post] = responder.requests;
  assert.equal(`http://${get?.headers.host}${get?.url}`.length, 255);
  assert.equal(post?.headers['content-type'], 'application/ocsp-request');
  assert.deepEqual(post?.der, request);
});

test('a responder behind a query is asked with POST', async () => {
  await using responder = await FaultyResponder.start(authority);
  await ask(`${responder.url}/ocsp?ca=7`);
  assert.deepEqual([responder.methods, responder.requests[0]?.url], [['POST'], '/ocsp?ca=7']);
});

test('a GET that is refused or answered badly is tried as POST', async () => {
  await using responder = await FaultyResponder.start(authority);
  for (const fault of ['refuses_get', 'garbles_get'] as const) {
    responder.fault = fault;
    responder.requests.length = 0;
    assert.equal((await ask(responder.url)).method, 'POST');
    assert.deepEqual(responder.methods, ['GET', 'POST']);
  }
});

test('a responder that asks to be left alone is not asked again at once, and its Retry-After is passed on', async () => {
  await using responder = await FaultyResponder.start(authority, 'http_429');
  const error = await failure(ask(responder.url), 'responder_http_status');
  assert.equal(error.retryAfter, 120_000);
  assert.match(error.message, /answered HTTP 429$/);
  assert.deepEqual(responder.methods, ['GET']);
});

test('what a bad answer says outweighs that the other method is not spoken', async () => {
  await using responder = await FaultyResponder.start(authority, 'unauthorized');
  const answer = ask(responder.url);
  await responder.asked(1);
  responder.fault = 'http_404';
  await assert.rejects(answer, { code: 'response_status' });
  assert.deepEqual(responder.methods, ['GET', 'POST']);
});

describe('one deadline for everything', () => {
  for (const fault of ['hangs_before_head', 'hangs_mid_body', 'drips'] as const satisfies Fault[]) {
    test(fault, async () => {
      await using responder = await FaultyResponder.start(authority, fault);
      const clock = new VirtualClock();
      const answer = ask(responder.url, { clock });
      await responder.asked(1);
      clock.advance(9_999);
      const hungUp = responder.hungUp();
      clock.advance(1);
      const error = await failure(answer, 'responder_timeout');
      assert.equal(error.message, `responder ${responder.url} timed out after 10 s (ocsp.timeout)`);
      await hungUp;
      assert.deepEqual(responder.methods, ['GET']);
      assert.equal(clock.next, undefined);
    });
  }

  test('a POST after a slow GET has only what is left of it', async () => {
    await using responder = await FaultyResponder.start(authority, 'http_500');
    const clock = new VirtualClock();
    const answer = ask(responder.url, { clock });
    await responder.asked(1);
    responder.fault = 'hangs_before_head';
    clock.advance(6_000);
    await responder.asked(2);
    clock.advance(4_000);
    await failure(answer, 'responder_timeout');
  });
});

test('an answer that is too large is cut off at the size limit, with GET and with POST', async () => {
  await using responder = await FaultyResponder.start(authority, 'huge');
  const hungUp = responder.hungUp();
  const error = await failure(ask(responder.url), 'response_too_large');
  assert.match(error.message, /more than 65536 bytes \(ocsp\.max_response_size\)$/);
  await hungUp;
  assert.deepEqual(responder.methods, ['GET', 'POST']);
});

test('a redirect is followed, at most twice, and with the same method', async () => {
  await using responder = await FaultyResponder.start(authority, 'redirects_once');
  assert.equal((await ask(responder.url)).accepted.certStatus, 'good');
  await ask(`${responder.url}/?post`);
  assert.deepEqual(responder.methods, ['GET', 'GET', 'POST', 'POST']);

  responder.requests.length = 0;
  responder.fault = 'redirects_forever';
  assert.match((await failure(ask(`${responder.url}/?post`), 'responder_redirect')).message, /more than 2 times/);
  assert.equal(responder.requests.length, 3);
});

test('the credentials in a redirect are neither sent nor told', async () => {
  await using responder = await FaultyResponder.start(authority, 'redirects_with_credentials');
  const { message } = await failure(ask(responder.url), 'responder_http_status');
  assert.doesNotMatch(message, /secret/);
  for (const { headers } of responder.requests) assert.equal(headers.authorization, undefined);
});

test('a page for people, as of a captive portal, is called what it is', async () => {
  await using responder = await FaultyResponder.start(authority, 'portal');
  const { origin } = new URL(responder.url);
  const says = `responder ${origin}/ sends text (content-type text/html; charset=utf-8), not an OCSP response; a captive portal, or a proxy on the way?`;
  const begins = 'It begins with "<html>Grüß Gott!\\n<a href=\\"x\\">Welcome</a>"';
  await assert.rejects(ask(`${origin}/`), { name: 'OcspRefusal', code: 'malformed', message: `${says} ${begins}` });
  assert.deepEqual(responder.methods, ['GET', 'POST']);
});

test('a redirect leads nowhere but to http and https, and not to a metadata service', async () => {
  await using responder = await FaultyResponder.start(authority, 'redirects_to_file');
  await failure(ask(responder.url), 'responder_redirect');
  responder.fault = 'redirects_to_metadata';
  await failure(ask(responder.url, { configured: true }), 'responder_refused_address');
});

test('link-local and metadata addresses are refused, in every notation and behind a name', async () => {
  for (const host of [
    '169.254.169.254',
    '[::ffff:169.254.169.254]',
    '[fe80::1]',
    '[fd00:ec2::254]',
    '[fd00:ec2::23]',
    '[fd20:ce::254]',
    '[fd00:c1::a9fe:a9fe]',
    '168.63.129.16',
    '[64:ff9b::a9fe:a9fe]',
    '100.100.100.200',
    '2852039166',
    '0xA9FEA9FE',
  ]) {
    await failure(ask(`http://${host}/`), 'responder_refused_address');
  }
  for (const host of ['127.0.0.1', '::1', '10.0.0.1', '169.253.0.1', 'ocsp.example.org']) assert.equal(isRefusedAddress(host), false, host);

  const lookup = promisify(guardedLookup);
  await assert.rejects(lookup('169.254.169.254', {}), { code: 'ERR_REFUSED_ADDRESS' });
  assert.equal(await lookup('127.0.0.1', {}), '127.0.0.1');
});

for (const addresses of [
  ['::1', '127.0.0.1'],
  ['127.0.0.2', '127.0.0.1'],
  ['127.0.0.1', '::1'],
]) {
  test(`all addresses of a name are tried: ${addresses.join(', ')}, of which 127.0.0.1 answers`, async (t) => {
    await using responder = await FaultyResponder.start(authority);
    const found = addresses.map((address) => ({ address, family: net.isIP(address) }));
    // For a guarded question, and for a configured responder, which may be at any address.
    const lookup = (_name: string, _options: object, callback: (error: null, addresses: typeof found) => void) => setImmediate(callback, null, found);
    const { mock } = t.mock.method(dns, 'lookup', lookup as never);
    for (const configured of [false, true]) {
      assert.equal((await ask(`http://ocsp.example.org:${responder.port}`, { configured })).accepted.certStatus, 'good');
    }
    assert.equal(mock.callCount(), 2);
    assert.equal(responder.requests[0]?.headers.host, `ocsp.example.org:${responder.port}`);
  });
}

test('a name that is not found out takes one lookup, however many questions wait for it', async (t) => {
  await using responder = await FaultyResponder.start(authority);
  const answers: (() => void)[] = [];
  const lookup = (_name: string, _options: object, callback: (error: null, addresses: object[]) => void) =>
    void answers.push(() => callback(null, [{ address: '127.0.0.1', family: 4 }]));
  const { mock } = t.mock.method(dns, 'lookup', lookup as never);
  const impatient = { timeout: 20, clock: systemClock };
  const url = `http://hangs.example.org:${responder.port}`;
  await failure(ask(url, impatient), 'responder_timeout');
  await failure(ask(url, { ...impatient, configured: true }), 'responder_timeout');
  const third = ask(url);
  await failure(ask(`http://other.example.org:${responder.port}`, impatient), 'responder_timeout');
  assert.deepEqual(
    mock.calls.map(({ arguments: [name] }) => name),
    ['hangs.example.org', 'other.example.org'],
  );
  answers[0]!();
  assert.equal((await third).accepted.certStatus, 'good');
  // What was found out is not remembered.
  const later = ask(url);
  while (answers.length < 3) await nextTurn();
  answers[2]!();
  await later;
});

test('nobody there, a connection that breaks, and something that is not HTTP are outages', async () => {
  const refused = await failure(ask(await unreachableUrl()), 'responder_unreachable');
  assert.match(refused.message, /ECONNREFUSED/);
  assert.ok(isOutage(refused));

  await using responder = await FaultyResponder.start(authority, 'breaks_off');
  await failure(ask(responder.url), 'responder_unreachable');
  assert.deepEqual(responder.methods, ['GET']);

  const server = net.createServer((socket) => socket.end('SSH-2.0-OpenSSH\r\n')).listen(0, '127.0.0.1');
  await once(server, 'listening');
  await failure(ask(`http://127.0.0.1:${(server.address() as AddressInfo).port}`), 'responder_unreachable');
  server.close();
});

test('an address that is not http or https is an error of its own', async () => {
  for (const url of ['ldap://127.0.0.1/', 'file:///etc/passwd', 'nonsense', '']) await failure(ask(url), 'responder_url');
});

test('a good answer under a wrong content type is accepted with a warning', async () => {
  await using responder = await FaultyResponder.start(authority, 'wrong_type');
  const { accepted, warnings } = await ask(responder.url);
  assert.equal(accepted.certStatus, 'good');
  assert.deepEqual(warnings, [`responder ${responder.url} sends content-type text/html instead of application/ocsp-response`]);
});

test('HTTP freshness: max-age less Age, else Expires less Date', async () => {
  await using responder = await FaultyResponder.start(authority);
  const fresh = async (headers: Record<string, string>): Promise<number | undefined> => {
    responder.headers = headers;
    return (await ask(responder.url)).maxAge;
  };
  assert.equal(await fresh({ 'cache-control': 'public, Max-Age=7200, s-maxage=9', age: '200' }), 7_000_000);
  assert.equal(await fresh({ 'cache-control': 'max-age=10', age: '60' }), undefined);
  assert.equal(await fresh({ date: 'Sun, 22 Nov 2026 12:00:00 GMT', expires: 'Sun, 22 Nov 2026 13:00:00 GMT' }), 3_600_000);
  assert.equal(await fresh({ 'cache-control': 'no-cache', expires: '-1' }), undefined);
});

test('an aborted question ends with the reason', async () => {
  await using responder = await FaultyResponder.start(authority, 'hangs_before_head');
  const controller = new AbortController();
  const answer = ask(responder.url, { signal: controller.signal });
  await responder.asked(1);
  const reason = new Error('closing');
  controller.abort(reason);
  await assert.rejects(answer, reason);
  await assert.rejects(ask(responder.url, { signal: controller.signal }), reason);
  assert.equal(responder.requests.length, 1);
});

describe("the demo's responder", () => {
  test('answers GET and POST, and says revoked after a revocation', async () => {
    const responder = await startOcspResponder({ authority, lifetime: 7_200_000 });
    try {
      const { accepted, maxAge } = await ask(responder.url);
      assert.equal(accepted.certStatus, 'good');
      assert.equal(maxAge, 3_600_000);
      assert.equal((await ask(`${responder.url}?post`)).method, 'POST');
      responder.revoke(new X509Certificate(subject.leaf.raw).serialNumber);
      await assert.rejects(ask(responder.url), { code: 'status_revoked' });
    } finally {
      await responder.close();
    }
  });

  test('is unauthorized for the certificates of others, and refuses what is no request', async () => {
    const responder = await startOcspResponder({ authority: await Authority.root('Another CA') });
    try {
      await assert.rejects(ask(responder.url), { code: 'response_status', message: /unauthorized/ });
      await assert.rejects(ask(responder.url, { request: Buffer.from('30030201', 'hex') }), { code: 'response_status', message: /malformedRequest/ });
      const status = async (options: RequestInit): Promise<number> => (await fetch(responder.url, options)).status;
      assert.deepEqual([await status({}), await status({ method: 'PUT' }), await status({ method: 'POST', body: 'x'.repeat(70_000) })], [400, 405, 413]);
    } finally {
      await responder.close();
    }
  });
});
