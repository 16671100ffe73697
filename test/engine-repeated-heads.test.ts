import assert from 'node:assert/strict';
import { answering, messages, RawBackend } from './support/backend.ts';
import { configOf } from './support/config.ts';
import { both, startFront } from './support/front.ts';
import { FrameClient, getHead, startHttp2Front } from './support/http2.ts';

/** Clients repeat their fields word for word, and what was made of them once is used again: only where it is the same. */

function linesOf(backend: RawBackend, pattern: RegExp): string[][] {
  return backend.connections.flatMap(({ text }) => messages(text)).map(({ startLine, lines }) => [startLine, ...lines.filter((line) => pattern.test(line))]);
}

both('a method or a target that says something of its own is heard, before and after others with the same fields', async (t, engine) => {
  const backend = await answering().listen(t);
  const front = await startFront(t, configOf({ engine, backends: [backend.url] }));
  const client = await front.connect();
  const fields = 'Host: a.test\r\nMax-Forwards: 5\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n';
  const asked = ['POST /', 'GET /', 'POST /', 'OPTIONS /', 'POST http://A.TEST/', 'POST /', 'OPTIONS http://A.test/'];
  for (const line of asked) {
    client.send(`${line} HTTP/1.1\r\n${fields}`);
    assert.equal((await client.answer()).status, 200, line);
  }
  const usual = ['POST / HTTP/1.1', 'Max-Forwards: 5', 'X-Forwarded-Host: a.test'];
  // A WebSocket has a connection of its own.
  const arrived = linesOf(backend, /^(max-forwards|upgrade|x-forwarded-host):/i).toSorted(([a = ''], [b = '']) => b.localeCompare(a));
  assert.deepEqual(arrived, [
    usual,
    usual,
    ['POST / HTTP/1.1', 'Max-Forwards: 5', 'X-Forwarded-Host: A.TEST'],
    usual,
    ['OPTIONS / HTTP/1.1', 'Max-Forwards: 4', 'X-Forwarded-Host: a.test'],
    ['OPTIONS / HTTP/1.1', 'Max-Forwards: 4', 'X-Forwarded-Host: A.test'],
    ['GET / HTTP/1.1', 'Max-Forwards: 5', 'Upgrade: websocket', 'X-Forwarded-Host: a.test'],
  ]);
});

both('the same fields mean something else in HTTP/1.0', async (t, engine) => {
  const backend = await answering().listen(t);
  const front = await startFront(t, configOf({ engine, backends: [backend.url] }));
  const fields = 'Host: a.test\r\nConnection: keep-alive\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi';
  const client = await front.connect();
  for (const version of ['1.1', '1.0', '1.1', '1.0']) {
    client.send(`POST /${version} HTTP/${version}\r\n${fields}`);
    const { head } = await client.answer();
    assert.equal(/^Connection: keep-alive$/m.test(head), version === '1.0', 'only HTTP/1.0 has to be told');
  }
  const once = [['POST /1.1 HTTP/1.1', 'Expect: 100-continue'], ['POST /1.0 HTTP/1.1']];
  assert.deepEqual(linesOf(backend, /^expect:/i), [...once, ...once]);
  for (const [version, status] of [
    ['1.1', 200],
    ['1.0', 400],
  ] as const) {
    client.send(`POST / HTTP/${version}\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`);
    assert.equal((await client.answer()).status, status);
  }
});

both('who is believed is asked anew after a new configuration, on connections that are open, too', async (t, engine) => {
  const backend = await answering().listen(t);
  const config = (trusted: string): ReturnType<typeof configOf> => configOf({ engine, backends: [backend.url] }, { trusted_proxies: [trusted] });
  const [front, front2] = [await startFront(t, config('192.0.2.0/24')), await startHttp2Front(t, config('192.0.2.0/24'))];
  const [client, client2] = [await front.connect(), await FrameClient.connect(t, front2.port)];
  for (const [n, trusted] of ['192.0.2.0/24', '203.0.113.0/24', '192.0.2.0/24'].entries()) {
    front.front.update(config(trusted));
    front2.front.update(config(trusted));
    client.send('GET /one HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-For: 198.51.100.1\r\n\r\n');
    assert.equal((await client.answer()).status, 200);
    client2.headers(2 * n + 1, [...getHead.slice(0, 3), [':path', '/two'], ['x-forwarded-for', '198.51.100.1']]);
    assert.equal(await client2.outcome(2 * n + 1), 200);
  }
  const said = linesOf(backend, /^x-forwarded-for:/i);
  for (const path of ['/one', '/two']) {
    assert.deepEqual(
      said.filter(([line]) => line?.includes(path)).map(([, line]) => line),
      ['X-Forwarded-For: 198.51.100.1, 192.0.2.7', 'X-Forwarded-For: 192.0.2.7', 'X-Forwarded-For: 198.51.100.1, 192.0.2.7'],
    );
  }
});

both('an answer with the same fields is read by its own status, version, reason and request', async (t, engine) => {
  const fields = 'Content-Length: 2\r\nConnection: keep-alive\r\nX: y\r\n';
  const answers: Record<string, string> = {
    '/ok': `HTTP/1.1 200 OK\r\n${fields}\r\nok`,
    '/fine': `HTTP/1.1 200 Fine\r\n${fields}\r\nok`,
    '/old': `HTTP/1.0 200 OK\r\n${fields}\r\nok`,
    '/none': `HTTP/1.1 304 OK\r\n${fields}\r\n`,
    '/missing': `HTTP/1.1 404 OK\r\n${fields}\r\nok`,
    '/longer': `HTTP/1.1 200 OK\r\n${fields.replace('2', '3')}\r\nok!`,
    '/other': `HTTP/1.1 200 OK\r\n${fields.replace('X: y', 'X: z')}\r\nok`,
    '/fewer': 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok',
  };
  let asked = 0;
  const backend = await new RawBackend((connection) => {
    for (; connection.text.includes('\r\n\r\n'); asked += 1) {
      const end = connection.text.indexOf('\r\n\r\n') + 4;
      const [method, path = ''] = connection.text.slice(0, end).split(' ');
      connection.text = connection.text.slice(end);
      const said = answers[path] ?? '';
      connection.socket.write(method === 'HEAD' ? said.slice(0, said.indexOf('\r\n\r\n') + 4) : said);
    }
  }).listen(t);
  const front = await startFront(t, configOf({ engine, backends: [backend.url] }));
  const client = await front.connect();
  const asks = [
    'GET /ok',
    'HEAD /ok',
    'GET /ok',
    'GET /fine',
    'GET /none',
    'GET /ok',
    'GET /missing',
    'GET /old',
    'HEAD /missing',
    'GET /ok',
    'GET /longer',
    'GET /other',
    'GET /fewer',
    'GET /ok',
  ];
  for (const ask of asks) {
    client.send(`${ask} HTTP/1.1\r\nHost: a.test\r\n\r\n`);
    const bodyless = ask.startsWith('HEAD') || ask.endsWith('none');
    const { head, body } = await client.answer(bodyless);
    const said = answers[ask.split(' ')[1]!]!;
    assert.equal(head.split('\r\n')[0], said.split('\r\n')[0]!.replace('HTTP/1.0', 'HTTP/1.1'), ask);
    assert.deepEqual([body, client.text, /^X: .$/m.exec(head)?.[0]], [bodyless ? '' : said.split('\r\n\r\n')[1], '', /^X: .(?=\r)/m.exec(said)?.[0]], ask);
  }
  assert.equal(asked, asks.length);
  assert.equal(backend.connections.length, 1);
});

both('an answer that is good in HTTP/1.1 is not good in HTTP/1.0 for having been there before', async (t, engine) => {
  const backend = await new RawBackend(({ socket, text }) => {
    const version = /GET \/(\S+) (?!.*GET)/s.exec(text)?.[1];
    socket.write(`HTTP/${version} 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n`);
  }).listen(t);
  const front = await startFront(t, configOf({ engine, backends: [backend.url] }));
  const client = await front.connect();
  for (const [version, status] of [
    ['1.1', 200],
    ['1.1', 200],
    ['1.0', 502],
    ['1.1', 200],
  ] as const) {
    client.send(`GET /${version} HTTP/1.1\r\nHost: a.test\r\n\r\n`);
    assert.equal((await client.answer()).status, status);
  }
  assert.equal(backend.connections.length, 2);
});

both('requests of one connection that differ in a value, a name or a field are told apart', async (t, engine) => {
  const backend = await answering().listen(t);
  const config = configOf({ engine, backends: [backend.url] });
  const [front, front2] = [await startFront(t, config), await startHttp2Front(t, config)];
  const [client, client2] = [await front.connect(), await FrameClient.connect(t, front2.port)];
  const heads = [['x-a: 1'], ['x-a: 2'], ['x-b: 2'], ['x-b: 2', 'x-a: 1'], ['x-a: 1', 'x-b: 2'], ['x-a: 1'], [], ['x-a: 1']];
  for (const [n, lines] of heads.entries()) {
    client.send(`GET /one HTTP/1.1\r\nHost: a.test\r\n${lines.map((line) => `${line}\r\n`).join('')}\r\n`);
    assert.equal((await client.answer()).status, 200);
    const fields = lines.map((line) => line.split(': ') as [string, string]);
    client2.headers(2 * n + 1, [...getHead.slice(0, 3), [':path', '/two'], ...fields]);
    assert.equal(await client2.outcome(2 * n + 1), 200);
  }
  const arrived = linesOf(backend, /^x-[ab]:/);
  for (const path of ['/one', '/two']) {
    assert.deepEqual(
      arrived.filter(([line]) => line?.includes(path)).map(([, ...lines]) => lines),
      heads,
    );
  }
});
